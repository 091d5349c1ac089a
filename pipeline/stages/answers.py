"""Whether answers equal their reference: by rules, and by a judge where rules do not decide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.models.chat import ChatModel, Pictures, with_pixels
from pipeline.models.replies import answer_in
from pipeline.stages.items import Care, Work, walk
from prompts.answer_judge import judge_messages, judgement
from prompts.judging import ruling
from schemas.errors import Failure
from schemas.question import Question

TRIES = 2
"""How often a judge is asked about one answer where its reply says neither yes nor no."""

Answered = tuple[str, Question]
"""An answer, and what it answers."""


@dataclass(frozen=True)
class Judged:
    """What was found of an answer. correct: None where the judge did not say.

    said: the judge's words, or why there are none that count; call: the key of its reply, "" where there is none.
    """

    correct: bool | None
    by: Literal["letter", "text", "number", "judge"]
    said: str | None = None
    call: str = ""


class Answers:
    """Judges answers. judge: None takes what no rule finds right for wrong."""

    def __init__(self, judge: ChatModel | None) -> None:
        self._judge = judge

    async def judged(self, given: Sequence[Answered], stage: str) -> list[Judged]:
        """What is found of each answer, in order. All that a judge is asked, it is asked at the same time, and about
        equal answers to a question once. stage: of which it is a part. Raises Fatal as `walk` does."""
        found = {(answer, q.question_id): _ruled(answer, q, self._judge is None) for answer, q in given}
        open_ones = {key: pair for pair in given if found[key := (pair[0], pair[1].question_id)] is None}
        work = Work(stage=stage, name=_name, do=self._asked, failed=_unjudged, limit=max(1, len(open_ones)))
        said = dict(zip(open_ones, await walk(list(open_ones.values()), work, Care()), strict=True))
        return [found[key] or said[key] for key in ((answer, q.question_id) for answer, q in given)]

    async def _asked(self, answered: Answered) -> Judged:
        """Raises Rejected where the judge refuses."""
        assert self._judge is not None
        chat = with_pixels(judge_messages(*answered), Pictures())
        for sample in range(TRIES):
            reply = await self._judge.complete(chat, sample=sample)
            right = None if reply.finish_reason == "length" else judgement(answer_in(reply.text))
            if right is not None:
                break
        return Judged(right, "judge", reply.text if right is not None else f"unclear: {reply.text}", reply.key)


def _ruled(answer: str, question: Question, rules_alone: bool) -> Judged | None:
    ruled = ruling(answer, question)
    if ruled is not None:
        return Judged(ruled.correct, ruled.by)
    return Judged(False, "text") if rules_alone else None


def _name(answered: Answered) -> str:
    return f"{answered[1].question_id}: {answered[0][:40]}"


def _unjudged(_: Answered, failure: Failure) -> Judged:
    return Judged(None, "judge", f"{failure.kind}: {failure.message}")
