"""Decoding forward from one point of a stream, and refusing whatever did not decode cleanly."""

import contextlib
import os
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.media.container import container_name, open_stream, reason
from pipeline.media.entries import is_unreferenced
from pipeline.media.errors import VideoError

THREADS = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
SEEK_BACK_S = (0, 2, 8, 32)
"""How much earlier, in seconds, each further attempt of a seek aims. Only MPEG-TS ever needs the second."""

# `explode` makes decoders report damage instead of painting over it. `bitexact` makes the codecs whose standard leaves
# the inverse transform open (MPEG-1, 2 and 4) use the same one on every machine.
DECODER_OPTIONS = {"err_detect": "explode", "flags": "+bitexact"}

Tick = Callable[[], None]
"""Called for each packet, to show that work goes on."""


def no_tick() -> None:
    """For callers whom nobody watches."""


@dataclass(frozen=True)
class Entry:
    """A packet at which decoding may start.

    pts: of its frame, and seek: where to aim for it, both in ticks of the stream; size: of the packet in bytes.
    first: index of the first shown frame at or after it.
    """

    pts: int
    seek: int
    size: int
    first: int


def frame_time(frame: VideoFrame) -> int | None:
    """When a frame is shown, in ticks; AVI has decoding times only."""
    return frame.pts if frame.pts is not None else frame.dts


class Decoder:
    """One open stream. A context manager; used by one thread at a time.

    Python log callbacks of PyAV and frame threads deadlock at close, so PyAV's silent default must stay in place.
    Raises VideoError where the file cannot be opened.
    """

    def __init__(self, path: str, tick: Tick = no_tick) -> None:
        self.path = path
        self._tick = tick
        self._container, self.stream = open_stream(path)
        self._primed = False
        self.skipped: set[int] = set()
        context = self.stream.codec_context
        context.options = DECODER_OPTIONS
        # The DTS that stands in for a missing time is right only without frame threads.
        context.thread_type = "SLICE" if container_name(self._container) == "avi" else "FRAME"
        context.thread_count = THREADS
        self.container_name = container_name(self._container)
        self._extradata = context.extradata
        self.codec = context.codec.canonical_name
        self.time_base: Fraction = self.stream.time_base or Fraction(1)

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._container.close()

    def packets(self) -> Iterator["Packet[VideoStream]"]:
        """The rest of the stream's packets; the last one is empty. Raises VideoError where the file is damaged."""
        at: int | None = None
        try:
            for packet in self._container.demux(self.stream):
                self._tick()
                if packet.is_corrupt:
                    raise self._damaged(packet.pts, "a packet is incomplete")
                at = packet.pts if packet.pts is not None else at
                yield packet
        except av.FFmpegError as error:
            raise self._damaged(at, reason(error)) from error

    def frames(self, entry: Entry | None = None, wanted: Container[int] | None = None) -> Iterator[VideoFrame]:
        """Frames in order of presentation from an entry point, or from the first keyframe of the stream (once only).

        wanted: times in ticks; frames at other times that no frame is decoded from are not decoded, and their times
        are put into `skipped` first. Frames that belong before the starting point are left out: they may lack what
        they refer to. Raises VideoError at the first fault, and never hands out a frame that comes after it.
        """
        self.skipped.clear()
        floor: int | None = None
        for packet in self._from(entry):
            if packet.size and floor is None:
                floor = packet.pts
            elif wanted is not None and self._skips(packet, wanted):
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                raise self._damaged(packet.pts, reason(error)) from error
            for frame in frames:
                shown = frame_time(frame)
                if floor is not None and shown is not None and shown < floor:
                    continue
                if frame.is_corrupt:
                    raise self._damaged(shown, "the decoder marks a frame as corrupt")
                yield frame
        self._primed = True

    def _skips(self, packet: "Packet[VideoStream]", wanted: Container[int]) -> bool:
        pts = packet.pts
        if pts is None or pts in wanted or not is_unreferenced(self.codec, memoryview(packet), self._extradata):
            return False
        self.skipped.add(pts)
        return True

    def _from(self, entry: Entry | None) -> Iterator["Packet[VideoStream]"]:
        """Packets from an entry point on, or from the first keyframe on."""
        if entry is not None:
            return self._seek(entry)
        return self._from_keyframe()

    def _from_keyframe(self) -> Iterator["Packet[VideoStream]"]:
        started = False
        for packet in self.packets():
            self._primed = self._primed or started
            started = started or packet.is_keyframe
            if started or not packet.size:
                yield packet

    def _seek(self, entry: Entry) -> Iterator["Packet[VideoStream]"]:
        """Packets from exactly the entry's on, wherever the container's own seek came down."""
        self._prime()
        for back_s in SEEK_BACK_S:
            target = entry.seek - int(back_s / self.time_base)
            with contextlib.suppress(av.FFmpegError):
                self._container.seek(target, stream=self.stream)
                packets = self.packets()
                for packet in packets:
                    if packet.pts == entry.pts and packet.size == entry.size:
                        yield packet
                        yield from packets
                        return
                    if packet.is_keyframe and packet.pts is not None and packet.pts > entry.pts:
                        break
        raise self._damaged(entry.pts, "a keyframe seen before is not found again")

    def _prime(self) -> None:
        """Shows the decoder the first packet of the stream before any other.

        Old x264 says which of its faults a 4:4:4 stream was made with in a message that stands in that packet alone;
        without it libavcodec decodes the rest to green garbage, and says nothing.
        """
        if self._primed:
            return
        with contextlib.suppress(av.FFmpegError):
            for packet in self._container.demux(self.stream):
                packet.decode()
                if packet.is_keyframe:
                    break
        self._primed = True

    def _damaged(self, pts: int | None, fault: str) -> VideoError:
        where = "" if pts is None else f" near {float((pts - (self.stream.start_time or 0)) * self.time_base):.3f} s"
        return VideoError("video_damaged", f"{self.path}: damaged{where} ({fault})")


def runs(wanted: Sequence[int], entries: Sequence[Entry], seek_cost: int) -> Iterator[tuple[Entry | None, list[int]]]:
    """Splits sorted frame indices into stretches that are each decoded forward from one entry point.

    A new stretch begins where more than `seek_cost` frames can be skipped. Entry None is the start of the stream.
    """
    at = 0
    entry: Entry | None = None
    run: list[int] = []
    number = 0
    for index in wanted:
        while number < len(entries) and entries[number].first <= index:
            number += 1
        nearest = entries[number - 1] if number else None
        if nearest is not None and nearest.first > at + seek_cost:
            if run:
                yield entry, run
            entry, run = nearest, []
        run.append(index)
        at = index
    if run:
        yield entry, run
