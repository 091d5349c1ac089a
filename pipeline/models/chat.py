"""What a model is asked and what it replies, whoever answers: an endpoint or a local model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from schemas.captions import Picture, Usage
from schemas.chat import Message, Role
from schemas.record import Record
from schemas.video import Frame

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ChatMessage:
    """A message ready to send: text and JPEG bytes in the order a model reads them."""

    role: Role
    parts: tuple[str | bytes, ...]


PictureKey = tuple[int, int, int, bool]
"""(frame index, width, height, whether stamped): names one picture of one video."""


def picture_key(frame: Frame) -> PictureKey:
    return frame.index, frame.width, frame.height, frame.stamped


class Pictures:
    """The pictures of one video that a dialogue may show, by frame index, size and stamp."""

    def __init__(self, pictures: Sequence[Picture] = ()) -> None:
        self._jpegs: dict[PictureKey, bytes] = {}
        self.add(pictures)

    def add(self, pictures: Sequence[Picture]) -> None:
        for picture in pictures:
            self._jpegs[picture_key(picture.frame)] = picture.jpeg

    def jpeg(self, frame: Frame) -> bytes:
        """Raises KeyError for a frame that was never decoded here."""
        return self._jpegs[picture_key(frame)]


def with_pixels(messages: Sequence[Message], pictures: Pictures) -> tuple[ChatMessage, ...]:
    """Rendered messages with each frame replaced by its JPEG bytes."""
    return tuple(
        ChatMessage(m.role, tuple(part if isinstance(part, str) else pictures.jpeg(part) for part in m.parts))
        for m in messages
    )


class Reply(Record):
    """A model's reply. key: of the exact request, and of its file among the run's calls.

    text: visible text, verbatim; reasoning: hidden reasoning reported apart from it.
    finish_reason: `stop` for a whole reply, `length` for one that was cut off at the token limit.
    """

    key: str
    model: str
    text: str
    reasoning: str
    finish_reason: str
    usage: Usage


@dataclass
class CallCounts:
    """Calls of one model since it was made: sent to it, of those sent again after an error, found among the run's."""

    sent: int = 0
    retried: int = 0
    reused: int = 0


class ChatModel(Protocol):
    """Anything that answers a chat. Implementations bound their own concurrency and retries."""

    name: str
    counts: CallCounts

    async def complete(self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()) -> Reply:
        """The reply to a chat. sample: distinguishes repeated requests with equal content (the attempt).

        Raises Rejected where this request can never succeed, Fatal where none can.
        """
        ...


@runtime_checkable
class Connected(Protocol):
    """A model with connections or threads of its own, to be closed when nobody will ask it any more."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class ChoiceQuestion:
    """A probe for a verifier: a chat, the possible answer texts, and which of them is the reference."""

    messages: tuple[ChatMessage, ...]
    choices: tuple[str, ...]


class Embedder(Protocol):
    """A model that puts texts and pictures into one space."""

    name: str

    def embed(self, texts: Sequence[str], jpegs: Sequence[bytes]) -> "tuple[Vectors, Vectors]":
        """Unit vectors, float32, (texts, d) and (pictures, d). Raises Rejected for a picture that cannot be decoded."""
        ...


@dataclass(frozen=True)
class Scores:
    """probabilities: for each probe that of each choice, 1 in all. tokens_read: prefilled for them. waited_s: seconds
    that the model waited for pictures to be decoded and resized. named: for each probe that was answered by samples
    the index of the choice that each names, None for none; None for one that was scored; empty where all were."""

    probabilities: list[tuple[float, ...]]
    tokens_read: int
    waited_s: float = 0.0
    named: Sequence[Sequence[int | None] | None] = ()


class Scorer(Protocol):
    """A verifier that says how likely given answers are. Several threads may ask it at once."""

    name: str

    def score(self, probes: Sequence[ChoiceQuestion]) -> Scores:
        """The probability of each choice of each probe. Raises Rejected where one of them can never be scored."""
        ...
