"""Records and models for stage tests: real rendered videos, and a chat model that says what a test wrote down."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.models.chat import CallCounts, ChatMessage, Reply
from pipeline.plan import Planned
from schemas.captions import Usage
from schemas.errors import Rejected
from schemas.question import Question
from schemas.record import content_id
from tests.corpus import render_video

Say = Callable[[Sequence[ChatMessage], int], str]


class ScriptedModel:
    """Answers with `say(messages, sample)`; a text that starts with `!` is a rejection of that kind."""

    def __init__(self, say: Say, finish_reason: str = "stop") -> None:
        self.name = "scripted"
        self.counts = CallCounts()
        self.asked: list[tuple[ChatMessage, ...]] = []
        self._say = say
        self._finish_reason = finish_reason

    async def complete(self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()) -> Reply:
        self.asked.append(tuple(messages))
        self.counts.sent += 1
        text = self._say(messages, sample)
        if text.startswith("!"):
            raise Rejected(text[1:], "as the test wrote")
        usage = Usage(calls=1, prompt_tokens=10, completion_tokens=2)
        key = content_id([text, sample, len(self.asked)])
        return Reply(key=key, model=self.name, text=text, reasoning="", finish_reason=self._finish_reason, usage=usage)


def in_turn(*texts: str) -> Say:
    """Says the texts one after the other."""
    left = list(texts)
    return lambda messages, sample: left.pop(0)


def text_of(messages: Sequence[ChatMessage]) -> str:
    """All text of a chat, pictures left out."""
    return "\n".join(part for message in messages for part in message.parts if isinstance(part, str))


def question(
    video_id: str = "clip.mp4", answer: str = "B", clues: tuple[tuple[float, float], ...] = ((4.0, 6.0),)
) -> Question:
    """A question of four colours; the reference is green unless another letter is given."""
    choices = ("red", "green", "blue", "white")
    return Question(
        question_id="q-1",
        video_id=video_id,
        text="Which colour is the sign?",
        kind="multiple_choice",
        choices=choices,
        answer_letter=answer,
        answer_text=choices["ABCD".index(answer)],
        clue_intervals=clues,
        source="jsonl",
        source_id="q",
    )


def planned(asked: Question, attempt: int = 0) -> Planned:
    return Planned(shard=0, attempt=attempt, question=asked, error=None)


def clip(folder: Path, seconds: float = 12.0, name: str = "clip.mp4") -> str:
    """Path of a rendered video."""
    path = folder / name
    render_video(path, seconds)
    return str(path)
