"""Which frames a stream shows and when, and where decoding may start: found once, checked at every later frame.

Counting packets is fast but right only where the container stores one packet a shown frame, with its time. That is so
for MP4 and Matroska with the codecs of SCANNED, and is checked against the first decoded frames; every frame decoded
later must be the very next one of the index, or the video is refused. For everything else (hidden frames of VP8,
packed frames and missing times of AVI, cut transport streams) the whole stream is decoded once instead.
"""

import itertools
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from av.video.frame import VideoFrame

from pipeline.media.decoder import Decoder, Entry, Tick, frame_time, no_tick, runs
from pipeline.media.entries import is_entry_point
from pipeline.media.errors import VideoError

SCANNED = {"h264", "hevc", "vp9", "av1", "mpeg4"}
SCANNED_CONTAINERS = {"mov", "matroska"}
SEEKABLE_CONTAINERS = {"mov", "matroska", "mpegts"}
CHECKED_FRAMES = 16
SEEK_COST = 24
"""Frames that can be decoded in the time that a seek costs (demuxing, refilling the decoder's threads)."""


@dataclass(frozen=True)
class Index:
    """The frames of one stream. times: of each shown frame, ascending, and end: of the last one's end, in ticks.

    entries: where decoding may start, ascending; first: the first decoded frame (its pixels, format and rotation).
    closed: no frame is stored after a keyframe and shown before it.
    """

    path: str
    times: Sequence[int]
    end: int
    time_base: Fraction
    entries: tuple[Entry, ...]
    codec: str
    container: str
    first: VideoFrame
    closed: bool

    def seconds(self, time: int) -> float:
        """Ticks to seconds since the first shown frame."""
        return (time - self.times[0]) * self.time_base.numerator / self.time_base.denominator

    def frames(self, wanted: Sequence[int], tick: Tick = no_tick) -> Iterator[tuple[int, VideoFrame]]:
        """(index, frame) for sorted frame indices, each exactly the one that the index names.

        What fails from an entry point is tried once more from the start of the stream. Raises VideoError.
        """
        done = 0
        try:
            for index, frame in self._decode(wanted, self.entries, tick):
                yield index, frame
                done += 1
        except VideoError:
            if not self.entries:
                raise
            yield from self._decode(wanted[done:], (), tick)

    def _decode(self, wanted: Sequence[int], entries: Sequence[Entry], tick: Tick) -> Iterator[tuple[int, VideoFrame]]:
        with Decoder(self.path, tick) as decoder:
            for entry, run in runs(wanted, entries, SEEK_COST):
                due = set(run)
                for index, frame in self._checked(decoder, entry, {self.times[index] for index in run}):
                    if index in due:
                        yield index, frame
                    if index >= run[-1]:
                        break

    def _checked(self, decoder: Decoder, entry: Entry | None, wanted: set[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decoded frames with their indices: each the next one that the index lists, save those left out on purpose."""
        index = 0 if entry is None else entry.first
        for frame in decoder.frames(entry, wanted):
            time = frame_time(frame)
            while index < len(self.times) and self.times[index] != time and self.times[index] in decoder.skipped:
                index += 1
            if index == len(self.times) or self.times[index] != time:
                break
            yield index, frame
            index += 1
        if index < len(self.times):
            at = self.seconds(self.times[index])
            raise VideoError("video_damaged", f"{self.path}: damaged, the frame at {at:.3f} s does not decode")
        raise VideoError("video_damaged", f"{self.path}: damaged, frames follow after the last one")


@dataclass
class _Scan:
    """What the packets say: times of the shown ones, the end of the last, and the entry points (pts, seek, size)."""

    times: list[int]
    end: int
    entries: list[tuple[int, int, int]]
    complete: bool
    closed: bool = True


def build_index(path: str, tick: Tick = no_tick) -> Index:
    """Finds the frames of a file's best video stream. Raises VideoError."""
    with Decoder(path, tick) as decoder:
        scan = _scan(decoder)
        codec, container, time_base = decoder.codec, decoder.container_name, decoder.time_base
        rate = decoder.stream.average_rate
    times, end, first = array("q", scan.times), scan.end, None
    if scan.complete and codec in SCANNED and container in SCANNED_CONTAINERS:
        first = _head_agrees(path, times, tick)
    if first is None:
        times, end, first = _decode_all(path, tick)
    if end <= times[-1]:
        end = times[-1] + _typical_step(times, rate, time_base)
    entries = tuple(
        Entry(pts, seek, size, bisect_left(times, pts))
        for pts, seek, size in sorted(scan.entries)
        if container in SEEKABLE_CONTAINERS and pts <= times[-1]
    )
    return Index(path, times, end, time_base, entries, codec, container, first, scan.closed)


def _scan(decoder: Decoder) -> _Scan:
    """Reads all packets without decoding them."""
    scan = _Scan([], 0, [], True)
    extradata = decoder.stream.codec_context.extradata
    floor: int | None = None
    keyframe = 0
    for packet in decoder.packets():
        if not packet.size:
            continue
        pts = packet.pts
        if pts is None:
            scan.complete = False
            continue
        if packet.is_keyframe:
            floor, keyframe = pts if floor is None else floor, pts
            if is_entry_point(decoder.codec, bytes(packet), extradata):
                scan.entries.append((pts, min(pts, pts if packet.dts is None else packet.dts), packet.size))
        scan.closed = scan.closed and (floor is None or pts >= keyframe)
        if floor is not None and pts >= floor and not packet.is_discard:
            scan.times.append(pts)
            scan.end = max(scan.end, pts + (packet.duration or 0))
    scan.times.sort()
    scan.complete = scan.complete and bool(scan.times) and all(a < b for a, b in itertools.pairwise(scan.times))
    return scan


def _head_agrees(path: str, times: Sequence[int], tick: Tick) -> VideoFrame | None:
    """The first frame, where the first decoded frames are exactly those that the packets announce."""
    with Decoder(path, tick) as decoder:
        try:
            frames = list(itertools.islice(decoder.frames(), CHECKED_FRAMES))
        except VideoError:
            frames = []
    if not frames or [frame_time(frame) for frame in frames] != list(times[: len(frames)]):
        return None
    return frames[0] if len(frames) == min(CHECKED_FRAMES, len(times)) else None


def _decode_all(path: str, tick: Tick) -> tuple["array[int]", int, VideoFrame]:
    """Times, end and first frame by decoding everything."""
    times = array("q")
    first: VideoFrame | None = None
    end = 0
    with Decoder(path, tick) as decoder:
        for frame in decoder.frames():
            time = frame_time(frame)
            if time is None or (times and time <= times[-1]):
                fault = "has no time" if time is None else "is not shown later than the one before it"
                raise VideoError("video_unsupported", f"{path}: frame {len(times)} {fault}")
            first = first or frame
            times.append(time)
            end = time + (frame.duration or 0)
    if first is None:
        raise VideoError("video_empty", f"{path}: not one frame decodes")
    return times, end, first


def _typical_step(times: Sequence[int], rate: Fraction | None, time_base: Fraction) -> int:
    """How long a frame lasts, in ticks, where the file does not say it for the last one."""
    if len(times) > 1:
        return max(1, round((times[-1] - times[0]) / (len(times) - 1)))
    return max(1, round(1 / rate / time_base)) if rate else 1
