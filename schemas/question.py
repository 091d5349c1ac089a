"""A question about a video."""

import json
from typing import Literal

from schemas.record import Record, content_id
from schemas.timeline import Interval

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Question(Record):
    """One item of the source.

    choices: option texts without letters, empty for an open question. answer_letter: "A"…, "" for an open question.
    clue_intervals: seconds in which the evidence is shown; empty where the source gives none.
    source: the kind of source; source_id: its own id for this question, "" where it has none.
    extras_json: the source's remaining fields, as JSON text. Of an open question whose answer is a number they may say
    how far off is right: `answer_tolerance` in the answer's unit, `answer_relative_tolerance` as a share of it.
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

    @property
    def tolerances(self) -> tuple[float, float]:
        """How far an answer in numbers may be off, absolute and relative; 0 where the source says nothing of it.

        Raises ValueError where what it says is no number from 0 on.
        """
        extras = json.loads(self.extras_json)
        found = [(name, extras.get(name, 0)) for name in ("answer_tolerance", "answer_relative_tolerance")]
        for name, value in found:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise ValueError(f"{name} {value!r} is not a number from 0 on")
        return float(found[0][1]), float(found[1][1])


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
