"""The captions of a video, as a tree of segments."""

from typing import Literal

from schemas.errors import Failure
from schemas.record import Record
from schemas.video import Frame, Video


class Usage(Record):
    """What model calls consumed. Tokens as the server counted them; cost in dollars, None where no price is known."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None

    def __add__(self, other: "Usage") -> "Usage":
        if self.calls == 0 or other.calls == 0:
            return other if self.calls == 0 else self
        known = self.cost_usd is not None and other.cost_usd is not None
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cost_usd=(self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
        )


class CaptionNode(Record):
    """One captioned segment.

    path: 1-based ids, (h,), (h, m) or (h, m, l). start_s, end_s: the segment's span in seconds.
    first_frame, last_frame: indices of its first and last frame. caption: without tags.
    shown_indices, shown_times_s: the frames that the captioner saw; width, height: their size in pixels.
    prompt_hash: of the exact request, which is also its key among the run's calls.
    error: "", or why the captioner gave no caption for this segment (the caption is then empty).
    """

    path: tuple[int, ...]
    start_s: float
    end_s: float
    first_frame: int
    last_frame: int
    caption: str
    shown_indices: tuple[int, ...]
    shown_times_s: tuple[float, ...]
    width: int
    height: int
    model: str
    prompt_hash: str
    error: str = ""


class Picture(Record):
    """A frame with its pixels as shown: JPEG bytes of exactly `frame.width` x `frame.height`."""

    frame: Frame
    jpeg: bytes


class CaptionTree(Record):
    """What the caption stage found out about one video: one row of `captions/`.

    video: as probed, None where it could not be opened. width: children per segment; split_rule: how boundaries are
    drawn; both None for a protocol that uses no captions. nodes: top level first, in order of time.
    overview: the frames that a protocol shows at the start, out of the same decoding pass; their few hundred kilobytes
    spare every later stage from decoding the video again.
    """

    video_id: str
    status: Literal["ok", "failed"]
    video: Video | None
    width: int | None
    split_rule: str | None
    nodes: tuple[CaptionNode, ...]
    overview: tuple[Picture, ...]
    usage: Usage
    error: Failure | None
