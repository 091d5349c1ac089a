"""Real video, rendered and encoded on the spot: every frame carries its own index as a bar code.

`encode` makes one file; KINDS lists the ways in which codecs and containers differ; the functions at the end break or
patch a finished MP4. `render_video` makes a small plain one for tests that just need a video.
"""

import io
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

Pixels = npt.NDArray[np.uint8]
"""(height, width, 3) RGB."""

CLOCK = 90_000
"""Ticks a second of all encoded times."""

BLOCK_COLUMNS, BLOCK_ROWS = 8, 2
DARK, BRIGHT = 40, 215


@dataclass(frozen=True)
class Kind:
    """One way to encode a video. times: of each frame in seconds, from the number of frames."""

    name: str
    suffix: str = ".mp4"
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)
    pixel_format: str = "yuv420p"
    size: tuple[int, int] = (192, 128)
    times: Callable[[int], list[float]] | None = None


def every(fps: float, start_s: float = 0.0) -> Callable[[int], list[float]]:
    """Frame times at a constant rate, from a first time in seconds."""
    return lambda count: [start_s + i / fps for i in range(count)]


def irregular(seed: int) -> Callable[[int], list[float]]:
    """Frame times with gaps between 10 ms and 0.4 s."""

    def times(count: int) -> list[float]:
        source = random.Random(seed)
        gaps = [source.choice((0.01, 0.02, 0.04, 0.04, 0.1, 0.4)) for _ in range(count)]
        return [round(sum(gaps[:i]), 3) for i in range(count)]

    return times


X264 = {"preset": "veryfast", "g": "40", "bf": "3", "sc_threshold": "0"}
X265 = "log-level=none:keyint=40:min-keyint=40:bframes=3:scenecut=0:pools=none:frame-threads=1"

