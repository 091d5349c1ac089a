"""How hard an open question is for a verifier: answers that are drawn from it, given the overview alone."""

import asyncio
from collections.abc import Iterable, Sequence

from pipeline.models.chat import ChatMessage, ChatModel, Pictures, with_pixels
from prompts.judging import probe_messages
from schemas.errors import Rejected
from schemas.question import Question
from schemas.video import Frame


class Draws:
    """Answers of a verifier. drawer: answers at temperature 1; rollouts: answers to each question."""

    def __init__(self, drawer: ChatModel, rollouts: int) -> None:
        self._drawer = drawer
        self._rollouts = rollouts

    async def answers(
        self, questions: Iterable[Question], overview: Sequence[Frame], pictures: Pictures
    ) -> dict[str, list[str]]:
        """By question id, what it answers to each open question; a refused answer is left out."""
        asked = {question.question_id: question for question in questions if question.kind == "open"}
        chats = [with_pixels(probe_messages(question, overview, ()), pictures) for question in asked.values()]
        drawn = await asyncio.gather(*(self._draw(chat, n) for chat in chats for n in range(self._rollouts)))
        groups = [drawn[i * self._rollouts : (i + 1) * self._rollouts] for i in range(len(chats))]
        return {name: [a for a in group if a is not None] for name, group in zip(asked, groups, strict=True)}

    async def _draw(self, chat: Sequence[ChatMessage], sample: int) -> str | None:
        try:
            return (await self._drawer.complete(chat, sample=sample)).text
        except Rejected:
            return None
