"""Judging an answer, and what a verifier is asked."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from prompts.quantities import Tolerance, quantity, same_amount
from prompts.rendering import Part, message, plain, question_text
from schemas.chat import Message
from schemas.question import Question
from schemas.video import Frame

_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_LEAD_IN = re.compile(
    r"^(?:(?:the )?(?:(?:correct|best|final|right) )?(?:answer|option|choice)(?: is)?\s*:?\s*)+", re.I
)
_LETTERED = re.compile(
    r"(?:\((?P<inner>[A-Za-z])\)[.:]?|(?P<outer>[A-Za-z])(?:[.:)\]]|(?=\s+[-–—]\s)|$))(?P<rest>$|\s.*)", re.DOTALL
)
_QUOTES = " \t\n\"'`"
_ARTICLES = {"a", "an", "the"}

_MOST_CHARACTERS = 1000
"""Of an open answer; a longer one is wrong (LongVT's reward judges none of them either)."""


@dataclass(frozen=True)
class Ruling:
    """What a rule says of an answer, and which one it is."""

    correct: bool
    by: Literal["letter", "text", "number"]


def answers_match(answer: str, question: Question) -> bool:
    """Whether an answer equals the reference by a rule: see `ruling`."""
    ruled = ruling(answer, question)
    return ruled is not None and ruled.correct


def ruling(answer: str, question: Question) -> Ruling | None:
    """Whether an answer equals the reference: by letter, or, for an open question, by number or normalised text.

    Amounts are compared by value (`3` = `3.0` = `three`), in their units (`90 s` = `1.5 min`), within the question's
    own tolerance or what `same_amount` allows; texts without case, punctuation, accents' encoding, articles and
    `The answer is`. None where no rule decides: other words may say the same.
    """
    if question.kind == "multiple_choice":
        right = bool(question.answer_letter) and letter_of(answer, question) == question.answer_letter
        return Ruling(right, "letter")
    given = _unboxed(answer)
    if given is None or not given.strip() or len(given) >= _MOST_CHARACTERS:
        return Ruling(False, "text")
    forms = {given, _LEAD_IN.sub("", given.replace("*", "").strip(_QUOTES)).strip(_QUOTES)}
    same = _same_amount(forms, question)
    if same is not None:
        return Ruling(same, "number")
    equal = normalised(question.answer_text) in map(normalised, forms)
    return Ruling(True, "text") if equal and normalised(question.answer_text) else None


def _same_amount(forms: Iterable[str], question: Question) -> bool | None:
    """Whether one of the forms of an answer is the amount that the reference is; None where that is not told."""
    wanted = quantity(question.answer_text)
    amounts = [amount for form in forms if (amount := quantity(form))]
    if wanted is None or not amounts:
        return None
    found = {same_amount(amount, wanted, Tolerance(*question.tolerances), question.text) for amount in amounts}
    return found.pop() if len(found) == 1 else None


def letter_of(answer: str, question: Question) -> str:
    """The one choice that an answer names; "" where it names none, more than one, or the question has no choices.

    Understood: `B`, `b`, `B.`, `(B)`, `B. its text`, `The answer is B`, `\\boxed{B}`, and a choice's full text.
    """
    unboxed = _unboxed(answer)
    if not question.choices or unboxed is None:
        return ""
    named = {_by_letter(unboxed, question), *_by_text(unboxed, question)} - {""}
    return named.pop() if len(named) == 1 else ""


def _by_letter(answer: str, question: Question) -> str:
    """The letter that an answer begins with, unless the rest of it speaks for another choice."""
    text = _LEAD_IN.sub("", answer.replace("*", "").strip(_QUOTES)).strip(_QUOTES)
    match = _LETTERED.fullmatch(text)
    if match is None:
        return ""
    letter = (match["inner"] or match["outer"]).upper()
    if letter not in question.letters or _speaks_for_another(match["rest"], letter, question):
        return ""
    return letter


def _speaks_for_another(rest: str, letter: str, question: Question) -> bool:
    own = question.choices[question.letters.index(letter)]
    if normalised(rest) == normalised(own):
        return False
    if any(found != letter for found in _by_text(rest, question)):
        return True
    others = question.letters.replace(letter, "")
    return re.search(rf"(?<![\w'])[{others}](?![\w'])", rest) is not None if others else False


def _by_text(answer: str, question: Question) -> set[str]:
    """The choices whose full text an answer is."""
    text = normalised(answer)
    return {
        x for x, choice in zip(question.letters, question.choices, strict=True) if text and normalised(choice) == text
    }


def _unboxed(answer: str) -> str | None:
    """What stands in `\\boxed{…}` where there is one, else the answer; None where two boxes differ."""
    boxed = {text.strip() for text in _BOXED.findall(answer)}
    if len(boxed) > 1:
        return None
    return boxed.pop() if boxed else answer


def normalised(text: str) -> str:
    """Text for comparison: NFKC, case folded, words only, single spaces, no articles unless nothing else is left."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = re.findall(r"\w+(?:\.\d+)?", folded)
    return " ".join([word for word in words if word not in _ARTICLES] or words or folded.split())


AnswerBy = Literal["letter", "text"]
"""How a verifier names a choice: by its letter, or by its text."""


@dataclass(frozen=True)
class Asking:
    """How a verifier is asked: see `schemas.config.Verifier`."""

    by: AnswerBy = "letter"
    permutations: int = 1
    screens: bool = False

    def orders(self, question: Question) -> list[Question]:
        """A question of choice in each of its orders, its own first."""
        return [_turned(question, n) for n in range(min(self.permutations, len(question.choices)))]


ONCE_BY_LETTER = Asking()
"""As a verifier is asked where a job says nothing else."""


def _turned(question: Question, n: int) -> Question:
    """The question with its choices turned on by n places; the reference keeps its text and changes its letter."""
    at = (question.letters.index(question.answer_letter) - n) % len(question.choices)
    choices = question.choices[n:] + question.choices[:n]
    return question.model_copy(update={"choices": choices, "answer_letter": question.letters[at]})


def choices_of(question: Question, by: AnswerBy = "letter") -> tuple[str, ...]:
    """The texts whose probability a verifier gives: one for each choice, none for an open question."""
    return tuple(question.letters) if by == "letter" else question.choices


def probe_messages(
    question: Question, overview_frames: Sequence[Frame], zooms: Sequence[Sequence[Frame]], by: AnswerBy = "letter"
) -> tuple[Message, ...]:
    """What a verifier is asked: frames first, the question last, a letter or a text as answer; blind without any frame.

    The probe with one more zoom begins with the same frames, so that their key-value cache can be shared; so do the
    probes of all questions about one video.
    """
    parts: list[Part] = []
    if overview_frames:
        parts += ["Frames of the whole video:\n", *_timed(overview_frames)]
    for frames in zooms:
        if frames:
            span = f"{frames[0].time_s:.1f}s to {frames[-1].time_s:.1f}s"
            parts += [f"A closer look at {span}:\n", *_timed(frames)]
    ask = "Answer in a few words."
    if question.choices:
        letters = ", ".join(question.letters)
        ask = (
            f"Answer with one letter only: {letters}." if by == "letter" else "Answer with the text of one choice only."
        )
    parts.append(f"Question: {question_text(question)}\n{ask}")
    return (message("user", parts),)


def spread(frames: Sequence[Frame], n: int) -> list[Frame]:
    """n of some frames, each from the middle of an equal part of them; all where there are no more."""
    return [frames[(2 * i + 1) * len(frames) // (2 * n)] for i in range(n)] if len(frames) > n else list(frames)


def disordered(frames: Sequence[Frame], dice: Random) -> list[Frame]:
    """The frames in random order, under the times of those whose places they take."""
    shuffled = dice.sample(frames, len(frames))
    return [one.model_copy(update={"time_s": place.time_s}) for one, place in zip(shuffled, frames, strict=True)]


YES_NO = ("yes", "no")
"""The choices of a `claim_messages`."""


def claim_messages(statement: str, frames: Sequence[Frame]) -> tuple[Message, ...]:
    """What a verifier is asked about a statement that was made after a look at these frames."""
    ask = f"Statement: {plain(statement)}\nDo the frames show this? Answer yes or no."
    return (message("user", ["Frames of a clip:\n", *_timed(frames), ask]),)


def _timed(frames: Sequence[Frame]) -> list[Part]:
    return [part for frame in frames for part in (f"{frame.time_s:.1f}s: ", frame, "\n")]
