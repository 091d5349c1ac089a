"""Putting questions that are answered by yes or no to a judge."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pipeline.models.chat import ChatModel, Pictures, with_pixels
from pipeline.models.replies import answer_in
from pipeline.stages.items import Care, Work, walk
from prompts.answer_judge import judgement
from schemas.chat import Message
from schemas.errors import Failure

TRIES = 2
"""How often a judge is asked one thing where its reply says neither yes nor no."""

K = TypeVar("K", bound=Hashable)
Chat = tuple[Message, ...]


@dataclass(frozen=True)
class Judgement:
    """What a judge says. yes: None where it did not say.

    said: its words, or why there are none that count; call: the key of its reply, "" where there is none.
    """

    yes: bool | None
    said: str
    call: str = ""


async def judgements(judge: ChatModel, chats: Mapping[K, Chat], stage: str) -> dict[K, Judgement]:
    """What the judge says to each chat; all are put to it at the same time. stage: of which this is a part.

    Raises Fatal as `walk` does.
    """

    async def ask(item: tuple[K, Chat]) -> Judgement:
        chat = with_pixels(item[1], Pictures())
        for sample in range(TRIES):
            reply = await judge.complete(chat, sample=sample)
            yes = None if reply.finish_reason == "length" else judgement(answer_in(reply.text))
            if yes is not None:
                break
        return Judgement(yes, reply.text if yes is not None else f"unclear: {reply.text}", reply.key)

    def unsaid(_: tuple[K, Chat], failure: Failure) -> Judgement:
        return Judgement(None, f"{failure.kind}: {failure.message}")

    work = Work(stage=stage, name=lambda item: str(item[0]), do=ask, failed=unsaid, limit=max(1, len(chats)))
    return dict(zip(chats, await walk(list(chats.items()), work, Care()), strict=True))
