"""Pictures of chats, as a model is shown them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from PIL import Image, UnidentifiedImageError

from schemas.errors import Rejected


@dataclass(frozen=True)
class Shown:
    """A picture of a chat. name: another where a model reads it otherwise. size: width and height.

    alone: it is the only one of its chat, and the model reads it otherwise than among several.
    """

    name: str
    jpeg: bytes
    size: tuple[int, int]
    alone: bool = False

    def image(self) -> Image.Image:
        """Raises Rejected where it cannot be decoded."""
        try:
            return _opened(self.jpeg).convert("RGB")
        except OSError as error:
            raise Rejected("bad_prompt", _undecodable(self.jpeg, error)) from error


class Gallery:
    """Pictures of several chats: each is hashed and opened once."""

    def __init__(self, minds_company: bool) -> None:
        """minds_company: the model reads a picture that stands alone otherwise."""
        self._minds_company = minds_company
        self._known: dict[tuple[bytes, bool], Shown] = {}

    def shown(self, jpegs: Sequence[bytes]) -> tuple[Shown, ...]:
        """The pictures of one chat. Raises Rejected for one that is no picture."""
        alone = self._minds_company and len(jpegs) == 1
        return tuple(self._one(jpeg, alone) for jpeg in jpegs)

    def _one(self, jpeg: bytes, alone: bool) -> Shown:
        if (jpeg, alone) not in self._known:
            name = sha256(jpeg).hexdigest() + (" alone" if alone else "")
            self._known[jpeg, alone] = Shown(name, jpeg, _opened(jpeg).size, alone)
        return self._known[jpeg, alone]


def _opened(jpeg: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(jpeg))
    except (UnidentifiedImageError, OSError) as error:
        raise Rejected("bad_prompt", _undecodable(jpeg, error)) from error


def _undecodable(jpeg: bytes, error: Exception) -> str:
    return f"a picture of {len(jpeg)} bytes cannot be decoded: {error}"