KINDS: tuple[Kind, ...] = (
    Kind("h264 closed GOP", options=X264),
    Kind("h264 open GOP", options=X264 | {"x264-params": "open-gop=1:keyint=40:min-keyint=20"}),
    Kind("h264 no B-frames", options=X264 | {"bf": "0"}),
    Kind("h264 B-pyramid mkv", ".mkv", options=X264 | {"bf": "8", "x264-params": "b-pyramid=normal:b-adapt=0"}),
    Kind("h264 open GOP mkv", ".mkv", options=X264 | {"x264-params": "open-gop=1:keyint=40:min-keyint=20"}),
    Kind("h264 one keyframe", options=X264 | {"g": "9999"}),
    Kind("h264 intra refresh", options=X264 | {"x264-params": "intra-refresh=1:keyint=40"}),
    Kind("h264 interlaced", options=X264 | {"flags": "+ildct+ilme"}),
    Kind("h264 10 bit", pixel_format="yuv420p10le", options=X264),
    Kind("h264 4:4:4", pixel_format="yuv444p", options=X264),
    Kind("h264 odd size", pixel_format="yuv444p", size=(191, 127), options=X264),
    Kind("h264 variable rate", options=X264, times=irregular(1)),
    Kind("h264 late start", options=X264, times=every(25, 5.0)),
    Kind("h264 late start mkv", ".mkv", options=X264, times=every(25, 5.0)),
    Kind("h264 MPEG-TS", ".ts", options=X264),
    Kind("h264 open GOP MPEG-TS", ".ts", options=X264 | {"x264-params": "open-gop=1:keyint=40:min-keyint=20"}),
    Kind("h264 FLV", ".flv", options=X264),
    Kind("hevc open GOP", codec="libx265", options={"preset": "ultrafast", "x265-params": X265}),
    Kind("hevc closed GOP", codec="libx265", options={"preset": "ultrafast", "x265-params": X265 + ":open-gop=0"}),
    Kind("hevc MPEG-TS", ".ts", codec="libx265", options={"preset": "ultrafast", "x265-params": X265}),
    Kind(
        "hevc 10 bit", codec="libx265", pixel_format="yuv420p10le", options={"preset": "ultrafast", "x265-params": X265}
    ),
    Kind("vp9 webm", ".webm", "libvpx-vp9", {"g": "40", "deadline": "good", "cpu-used": "8", "auto-alt-ref": "1"}),
    Kind("vp9 mp4", ".mp4", "libvpx-vp9", {"g": "40", "deadline": "realtime", "cpu-used": "8"}),
    Kind(
        "vp8 webm",
        ".webm",
        "libvpx",
        {"g": "40", "deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "300k"},
    ),
    Kind("av1 mp4", ".mp4", "libsvtav1", {"g": "40", "preset": "12", "crf": "25"}),
    Kind("av1 mkv", ".mkv", "libsvtav1", {"g": "40", "preset": "12", "crf": "25"}),
    Kind("mpeg4 mp4", codec="mpeg4", options={"g": "40", "bf": "2", "q": "4", "b": "2M"}),
    Kind("mpeg4 avi", ".avi", "mpeg4", {"g": "40", "b": "2M"}),
    Kind("mpeg4 B-frames avi", ".avi", "mpeg4", {"g": "40", "bf": "2", "b": "2M"}),
    Kind("mpeg2 MPEG-TS", ".ts", "mpeg2video", {"g": "15", "bf": "2", "b": "2M"}),
    Kind("mjpeg avi", ".avi", "mjpeg", {}, "yuvj420p"),
    Kind("gif", ".gif", "gif", {}, "rgb8"),
)


def paint(index: int, width: int, height: int, seed: int = 0) -> Pixels:
    """A frame: its index as 16 blocks in the upper half, moving texture below; the scene changes every 50 frames."""
    scene = np.random.default_rng((seed, index // 50))
    tint, phase = scene.integers(40, 216, 3), scene.uniform(0, 6)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wave = np.sin(x / 9 + phase + index / 3) + np.cos(y / 7 + index / 5)
    picture = np.clip(tint + 20 * wave[..., None], 0, 255).astype(np.uint8)
    for bit in range(BLOCK_COLUMNS * BLOCK_ROWS):
        rows, columns = _block(bit, width, height)
        picture[rows, columns] = BRIGHT if index >> bit & 1 else DARK
    return picture


def read_barcode(picture: Pixels | bytes) -> int:
    """The frame index painted on an RGB array or a JPEG, at any size that leaves each block a few pixels."""
    if isinstance(picture, bytes):
        picture = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    height, width = picture.shape[:2]
    index = 0
    for bit in range(BLOCK_COLUMNS * BLOCK_ROWS):
        rows, columns = _block(bit, width, height, inner=0.25)
        index |= int(picture[rows, columns].mean() > (DARK + BRIGHT) / 2) << bit
    return index


def _block(bit: int, width: int, height: int, inner: float = 0.0) -> tuple[slice, slice]:
    """Rows and columns of a block of the bar code; inner: the share of each side to leave out."""
    row, column = divmod(bit, BLOCK_COLUMNS)
    block_width, block_height = width / BLOCK_COLUMNS, height / 2 / BLOCK_ROWS
    top, left = (row + inner) * block_height, (column + inner) * block_width
    bottom, right = (row + 1 - inner) * block_height, (column + 1 - inner) * block_width
    return slice(round(top), round(bottom)), slice(round(left), round(right))


def encode(
    path: Path,
    n_frames: int,
    kind: Kind,
    frames: Callable[[int, int, int], Pixels] = paint,
    muxer: dict[str, str] | None = None,
) -> list[float]:
    """Encodes frames 0..n_frames-1 (frames: (index, width, height) -> RGB) and returns their times in seconds."""
    times = (kind.times or every(25))(n_frames)
    with _same_priority(), av.open(str(path), "w", options=muxer or {}) as container:
        stream: Any = container.add_stream(kind.codec, rate=25, options=kind.options)
        stream.width, stream.height = kind.size
        stream.pix_fmt = kind.pixel_format
        exact = kind.suffix not in (".avi", ".gif")
        base = Fraction(1, CLOCK) if exact and kind.codec not in ("mpeg4", "mpeg2video") else Fraction(1, 25)
        stream.codec_context.time_base = base
        for index, time_s in enumerate(times):
            frame = VideoFrame.from_ndarray(frames(index, *kind.size), format="rgb24")
            frame.pts, frame.time_base = round(time_s / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return times


@contextmanager
def _same_priority() -> Iterator[None]:
    """Gives the thread its scheduling back: SVT-AV1, as root, leaves its caller at the highest real-time priority,
    which all threads and processes begun later would inherit, Ray's and a browser's too."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, param)


def render_video(path: Path, seconds: float, fps: int = 10, size: tuple[int, int] = (320, 240), seed: int = 0) -> None:
    """A small plain H.264 MP4 of changing scenes, with bar codes."""
    kind = Kind("plain", options={"preset": "ultrafast", "g": "50"}, size=size, times=every(fps))
    encode(path, max(1, round(seconds * fps)), kind, lambda i, w, h: paint(i, w, h, seed))


def reencode(source: Path, target: Path, fps: int = 10) -> None:
    """A copy of a video of `render_video` that looks the same, by an encoder of other settings."""
    pictures = [frame.to_ndarray(format="rgb24") for frame in linear_frames(source)]
    height, width = pictures[0].shape[:2]
    options = {"preset": "veryfast", "crf": "18", "g": "50"}
    kind = Kind("again", options=options, size=(width, height), times=every(fps))
    encode(target, len(pictures), kind, lambda i, w, h: pictures[i])


def remux(source: Path, target: Path, start_at_keyframe: int = 0) -> None:
    """Copies the packets of a video stream into another container, optionally from a later keyframe on."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        keyframes = 0
        for packet in reader.demux(stream):
            keyframes += packet.is_keyframe
            if packet.dts is not None and keyframes > start_at_keyframe:
                packet.stream = copy
                writer.mux(packet)


def linear_frames(path: Path, limit: int | None = None) -> Iterator[VideoFrame]:
    """The frames of a video in one thread from the start: the plainest use of libavcodec, the yardstick of the rest."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, VideoStream)
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        yield from itertools.islice(container.decode(stream), limit)


def truncate(source: Path, target: Path, share: float = 0.6) -> None:
    """Keeps the first part of a file."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])


def corrupt(source: Path, target: Path, at: float = 0.5, count: int = 2000, seed: int = 0) -> None:
    """Overwrites bytes at a position (a share of the file) with random ones."""
    data = bytearray(source.read_bytes())
    start = int(len(data) * at)
    data[start : start + count] = random.Random(seed).randbytes(count)
    target.write_bytes(bytes(data))


def rotate(source: Path, target: Path, matrix: Sequence[int]) -> None:
    """Rewrites the display matrix (a, b, c, d of -1, 0, 1) of an MP4's track."""
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 44
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[at + offset : at + offset + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    target.write_bytes(bytes(data))


def hide_start(source: Path, target: Path, ticks: int) -> None:
    """Lets the edit list of an MP4's track begin later in the media, so that the frames before are not shown."""
    data = bytearray(source.read_bytes())
    at = data.index(b"elst") + 16
    media_time = int.from_bytes(data[at : at + 4], "big", signed=True)
    data[at : at + 4] = (media_time + ticks).to_bytes(4, "big", signed=True)
    target.write_bytes(bytes(data))
