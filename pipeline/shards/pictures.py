"""The pictures of samples, decoded anew as they were recorded (index, size, stamp) and proven by their hashes."""

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from PIL import Image

from pipeline.media.sandbox import open_video
from schemas.errors import Rejected
from schemas.samples import VideoReference
from schemas.video import ExactSize, Frame, FramePlan

Place = tuple[int, int, int, bool]
"""Frame index, width and height in pixels, and whether its second is burnt in."""


@dataclass(frozen=True)
class Encoded:
    """A picture's bytes. suffix: `jpg` or `png`, which is what the bytes are; name: by content, so that equal pictures
    are one file."""

    data: bytes
    suffix: str

    @cached_property
    def name(self) -> str:
        return f"{hashlib.sha256(self.data).hexdigest()[:32]}.{self.suffix}"


class VideoPictures:
    """All pictures that samples want of one video, out of one pass. `get` raises Rejected where one cannot be had.

    suffix: `jpg` for the bytes that the teacher was shown; `png` for the same pixels without a further loss.
    """

    def __init__(self, video: VideoReference, wanted: Iterable[Frame], suffix: Literal["jpg", "png"] = "jpg") -> None:
        self._name = video.video_id
        self._suffix = suffix
        self._fault: Rejected | None = None
        self._found: dict[Place, tuple[str, Encoded]] = {}
        try:
            self._read(video, {place(image) for image in wanted})
        except Rejected as error:
            self._fault = error

    def get(self, image: Frame) -> Encoded:
        """The picture of a reference. Raises Rejected where the video is unusable or shows another picture there."""
        if self._fault is not None:
            raise self._fault
        digest, encoded = self._found.get(place(image), ("none", None))
        if encoded is None or digest != image.hash:
            message = f"{self._name}: frame {image.index} has the hash {digest}, recorded is {image.hash}"
            raise Rejected("frame_mismatch", message)
        return encoded

    def _read(self, video: VideoReference, places: set[Place]) -> None:
        with open_video(video.uri, video.video_id) as opened:
            for _, _, picture in opened.sample(plans(places, len(opened.timeline.times_s))):
                self._found[place(picture.frame)] = (picture.frame.hash, self._encoded(picture.jpeg))

    def _encoded(self, jpeg: bytes) -> Encoded:
        if self._suffix == "jpg":
            return Encoded(jpeg, "jpg")
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(jpeg)) as picture:
            picture.save(buffer, "PNG")
        return Encoded(buffer.getvalue(), "png")


def plans(places: Iterable[Place], n_frames: int) -> list[FramePlan]:
    """What to sample so that each place that a video of so many frames has comes out of one pass."""
    forms: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    for index, width, height, stamped in sorted(places):
        if 0 <= index < n_frames:
            forms[width, height, stamped].append(index)
    return [
        FramePlan(budget=ExactSize(width=width, height=height), indices=tuple(indices), stamp=stamped)
        for (width, height, stamped), indices in forms.items()
    ]


def place(image: Frame) -> Place:
    """Which picture of its video it is."""
    return image.index, image.width, image.height, image.stamped
