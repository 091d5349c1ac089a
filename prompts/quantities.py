"""Amounts in answers: `3`, `three cars`, `1,250.5 m`, `40 %`, and when two of them are the same."""

import re
import unicodedata
from dataclasses import dataclass

_HEDGE = re.compile(r"^(?:about|around|approximately|approx\.?|roughly|exactly|[~≈])\s*", re.IGNORECASE)
_DIGITS = re.compile(r"(?P<sign>[-+]?)(?P<number>\d{1,3}(?:[, '’]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>.*)")
_UNIT = re.compile(r"[^\W\d_]+(?:[ -][^\W\d_]+){0,3}|[%°$€£¥]")
_CURRENCY = re.compile(r"^(?P<sign>[-+]?)(?P<currency>[$€£¥])\s*(?P<rest>[\d.].*)")

# fmt: off
_ONES = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}
# fmt: on
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_OFTEN = {"once": 1, "twice": 2, "thrice": 3}

_UNITS = {
    "time": {"ms millisecond": 0.001, "s sec second": 1.0, "min minute": 60.0, "h hr hour": 3600.0, "day": 86400.0},
    "length": {"mm millimetre millimeter": 0.001, "cm centimetre centimeter": 0.01, "m metre meter": 1.0}
    | {"km kilometre kilometer": 1000.0},
    "weight": {"g gram gramme": 0.001, "kg kilo kilogram": 1.0},
    "percent": {"% percent percentage pct": 1.0},
    "dollars": {"$ dollar usd": 1.0},
}
_KNOWN = {
    word: (kind, scale) for kind, units in _UNITS.items() for words, scale in units.items() for word in words.split()
}
"""By a unit's name in the singular, what it measures and how many of that it is."""


@dataclass(frozen=True)
class Quantity:
    """An amount as it is written. step: the last decimal place, 0 of a whole number. unit: its words, "" for none."""

    value: float
    step: float
    unit: str


@dataclass(frozen=True)
class Tolerance:
    """How far an amount may be from the reference: absolute, in the reference's unit, or as a share of it. The wider
    one holds."""

    absolute: float = 0.0
    relative: float = 0.0


def quantity(text: str) -> Quantity | None:
    """The amount that a text is, and nothing beside it; None for any other text."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("−", "-").replace("per cent", "percent")
    words = _HEDGE.sub("", " ".join(folded.split()).rstrip(".!").strip()).strip()
    if match := _CURRENCY.match(words):
        words = f"{match['sign']}{match['rest']} {match['currency']}"
    found = _in_digits(words) or _in_words(words)
    return found if found and (not found.unit or _UNIT.fullmatch(found.unit)) else None


def _in_digits(words: str) -> Quantity | None:
    match = _DIGITS.fullmatch(words)
    if match is None:
        return None
    number = re.sub(r"[, '’]", "", match["number"])
    decimals = len(number.partition(".")[2])
    return Quantity(float(match["sign"] + number), 10.0**-decimals if decimals else 0.0, match["unit"].strip())


def _in_words(words: str) -> Quantity | None:
    """English, from zero to hundreds of millions: `twenty-one cars`, `a hundred and five`, `twice`."""
    left = words.replace("-", " ").split()
    if left and left[0] in _OFTEN:
        return Quantity(float(_OFTEN[left[0]]), 0.0, " ".join(left[1:]) or "time")
    if len(left) > 1 and left[0] in ("a", "an") and left[1] in _SCALES:
        left[0] = "one"
    total = part = n_read = 0
    for n, word in enumerate(left):
        if word in _ONES or word in _TENS:
            if n_read == n > 0 and not _goes_on(left[n - 1], word):
                return None
            part += _ONES.get(word) or _TENS.get(word, 0)
        elif word in _SCALES and n_read:
            part = max(part, 1) * _SCALES[word]
            total, part = (total + part, 0) if word != "hundred" else (total, part)
        elif word != "and" or not n_read or left[n + 1 : n + 2] == [] or left[n + 1] not in _ONES | _TENS:
            break
        n_read = n + 1
    return Quantity(float(total + part), 0.0, " ".join(left[n_read:])) if n_read else None


def _goes_on(before: str, word: str) -> bool:
    """Whether a number may go on so: `twenty one` and `hundred one`, but no `one two`, which is a list."""
    return before not in _ONES and (before not in _TENS or _ONES.get(word, 10) < 10)


def same_amount(given: Quantity, wanted: Quantity, tolerance: Tolerance, asked: str) -> bool | None:
    """Whether an amount is the reference; None where their units do not tell.

    asked: the question's words: a unit that they name may be left out of either (`How many cars …`: `3` is `3 cars`).
    Without a tolerance whole numbers must be equal, and decimals round to the reference as it is written.
    """
    units = _comparable(given.unit, wanted.unit, asked)
    if units is None or _may_be_a_share(given, wanted) or _may_be_a_share(wanted, given):
        return None
    value, reference, step = given.value * units[0], wanted.value * units[1], wanted.step * units[1]
    room = max(tolerance.absolute * units[1], tolerance.relative * abs(reference), step / 2, 1e-9 * abs(reference))
    return abs(value - reference) <= room * (1 + 1e-9)


def _may_be_a_share(bare: Quantity, percent: Quantity) -> bool:
    """Whether `0.4` may stand for `40 %`."""
    known = _known(percent.unit)
    return not bare.unit and known is not None and known[0] == "percent" and abs(bare.value) <= 1


def _comparable(given: str, wanted: str, asked: str) -> tuple[float, float] | None:
    """What one of each unit is in a common one, given first; None where they have none."""
    if not given or not wanted:
        named = given or wanted
        return (1.0, 1.0) if not named or _names(asked, named) else None
    one, other = _known(given), _known(wanted)
    if one and other:
        return (one[1], other[1]) if one[0] == other[0] else None
    return (1.0, 1.0) if _alike(given.split()[-1], wanted.split()[-1]) and _within(given, wanted) else None


def _known(unit: str) -> tuple[str, float] | None:
    return next((_KNOWN[form] for form in _singulars(unit) if form in _KNOWN), None)


def _names(asked: str, unit: str) -> bool:
    """Whether a question names a unit, be it by another word for the same."""
    words = re.findall(r"[^\W\d_]+|[%$]", asked.casefold())
    known = _known(unit)
    if known:
        return any(_known(word) == known for word in words)
    return all(any(_alike(part, word) for word in words) for part in unit.split())


def _within(given: str, wanted: str) -> bool:
    """Whether the words of one unit are all among the other's: `cars` and `red cars`."""
    fewer, more = sorted((given.split(), wanted.split()), key=len)
    return all(any(_alike(one, other) for other in more) for one in fewer)


def _alike(one: str, other: str) -> bool:
    return bool(_singulars(one) & _singulars(other))


def _singulars(word: str) -> set[str]:
    """The word, and what it may be the plural of."""
    return {word, *(word.removesuffix(end) for end in ("s", "es") if word.endswith(end) and len(word) > len(end) + 1)}
