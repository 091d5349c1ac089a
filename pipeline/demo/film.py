"""A rendered film as an H.264 file."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.demo.drawing import draw
from pipeline.demo.world import FPS, HEIGHT, WIDTH, Film
from schemas.errors import Fatal

KEYFRAMES_S = 2
"""Seconds between keyframes at most; a new scene gets its own."""

_X264 = {"preset": "veryfast", "crf": "20", "g": str(KEYFRAMES_S * FPS), "threads": "1"}


def film_name(seed: int) -> str:
    """The name of a film's file."""
    return f"film-{seed}.mp4"


def write_film(film: Film, path: Path) -> None:
    """Encodes a film as 640x360 H.264 in MP4, 10 frames a second, under its final name only when it is complete.

    One thread, so that a seed gives the same bytes again with the same encoder. Raises OSError where the file cannot
    be written, Fatal where PyAV has no libx264.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _encode(film, part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _encode(film: Film, path: Path) -> None:
    import av
    from av.video.frame import VideoFrame

    with av.open(str(path), "w", format="mp4") as container:
        try:
            stream = container.add_stream("libx264", rate=FPS, options=_X264)
        except ValueError as error:
            raise Fatal("this build of PyAV has no libx264: `pip install --force-reinstall av` brings it") from error
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for number in range(round(film.duration_s * FPS)):
            frame = VideoFrame.from_ndarray(np.asarray(draw(film, number / FPS)), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
