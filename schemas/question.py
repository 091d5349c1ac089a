"""A question about a video."""

from typing import Literal

from schemas.record import Record, content_id
from schemas.timeline import Interval

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Question(Record):
    """One item of the source.

    choices: option texts without letters, empty for an open question. answer_letter: "A"…, "" for an open question.
    clue_intervals: seconds in which the evidence is shown; empty where the source gives none.
    source: the kind of source; source_id: its own id for this question, "" where it has none.
    extras_json: the source's remaining fields, as JSON text.
    """

    question_id: str
    video_id: str
    text: str
    kind: Literal["multiple_choice", "open"]
    choices: tuple[str, ...]
    answer_letter: str
    answer_text: str
    clue_intervals: tuple[Interval, ...]
    source: str
    source_id: str
    extras_json: str = "{}"

    @property
    def letters(self) -> str:
        """The letters of the choices, "ABCD" for four."""
        return LETTERS[: len(self.choices)]


def question_id(
    source_id: str,
    video_id: str,
    text: str,
    choices: tuple[str, ...],
    answer: str,
    clue_intervals: tuple[Interval, ...],
) -> str:
    """The source's id (where it has one) followed by ten digits of a hash of all that makes the question what it is."""
    digest = content_id([video_id, text, list(choices), answer, [list(map(float, c)) for c in clue_intervals]], 10)
    return f"{source_id}-{digest}" if source_id else digest
