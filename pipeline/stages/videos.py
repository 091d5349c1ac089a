"""The videos that a stage has open: a few at a time, each decoded by its own guarded child process."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType

from pipeline.media.errors import VideoError
from pipeline.media.sandbox import SafeVideo, open_video
from schemas.captions import Picture
from schemas.timeline import Interval
from schemas.video import FramePlan, Video


class _Opened:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.video: SafeVideo | None = None


@contextmanager
def _frames_of(uri: str) -> Iterator[None]:
    """A plan by indices may name frames that a file no longer has: the file's fault."""
    try:
        yield
    except ValueError as error:
        raise VideoError("video_truncated", f"{uri}: {error}") from error


class OpenVideos:
    """Reads frames by plan, opening videos as needed and closing the longest unused beyond `limit`.

    Each method raises VideoError where the video cannot give what is asked.
    """

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._opened: OrderedDict[str, _Opened] = OrderedDict()

    async def __aenter__(self) -> "OpenVideos":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in self._opened.values():
            if opened.video is not None:
                await asyncio.to_thread(opened.video.close)
        self._opened.clear()

    async def read(self, video: Video, plan: FramePlan) -> list[Picture]:
        """The pictures of a plan, in its order."""
        async with self._entry(video.uri).lock:
            opened = await self._video(video.uri, video.video_id)
            with _frames_of(video.uri):
                return await asyncio.to_thread(opened.read, plan)

    async def indices(self, video: Video, plan: FramePlan) -> list[int]:
        """The frame index of each picture of a plan, in its order."""
        async with self._entry(video.uri).lock:
            return (await self._video(video.uri, video.video_id)).indices(plan)

    async def span(self, video: Video, interval: Interval) -> tuple[int, int]:
        """Indices of the first and last frame of a span."""
        async with self._entry(video.uri).lock:
            opened = await self._video(video.uri, video.video_id)
            frames = opened.timeline.within(interval)
            return frames[0], frames[-1]

    async def seconds(self, video: Video, frames: tuple[int, int]) -> Interval:
        """From the start of one frame to that of another, by index, or to the video's end."""
        async with self._entry(video.uri).lock:
            return (await self._video(video.uri, video.video_id)).timeline.seconds(*frames)

    async def index_at(self, video: Video, time_s: float) -> int:
        """Index of the frame on screen at a time in seconds."""
        async with self._entry(video.uri).lock:
            return (await self._video(video.uri, video.video_id)).timeline.index_at(time_s)

    async def sample(self, uri: str, video_id: str, plans: Sequence[FramePlan]) -> tuple[Video, list[list[Picture]]]:
        """The pictures of several plans out of one pass, each plan's in its order; and the video as it is now."""
        async with self._entry(uri).lock:
            opened = await self._video(uri, video_id)

            def collect() -> list[list[Picture]]:
                found: list[dict[int, Picture]] = [{} for _ in plans]
                for number, position, picture in opened.sample(plans):
                    found[number][position] = picture
                return [[pictures[i] for i in range(len(pictures))] for pictures in found]

            with _frames_of(uri):
                return opened.video, await asyncio.to_thread(collect)

    def _entry(self, uri: str) -> _Opened:
        entry = self._opened.setdefault(uri, _Opened())
        self._opened.move_to_end(uri)
        return entry

    async def _video(self, uri: str, video_id: str) -> SafeVideo:
        entry = self._opened[uri]
        if entry.video is None:
            await self._evict()
            entry.video = await asyncio.to_thread(open_video, uri, video_id)
        return entry.video

    async def _evict(self) -> None:
        live = [uri for uri, entry in self._opened.items() if entry.video is not None and not entry.lock.locked()]
        for uri in live[: max(0, len(live) - self._limit + 1)]:
            entry = self._opened[uri]
            async with entry.lock:
                video, entry.video = entry.video, None
                if video is not None:
                    with suppress(OSError):
                        await asyncio.to_thread(video.close)
