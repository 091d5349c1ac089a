"""A second opinion on a file's frames: decord, a separate reader with its own FFmpeg 4, where it is known to be right.

decord 0.6 cannot open AV1, is wrong from the first frame in MPEG-TS, counts frames that an edit list hides, turns but
does not mirror, and is wrong after a seek in open groups of pictures. So it is asked about MP4 and Matroska files in
which it finds as many frames as we do: spread over the file where its groups are closed, else in one go from the start.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from PIL import Image

from pipeline.media.container import check_file
from pipeline.media.index import Index, build_index
from pipeline.media.pixels import orientation

Verdict = Literal["agree", "disagree", "not applicable"]

CODECS = {"h264", "hevc", "vp9", "vp8", "mpeg4"}
CONTAINERS = {"mov", "matroska"}
TURNS = {None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270}
FROM_START = 300
"""How many frames decord decodes in one go, where its seeks are not to be trusted."""

TOLERANCE = 4.0
"""Mean difference in brightness (0..255) that rounding may cause; neighbouring frames of a still scene differ less."""

Brightness = npt.NDArray[np.float32]


def witness(path: str, count: int = 5) -> Verdict:
    """Compares the brightness of `count` frames with decord's.

    `not applicable` where decord is missing, cannot read the file, or is not known to be right for it.
    Raises VideoError where our own reader refuses the file.
    """
    check_file(path)
    index = build_index(path)
    turn, _ = orientation(index.first)
    if index.codec not in CODECS or index.container not in CONTAINERS or turn not in TURNS:
        return "not applicable"
    last = len(index.times) - 1 if index.closed else min(len(index.times), FROM_START) - 1
    wanted = sorted({round(number * last / max(1, count - 1)) for number in range(count)})
    theirs = _decord_brightness(path, wanted, index)
    if theirs is None:
        return "not applicable"
    for (_, frame), other in zip(index.frames(wanted), theirs, strict=True):
        ours = _brightness(frame, turn)
        if ours.shape != other.shape or float(np.abs(ours - other).mean()) > TOLERANCE:
            return "disagree"
    return "agree"


def _decord_brightness(path: str, wanted: Sequence[int], index: Index) -> list[Brightness] | None:
    """decord's frames; None where it is no witness."""
    try:
        import decord
    except ImportError:
        return None
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(path, num_threads=1)
        if len(reader) != len(index.times):
            return None
        if index.closed:
            return [_luma(reader[number].asnumpy()) for number in wanted]
        frames = (reader.next().asnumpy() for _ in range(wanted[-1] + 1))
        return [_luma(frame) for number, frame in enumerate(frames) if number in wanted]
    except (decord.DECORDError, RuntimeError, IndexError, StopIteration):
        return None


def _brightness(frame: VideoFrame, turn: Image.Transpose | None) -> Brightness:
    """A frame as decord would show it: luma stretched to 0..255, taken from the decoded plane itself."""
    plane = frame.reformat(format="gray", dst_color_range=ColorRange.JPEG).planes[0]
    size = (plane.width, plane.height)
    image = Image.frombuffer("L", size, bytes(plane), "raw", "L", plane.line_size, 1)
    return np.asarray(image if turn is None else image.transpose(turn), np.float32)


def _luma(rgb: npt.NDArray[np.uint8]) -> Brightness:
    """BT.601 luma: what decord made its RGB from, whatever the file's own matrix is."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    luma: Brightness = rgb.astype(np.float32) @ weights
    return luma
