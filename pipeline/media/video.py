"""Frames of a video file, exact or refused.

Reader of record is PyAV (FFmpeg), with an index of the shown frames, proven entry points, and a check of every frame
that comes out of the decoder against the index. decord 0.6 cannot be it: it hands out only RGB, made by a converter
that no standard fixes, so there is nothing to hash; it cannot open AV1; after a seek it is silently wrong in open-GOP
H.264, HEVC and MPEG-TS; it counts frames that an edit list hides; and it has no wheel for ARM. It is the independent
witness instead (`pipeline.media.witness`).

Sample aspect ratio is ignored, as all trainers' loaders do. HDR is converted by matrix and range, not tone-mapped.
"""

import hashlib
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from pipeline.media.container import check_file
from pipeline.media.decoder import Tick, no_tick
from pipeline.media.errors import VideoError
from pipeline.media.index import Index, build_index
from pipeline.media.pixels import Form, Renderer, orientation
from schemas.captions import Picture
from schemas.timeline import Timeline
from schemas.video import FramePlan, Video

RENDER_THREADS = 2
FRAMES_AHEAD = 4
"""Decoded frames that wait for their JPEG: enough to keep decoding and encoding overlapped, little memory."""

Rendered = dict[Form, Picture]
Wanted = dict[int, list[tuple[int, int, Form]]]
"""Frame index -> (plan number, position within the plan, form) of each picture to be made of it."""


class VideoFile:
    """One video, decoded in this process. A context manager; its methods may be called from several threads.

    uri: a local path; video_id: the source's reference, the path where empty. tick: called while work goes on.
    Raises VideoError where the file cannot be read exactly.
    """

    def __init__(self, uri: str, video_id: str = "", tick: Tick = no_tick) -> None:
        check_file(uri)
        self._tick = tick
        self._index = build_index(uri, tick)
        try:
            self._turn, rotation = orientation(self._index.first)
        except ValueError as error:
            raise VideoError("video_unsupported", f"{uri}: {error}") from error
        self.video, self.timeline = _describe(self._index, uri, video_id or uri, rotation, _file_hash(uri, tick))

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Nothing stays open between calls; here so that VideoFile and SafeVideo are used alike."""

    def indices(self, plan: FramePlan) -> list[int]:
        """The frame index of each picture of a plan, in its order. Raises ValueError where an index is out of range."""
        return plan_indices(plan, self.timeline)

    def read(self, plan: FramePlan) -> list[Picture]:
        """The pictures of a plan, in its order, which may be any, with repeats. Raises VideoError, ValueError."""
        placed = {position: picture for _, position, picture in self.sample([plan])}
        return [placed[position] for position in range(len(placed))]

    def sample(self, plans: Sequence[FramePlan]) -> Iterator[tuple[int, int, Picture]]:
        """(plan number, position within the plan, picture) for all plans out of one forward pass, in order of time.

        Stretches that hold no wanted frame are skipped where an entry point allows it. Raises VideoError, ValueError.
        """
        return self._sample(self._wanted(plans))

    def _wanted(self, plans: Sequence[FramePlan]) -> Wanted:
        wanted: Wanted = {}
        for number, plan in enumerate(plans):
            form = (*plan.budget.size(self.video.width, self.video.height), plan.stamp)
            for position, index in enumerate(self.indices(plan)):
                wanted.setdefault(index, []).append((number, position, form))
        return wanted

    def _sample(self, wanted: Wanted) -> Iterator[tuple[int, int, Picture]]:
        sideways = self.video.rotation in (90, 270)
        renderer = Renderer(self.video.uri, self._turn, sideways)
        waiting: deque[tuple[int, Future[Rendered]]] = deque()
        with ThreadPoolExecutor(RENDER_THREADS, "jpeg") as pool:
            for index, frame in self._index.frames(sorted(wanted), self._tick):
                forms = sorted({form for _, _, form in wanted[index]})
                time_s = self.timeline.times_s[index]
                waiting.append((index, pool.submit(renderer.pictures, frame, index, time_s, forms)))
                if len(waiting) > FRAMES_AHEAD:
                    yield from _placed(wanted, *waiting.popleft())
            while waiting:
                yield from _placed(wanted, *waiting.popleft())


def plan_indices(plan: FramePlan, timeline: Timeline) -> list[int]:
    """The frame index of each picture of a plan, in its order: times give the frame on screen then.

    Raises ValueError where an index is out of range, or where not exactly one of times and indices is set.
    """
    if (plan.times_s is None) == (plan.indices is None):
        raise ValueError("a frame plan has either times or indices")
    if plan.times_s is not None:
        return [timeline.index_at(time_s) for time_s in plan.times_s]
    indices = list(plan.indices or ())
    count = len(timeline.times_s)
    outside = [index for index in indices if not 0 <= index < count]
    if outside:
        raise ValueError(f"frame index {outside[0]} is outside 0..{count - 1}")
    return indices


def _placed(wanted: Wanted, index: int, rendered: Future[Rendered]) -> Iterator[tuple[int, int, Picture]]:
    pictures = rendered.result()
    for number, position, form in wanted[index]:
        yield number, position, pictures[form]


def _file_hash(path: str, tick: Tick) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
            tick()
    return digest.hexdigest()


def _describe(index: Index, uri: str, video_id: str, rotation: int, content_hash: str) -> tuple[Video, Timeline]:
    frame = index.first
    sideways = rotation in (90, 270)
    times_s = array("d", (index.seconds(time) for time in index.times))
    duration_s = index.seconds(index.end)
    video = Video(
        video_id=video_id,
        uri=uri,
        content_hash=content_hash,
        duration_s=duration_s,
        fps=len(times_s) / duration_s,
        n_frames=len(times_s),
        width=frame.height if sideways else frame.width,
        height=frame.width if sideways else frame.height,
        codec=index.codec,
        pixel_format=frame.format.name,
        container=index.container,
        rotation=rotation,
    )
    return video, Timeline(times_s=times_s, duration_s=duration_s)
