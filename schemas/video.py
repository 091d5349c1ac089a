"""A video file, and the frames taken from it."""

import math
from collections.abc import Sequence
from typing import TypeVar

from schemas.record import Record

T = TypeVar("T")


def uniform(items: Sequence[T], count: int) -> tuple[T, ...]:
    """`count` items spread evenly, both ends included (one: the middle); all of them where there are fewer."""
    if len(items) <= count:
        return tuple(items)
    if count == 1:
        return (items[len(items) // 2],)
    return tuple(items[round(i * (len(items) - 1) / (count - 1))] for i in range(count))


class Video(Record):
    """One video file as decoded, not as its header claims.

    video_id: the source's own reference to the video, as written there.
    uri: where the file was found; content_hash: SHA-256 of the file's bytes (hexadecimal).
    duration_s: from the first shown frame to the end of the last, in seconds; fps: mean frames a second.
    width, height: pixels as shown, rotation applied; rotation: degrees clockwise that were applied.
    """

    video_id: str
    uri: str
    content_hash: str
    duration_s: float
    fps: float
    n_frames: int
    width: int
    height: int
    codec: str
    pixel_format: str
    container: str
    rotation: int


class Frame(Record):
    """One frame as it was shown to a model.

    index: position in presentation order, from 0. time_s: seconds since the video stream's first shown frame.
    hash: of the decoded picture at native size (before any scaling). width, height: pixels as shown to the model.
    stamped: whether its second is burnt into the picture as shown (see `FramePlan`); the hash is the same either way.
    """

    index: int
    time_s: float
    hash: str
    width: int
    height: int
    stamped: bool = False


class PixelBudget(Record):
    """How large a frame may be shown. Aspect ratio is kept; frames are never enlarged beyond `min_pixels` asks for.

    max_side: longest side in pixels; max_width, max_height: each side in pixels; these hold against `min_pixels`, too.
    min_pixels, max_pixels: area in pixels. `None` leaves a bound out.
    """

    max_side: int | None = None
    max_width: int | None = None
    max_height: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) in pixels at which a picture of the given size is shown; each side at least 2, even."""
        scale = 1.0
        if self.max_pixels is not None:
            scale = min(scale, math.sqrt(self.max_pixels / (width * height)))
        if self.min_pixels is not None and width * height * scale * scale < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (width * height))
        if self.max_side is not None:
            scale = min(scale, self.max_side / max(width, height))
        if self.max_width is not None:
            scale = min(scale, self.max_width / width)
        if self.max_height is not None:
            scale = min(scale, self.max_height / height)
        if scale == 1.0:
            return width, height
        return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)


class ExactSize(PixelBudget):
    """A size in pixels that was decided before, so that a recorded frame can be shown again just as it was."""

    width: int
    height: int

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The decided (width, height), whatever the picture's own."""
        return self.width, self.height


class FramePlan(Record):
    """Which frames of a video to show, by time and at what size.

    times_s: seconds since the start of the stream, in the order they are shown; the frame on screen at each of these
    times is taken (see `Timeline.index_at`). indices: frame indices instead of times, where a protocol speaks of
    indices. Exactly one of the two is set. stamp: each frame's whole second is burnt into its lower right corner.
    """

    budget: PixelBudget
    times_s: tuple[float, ...] | None = None
    indices: tuple[int, ...] | None = None
    stamp: bool = False

    def limited(self, frames: int | None, max_side: int | None) -> "FramePlan":
        """The same look with at most `frames` of its frames (see `uniform`), none longer than `max_side` pixels.

        Never more or larger frames than before; `None` leaves a bound out.
        """
        changes: dict[str, object] = {}
        if frames is not None:
            changes["times_s"] = None if self.times_s is None else uniform(self.times_s, frames)
            changes["indices"] = None if self.indices is None else uniform(self.indices, frames)
        if max_side is not None:
            side = min(max_side, self.budget.max_side or max_side)
            changes["budget"] = self.budget.model_copy(update={"max_side": side})
        return self.model_copy(update=changes)
