"""What the demo teacher sees: frames described and clips read by a small model, through the product's own prompts."""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pipeline.demo.asked import Asked, Target
from pipeline.demo.world import COUNTS
from pipeline.models.chat import ChatMessage, ChatModel, Pictures, Reply, with_pixels
from prompts.captioning import caption_messages, parse_caption, parse_qa, qa_messages
from prompts.judging import probe_messages
from schemas.captions import Picture, Usage
from schemas.chat import Message
from schemas.question import Question
from schemas.record import content_id
from schemas.video import Frame

FRAMES = 12
"""Frames that the small model reads at once."""

MARGIN_S = 1.1
"""A lamp that stays dark for so long before and after its flashes has no more of them."""

_PLAIN = re.compile(r"[\w\s,.'-]*")


@dataclass(frozen=True)
class Shot:
    """One frame as a chat shows it. time_s: seconds; jpeg: its picture."""

    time_s: float
    jpeg: bytes


class Memory:
    """The small model's replies by request, so that several attempts at a video pay once. Never forgets."""

    def __init__(self, reader: ChatModel) -> None:
        self._reader = reader
        self._replies: dict[str, asyncio.Task[Reply]] = {}

    async def reply(self, chat: Sequence[ChatMessage]) -> tuple[str, Usage]:
        """The text, and what it cost now: nothing where it is remembered. Raises what the reader raises."""
        key = chat_id(chat)
        known = self._replies.get(key)
        if known is None or (known.done() and (known.cancelled() or known.exception())):
            known = self._replies[key] = asyncio.ensure_future(self._reader.complete(chat))
            reply = await asyncio.shield(known)
            return reply.text, reply.usage
        return (await asyncio.shield(known)).text, Usage()


def chat_id(chat: Sequence[ChatMessage]) -> str:
    """Identity of a chat by its content, pictures by their bytes."""
    return content_id(
        [[m.role, [p if isinstance(p, str) else hashlib.sha256(p).hexdigest() for p in m.parts]] for m in chat]
    )


@dataclass
class Sight:
    """One turn's looks. usage: what the small model's new replies took."""

    memory: Memory
    usage: Usage = field(default_factory=Usage)

    async def descriptions(self, shots: Sequence[Shot]) -> list[str]:
        """One description per frame, "" where the model gives none."""
        texts = await asyncio.gather(*(self._described(shot) for shot in shots))
        return list(texts)

    async def read(self, shots: Sequence[Shot], target: Target) -> str | None:
        """What frames in order of time show of a target; None where they do not show it."""
        if not shots:
            return None
        if target.flashes:
            return await self._most_flashes(shots, target)
        return await self._read(shots[:: -(-len(shots) // FRAMES)], target)

    async def flashes_beyond(self, shots: Sequence[Shot], target: Target) -> tuple[bool, bool]:
        """Whether the lamp may have flashed before the frames, and after them."""
        whole = await self.read(shots, target)
        start, end = shots[0].time_s + MARGIN_S, shots[-1].time_s - MARGIN_S
        late = await self.read([shot for shot in shots if shot.time_s > start], target)
        early = await self.read([shot for shot in shots if shot.time_s < end], target)
        return late != whole, early != whole

    async def known(self, asked: Asked) -> str:
        """What the model answers without seeing anything."""
        question = Question(
            question_id="",
            video_id="",
            text=asked.text,
            kind="multiple_choice" if asked.choices else "open",
            choices=asked.choices,
            answer_letter="",
            answer_text="",
            clue_intervals=(),
            source="",
            source_id="",
        )
        return _plain(await self._ask(probe_messages(question, (), (), by="text"), ())).rstrip(".")

    async def _described(self, shot: Shot) -> str:
        (frame,) = _frames([shot])
        text = await self._ask(caption_messages(3, [frame], (shot.time_s, shot.time_s), ()), [shot])
        caption = parse_caption(text)
        return _plain(caption) if isinstance(caption, str) else ""

    async def _read(self, shots: Sequence[Shot], target: Target) -> str | None:
        answer = parse_qa(await self._ask(qa_messages(_frames(shots), target.query), shots))
        return target.reading(answer) if isinstance(answer, str) else None

    async def _most_flashes(self, shots: Sequence[Shot], target: Target) -> str | None:
        """The highest count in any stretch of `FRAMES` frames: a stretch may miss flashes, it cannot add any."""
        starts = range(0, max(1, len(shots) - FRAMES + 4), 4)
        readings = await asyncio.gather(*(self._read(shots[at : at + FRAMES], target) for at in starts))
        return max((r for r in readings if r), key=COUNTS.index, default=None)

    async def _ask(self, messages: Sequence[Message], shots: Sequence[Shot]) -> str:
        pictures = Pictures([Picture(frame=f, jpeg=s.jpeg) for f, s in zip(_frames(shots), shots, strict=True)])
        text, usage = await self.memory.reply(with_pixels(messages, pictures))
        self.usage += usage
        return text


def _plain(text: str) -> str:
    """A model's text without outer whitespace; "" for one with signs that a protocol could take for its own."""
    return text.strip() if _PLAIN.fullmatch(text) else ""


def _frames(shots: Sequence[Shot]) -> tuple[Frame, ...]:
    """Records for frames of which only time and picture are known, numbered in their order."""
    return tuple(Frame(index=i, time_s=shot.time_s, hash="", width=0, height=0) for i, shot in enumerate(shots))


def joined(clips: Sequence[Sequence[Shot]], gap_s: float = 1.0) -> list[tuple[Shot, ...]]:
    """Frames of clips in order of time, each time once, as one clip wherever no gap is longer than `gap_s`."""
    shots = sorted({shot.time_s: shot for clip in clips for shot in clip}.values(), key=lambda shot: shot.time_s)
    cuts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(shots)) if b.time_s - a.time_s > gap_s), len(shots)]
    return [tuple(shots[a:b]) for a, b in pairwise(cuts) if a < b]
