"""From a decoded frame to its hash and to JPEG pictures of the sizes asked for."""

import hashlib
import io
import threading
from collections.abc import Iterable

import av
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image

from pipeline.media.container import reason
from pipeline.media.errors import VideoError
from pipeline.media.stamp import stamp
from schemas.captions import Picture
from schemas.video import Frame

JPEG_QUALITY = 90
HD_LINES = 720
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT

Size = tuple[int, int]
"""(width, height) in pixels."""

Form = tuple[int, int, bool]
"""(width, height, whether its second is burnt in): how a frame is shown."""

Matrix = tuple[int, int, int, int]

# How a display matrix (x' = a x + c y, y' = b x + d y) turns or mirrors a picture: PIL's name, degrees clockwise.
ORIENTATIONS: dict[Matrix, tuple[Image.Transpose | None, int]] = {
    (1, 0, 0, 1): (None, 0),
    (0, 1, -1, 0): (Image.Transpose.ROTATE_270, 90),
    (-1, 0, 0, -1): (Image.Transpose.ROTATE_180, 180),
    (0, -1, 1, 0): (Image.Transpose.ROTATE_90, 270),
    (-1, 0, 0, 1): (Image.Transpose.FLIP_LEFT_RIGHT, 0),
    (1, 0, 0, -1): (Image.Transpose.FLIP_TOP_BOTTOM, 0),
    (0, 1, 1, 0): (Image.Transpose.TRANSPOSE, 90),
    (0, -1, -1, 0): (Image.Transpose.TRANSVERSE, 90),
}

# FFmpeg's AVColorSpace numbers to swscale's; what is not listed (unspecified, reserved) goes by the picture's height.
MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


def frame_hash(frame: VideoFrame) -> str:
    """32 hexadecimal digits of the SHA-256 of a decoded picture: its format, its size and its planes without padding.

    Taken before any rotation, scaling or colour conversion, of what the codec's standard fixes to the bit: the same on
    every machine and after a remux, another one after encoding again.
    """
    format_name = frame.format.name.replace("yuvj", "yuv")
    digest = hashlib.sha256(f"{format_name} {frame.width}x{frame.height}\n".encode())
    for number, plane in enumerate(frame.planes):
        row, line = _row_bytes(frame, number, plane), plane.line_size
        view = memoryview(plane)
        if line in (row, 0):
            digest.update(view)
        else:
            digest.update(b"".join([view[at : at + row] for at in range(0, line * plane.height, line)]))
    return digest.hexdigest()[:32]


def orientation(frame: VideoFrame) -> tuple[Image.Transpose | None, int]:
    """How a frame must be turned to be shown: PIL's name for it, and degrees clockwise. Raises ValueError if skewed."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData):
        return None, 0
    a, b, _, c, d = memoryview(bytes(data)).cast("i")[:5].tolist()
    matrix = (_sign(a), _sign(b), _sign(c), _sign(d))
    if matrix not in ORIENTATIONS:
        raise ValueError("turned by an angle that is not a multiple of 90 degrees")
    return ORIENTATIONS[matrix]


class Renderer:
    """Makes the pictures of one video. May be called from several threads, never for the same frame at once."""

    def __init__(self, path: str, turn: Image.Transpose | None, sideways: bool) -> None:
        self._path = path
        self._turn = turn
        self._sideways = sideways
        self._local = threading.local()

    def pictures(self, frame: VideoFrame, index: int, time_s: float, forms: Iterable[Form]) -> dict[Form, Picture]:
        """The frame as shown, in each form, with one hash. Raises VideoError."""
        digest = frame_hash(frame)
        try:
            return {
                (width, height, stamped): Picture(
                    frame=Frame(index=index, time_s=time_s, hash=digest, width=width, height=height, stamped=stamped),
                    jpeg=self._jpeg(frame, (width, height), int(time_s) if stamped else None),
                )
                for width, height, stamped in forms
            }
        except av.FFmpegError as error:
            fault = f"{frame.format.name} pixels cannot be converted ({reason(error)})"
            raise VideoError("video_unsupported", f"{self._path}: {fault}") from error

    def _jpeg(self, frame: VideoFrame, size: Size, second: int | None) -> bytes:
        image = self._image(frame, size[::-1] if self._sideways else size)
        if self._turn is not None:
            image = image.transpose(self._turn)
        if second is not None:
            stamp(image, second)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=JPEG_QUALITY)
        return out.getvalue()

    def _image(self, frame: VideoFrame, size: Size) -> Image.Image:
        """The picture scaled, not turned. BT.601 is JPEG's own matrix: such colours need no detour by way of RGB."""
        matrix = self._matrix(frame)
        direct = matrix == Colorspace.ITU601
        scaled = self._scaler(size).reformat(
            frame,
            *size,
            format="yuvj444p" if direct else "rgb24",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=_color_range(frame),
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALING,
            threads=1,
        )
        modes = ("L", "L", "L") if direct else ("RGB",)
        bands = [
            Image.frombuffer(mode, size, bytes(plane), "raw", mode, plane.line_size, 1)
            for mode, plane in zip(modes, scaled.planes, strict=True)
        ]
        return Image.merge("YCbCr", bands) if direct else bands[0]

    def _scaler(self, size: Size) -> VideoReformatter:
        """One scaler for each size and thread: setting one up costs as much as a frame."""
        scalers: dict[Size, VideoReformatter] = self._local.__dict__.setdefault("scalers", {})
        return scalers.setdefault(size, VideoReformatter())

    def _matrix(self, frame: VideoFrame) -> Colorspace | None:
        if frame.format.name.startswith(("gbr", "rgb", "bgr", "pal", "argb", "abgr", "0rgb", "0bgr", "gray", "mono")):
            return None
        if frame.colorspace == 8:
            raise VideoError("video_unsupported", f"{self._path}: YCgCo colours cannot be converted")
        return MATRICES.get(frame.colorspace, Colorspace.ITU709 if frame.height >= HD_LINES else Colorspace.ITU601)


def _color_range(frame: VideoFrame) -> ColorRange:
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return ColorRange.JPEG if full else ColorRange.MPEG


def _row_bytes(frame: VideoFrame, number: int, plane: VideoPlane) -> int:
    """Bytes of picture in a line of a plane, without the padding after it."""
    if number == 0 and len({component.plane for component in frame.format.components}) == 1:
        return (plane.width * frame.format.padded_bits_per_pixel + 7) // 8
    sample = sum((component.bits + 7) // 8 for component in frame.format.components if component.plane == number)
    return plane.width * sample


def _sign(value: int) -> int:
    """-1, 0 or 1; values that are small against 1.0 (65536) count as 0."""
    return 0 if abs(value) < 655 else (1 if value > 0 else -1)
