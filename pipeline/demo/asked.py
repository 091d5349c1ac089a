"""What a question of the rendered world asks for, understood from its words alone, and the answer that follows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from random import Random

from pipeline.demo import wording
from pipeline.demo.world import COLOURS, COUNTS
from prompts.judging import normalised
from prompts.protocol import Step
from schemas.question import LETTERS
from schemas.trajectory import Action

_SIGN = re.compile(rf"\b({'|'.join(COLOURS)}) sign\b", re.IGNORECASE)
_CHOICE = re.compile(r"([A-Z])\. (.*)")


@dataclass(frozen=True)
class Target:
    """A thing to look for. name: as a sentence speaks of it; query: what to ask about a clip that shows it.

    mention: the words by which descriptions speak of it, "" where they never do; colour: of a sign, else "".
    """

    name: str
    query: str
    mention: str = ""
    colour: str = ""

    @property
    def flashes(self) -> bool:
        return self.query == wording.FLASH_QUERY

    def mentioned(self, text: str) -> int:
        """How well a description matches: 2 speaks of it, 1 of its like, 0 of neither."""
        if self.mention and self.mention in text:
            return 2
        return int(bool(self.colour) and " sign" in text)

    def reading(self, text: str) -> str | None:
        """What a model's answer says of it; None for an answer that says it cannot tell."""
        said = text.strip().rstrip(".")
        values: Sequence[str] = COUNTS if self.flashes else () if self.colour else COLOURS
        blank = said.lower() in ("", wording.NOTHING, wording.UNREADABLE, wording.UNKNOWN)
        return None if blank or not said.isalpha() or (values and said not in values) else said

    def statement(self, reading: str) -> str:
        """A reading as a sentence."""
        if self.colour:
            return wording.sign_statement(self.colour, reading)
        return wording.flash_statement(reading) if self.flashes else wording.floor_statement(reading)


@dataclass(frozen=True)
class Temper:
    """How an attempt goes about it. seed: the same in all its turns, so that it keeps to its plan.

    careless: goes to the second best place first, and looks once for each thing that is asked about.
    """

    seed: str
    careless: bool

    def rng(self, purpose: str) -> Random:
        """Randomness of its own for each purpose."""
        return Random(f"{self.seed} {purpose}")


@dataclass(frozen=True)
class Asked:
    """A question as a chat shows it. targets: what must be seen to answer it, none for a question of fact."""

    text: str
    choices: tuple[str, ...]
    targets: tuple[Target, ...]

    def fits(self, reading: str) -> bool:
        """Whether a reading is a word of one of the choices; to an open question any reading may be the answer."""
        return not self.choices or any(normalised(reading) in normalised(choice).split() for choice in self.choices)

    def answer(self, readings: Sequence[str | None], rng: Random, wrong: str = "") -> str:
        """The letter of the choice nearest to what was read, or the text itself for an open question.

        readings: of each target, None where nothing was read; then a random one of the nearest choices is taken.
        wrong: a choice's letter that is ruled out.
        """
        words = [reading or "" for reading in readings]
        found = wording.pair_answer(*words) if len(words) == 2 else " ".join(words)
        if not self.choices:
            return found if all(words) else wording.UNKNOWN
        left = [i for i in range(len(self.choices)) if LETTERS[i] != wrong]
        likeness = {i: _likeness(found, self.choices[i]) for i in left}
        best = [i for i in left if likeness[i] == max(likeness.values())]
        return LETTERS[rng.choice(best)]

    def choice(self, letter: str) -> str:
        """The text behind an answer's letter; the answer itself for an open question."""
        return self.choices[LETTERS.index(letter)] if self.choices else letter


def answering(think: str, answer: str) -> Step:
    """The step that ends an attempt."""
    return Step(think, (Action(call_id="", kind="answer", answer=answer),))


def asked(text: str) -> Asked:
    """Reads a question and its choices, `A. first` and so on, each on a line of its own."""
    lines = text.strip().split("\n")
    choices: list[str] = []
    while len(lines) > 1 and (match := _CHOICE.fullmatch(lines[-1])):
        choices.insert(0, match[2])
        lines.pop()
    question = "\n".join(lines)
    return Asked(question, tuple(choices), _targets(question))


def _targets(question: str) -> tuple[Target, ...]:
    words = question.lower()
    if colours := list(dict.fromkeys(_SIGN.findall(words))):
        return tuple(Target(f"the {c} sign", wording.sign_query(c), f"{c} sign", c) for c in colours[:2])
    if "lamp" in words:
        return (Target("the lamp", wording.FLASH_QUERY, "a lamp"),)
    if "floor" in words:
        return (Target("the floor", wording.FLOOR_QUERY),)
    return ()


def _likeness(one: str, other: str) -> float:
    """0 for nothing in common, 1 for the same words."""
    return SequenceMatcher(None, normalised(one), normalised(other)).ratio()
