"""Whether answers equal their reference: by rules, and by a judge where rules do not decide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.models.chat import ChatModel
from pipeline.stages.judge import judgements
from prompts.answer_judge import judge_messages
from prompts.judging import ruling
from schemas.question import Question

Answered = tuple[str, Question]
"""An answer, and what it answers."""


@dataclass(frozen=True)
class Judged:
    """What was found of an answer. correct: None where the judge did not say; said, call: see `Judgement`.

    decided: false of an answer that no rule finds right or wrong, and that is taken for wrong without a judge."""

    correct: bool | None
    by: Literal["letter", "text", "number", "judge"]
    said: str | None = None
    call: str = ""
    decided: bool = True


async def judged(given: Sequence[Answered], judge: ChatModel | None, stage: str) -> list[Judged]:
    """What is found of each answer, in order. judge: asked about equal answers to a question once; None takes what no
    rule finds right for wrong. stage: of which this is a part. Raises Fatal as `judgements` does."""
    pairs = {(answer, question.question_id): (answer, question) for answer, question in given}
    found = {key: ruled for key, pair in pairs.items() if (ruled := _ruled(*pair, rules_alone=judge is None))}
    if judge is not None:
        chats = {key: judge_messages(*pair) for key, pair in pairs.items() if key not in found}
        said = await judgements(judge, chats, stage)
        found |= {key: Judged(one.yes, "judge", one.said, one.call) for key, one in said.items()}
    return [found[answer, question.question_id] for answer, question in given]


def _ruled(answer: str, question: Question, rules_alone: bool) -> Judged | None:
    ruled = ruling(answer, question)
    if ruled is not None:
        return Judged(ruled.correct, ruled.by)
    return Judged(False, "text", decided=False) if rules_alone else None
