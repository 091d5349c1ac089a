"""Messages as a protocol renders them, before any frame is turned into bytes."""

from typing import Literal

from schemas.record import Record
from schemas.trajectory import Origin
from schemas.video import Frame

Role = Literal["system", "user", "assistant", "tool"]


class Message(Record):
    """One message. parts: text and frames in the order a model reads them.

    trainable: whether the tokens of this message are to be learned; origin: whose turn it is (assistant messages only).
    """

    role: Role
    parts: tuple[str | Frame, ...]
    trainable: bool = False
    origin: Origin | None = None

    @property
    def text(self) -> str:
        """The message with `<image>` in place of each frame."""
        return "".join([part if isinstance(part, str) else "<image>" for part in self.parts])

    @property
    def frames(self) -> tuple[Frame, ...]:
        return tuple([part for part in self.parts if not isinstance(part, str)])
