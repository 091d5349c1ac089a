"""Colours, sizes and hashes of pictures."""

import hashlib
import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.media.pixels import frame_hash
from pipeline.media.video import VideoFile
from schemas.video import FramePlan, PixelBudget
from tests.corpus import render_video

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (128, 128, 128), (250, 250, 250), (5, 5, 5)]
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}


def yuv(rgb: tuple[int, int, int], matrix: int, full: bool) -> list[int]:
    """A colour by the definition of a matrix (FFmpeg's number) and a range."""
    red_weight, blue_weight = WEIGHTS[matrix]
    red, green, blue = (value / 255 for value in rgb)
    y = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    u, v = (blue - y) / (2 * (1 - blue_weight)), (red - y) / (2 * (1 - red_weight))
    scale, offset, chroma = (255, 0, 255) if full else (219, 16, 224)
    return [round(offset + scale * y), round(128 + chroma * u), round(128 + chroma * v)]


def encode_colours(path: Path, size: tuple[int, int], coded: int, tagged: int, full: bool) -> None:
    """One frame a colour, nearly lossless. coded: the matrix used; tagged: the one that the file names (2: none)."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = tagged, 2 if full else 1
        for colour in COLOURS:
            frame = av.VideoFrame(*size, "yuv420p")
            frame.colorspace, frame.color_range = tagged, 2 if full else 1
            for plane, value in zip(frame.planes, yuv(colour, coded, full), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("size", "coded", "tagged", "full"),
    [
        ((320, 240), 5, 5, False),
        ((320, 240), 1, 1, False),
        ((320, 240), 9, 9, False),
        ((320, 240), 5, 6, True),
        ((320, 240), 1, 1, True),
        ((640, 360), 5, 2, False),
        ((1280, 720), 1, 2, False),
    ],
)
def test_colours_survive_whatever_their_matrix_and_range(
    tmp_path: Path, size: tuple[int, int], coded: int, tagged: int, full: bool
) -> None:
    path = tmp_path / "colours.mp4"
    encode_colours(path, size, coded, tagged, full)
    with VideoFile(str(path)) as file:
        for budget in (PixelBudget(), PixelBudget(max_side=160)):
            pictures = file.read(FramePlan(budget=budget, indices=tuple(range(len(COLOURS)))))
            for colour, picture in zip(COLOURS, pictures, strict=True):
                middle = np.asarray(Image.open(io.BytesIO(picture.jpeg)).convert("RGB"))[20:-20, 20:-20].reshape(-1, 3)
                assert np.abs(middle.mean(0) - colour).max() < 6, (colour, middle.mean(0))


@pytest.mark.parametrize(
    "budget",
    [
        PixelBudget(),
        PixelBudget(max_side=100),
        PixelBudget(max_pixels=5000),
        PixelBudget(min_pixels=200_000),
        PixelBudget(max_side=33),
    ],
)
def test_a_picture_has_exactly_the_size_of_its_budget(tmp_path: Path, budget: PixelBudget) -> None:
    path = tmp_path / "plain.mp4"
    render_video(path, 1)
    with VideoFile(str(path)) as file:
        (picture,) = file.read(FramePlan(budget=budget, indices=(4,)))
    assert (picture.frame.width, picture.frame.height) == budget.size(320, 240)
    image = Image.open(io.BytesIO(picture.jpeg))
    assert (image.format, image.size, image.mode) == ("JPEG", budget.size(320, 240), "RGB")


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gray", "rgb24", "nv12", "gbrp", "yuyv422", "bgra"]
)
def test_a_hash_covers_the_picture_and_not_the_padding_of_its_lines(pixel_format: str) -> None:
    size = (34, 18)
    frame = av.VideoFrame.from_ndarray(
        np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8), format="rgb24"
    ).reformat(format=pixel_format)
    packed = frame.to_ndarray()
    if pixel_format == "gbrp":
        packed = packed[..., [1, 2, 0]].transpose(2, 0, 1)
    expected = hashlib.sha256(f"{pixel_format} 34x18\n".encode() + packed.tobytes()).hexdigest()[:32]
    assert frame.planes[0].line_size != 34
    assert frame_hash(frame) == expected
