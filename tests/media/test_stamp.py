"""A frame's second, burnt into real decoded video."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline.media.sandbox import open_video
from pipeline.media.stamp import dot, stamp
from pipeline.models.chat import Pictures
from schemas.captions import Picture
from schemas.video import FramePlan, PixelBudget
from tests.corpus import render_video, rotate

QUARTER_TURN = (0, 1, -1, 0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stamped") / "clip.mp4"
    render_video(path, 13.0)
    return path


def pictures(path: Path, *plans: FramePlan) -> list[list[Picture]]:
    """The pictures of several plans out of one pass."""
    with open_video(str(path)) as video:
        found: list[dict[int, Picture]] = [{} for _ in plans]
        for number, position, picture in video.sample(plans):
            found[number][position] = picture
    return [[pictures[i] for i in range(len(pictures))] for pictures in found]


def pixels(picture: Picture) -> npt.NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(picture.jpeg)).convert("RGB")).astype(np.int16)


def read(picture: Picture) -> str:
    """The number in the lower right corner: of all up to 99, the one whose dots are redder than what is beside them."""
    image = pixels(picture)
    redness = image[..., 0] - image[..., 1:].mean(-1)
    scores = {}
    for second in range(100):
        drawn = Image.new("RGB", (picture.frame.width, picture.frame.height))
        stamp(drawn, second)
        red = np.asarray(drawn)[..., 0] > 0
        rows, columns = np.nonzero(red)
        box = np.zeros_like(red)
        box[rows.min() : rows.max() + 1, max(0, columns.min() - 8) : columns.max() + 1] = True
        scores[second] = redness[red].mean() - redness[box & ~red].mean()
    return str(max(scores, key=scores.__getitem__))


def test_the_whole_second_stands_in_the_lower_right_corner_and_nothing_else_changes(path: Path) -> None:
    times = (0.0, 0.95, 7.3, 10.0, 12.6)
    plain = FramePlan(budget=PixelBudget(max_side=320), times_s=times)
    stamped, bare = pictures(path, plain.model_copy(update={"stamp": True}), plain)
    assert [read(picture) for picture in stamped] == ["0", "0", "7", "10", "12"]
    for one, other in zip(stamped, bare, strict=True):
        changed = np.argwhere(np.abs(pixels(one) - pixels(other)).max(-1) > 40)
        height, width = one.frame.height, one.frame.width
        assert changed.min(0)[0] > 0.8 * height and changed.min(0)[1] > 0.75 * width


def test_a_stamp_leaves_the_hash_and_is_told_apart_everywhere_else(path: Path) -> None:
    plain = FramePlan(budget=PixelBudget(max_side=320), indices=(5, 90))
    stamped, bare = pictures(path, plain.model_copy(update={"stamp": True}), plain)
    for one, other in zip(stamped, bare, strict=True):
        assert one.frame.hash == other.frame.hash
        assert one.frame == other.frame.model_copy(update={"stamped": True}) != other.frame
    both = Pictures([*stamped, *bare])
    assert [both.jpeg(p.frame) for p in (*stamped, *bare)] == [p.jpeg for p in (*stamped, *bare)]
    with pytest.raises(KeyError):
        Pictures(bare).jpeg(stamped[0].frame)


def test_a_limit_keeps_the_stamp() -> None:
    plan = FramePlan(budget=PixelBudget(), times_s=(0.0, 1.0, 2.0), stamp=True)
    assert plan.limited(2, 64).stamp


def test_a_turned_video_is_stamped_upright(path: Path, tmp_path: Path) -> None:
    rotate(path, tmp_path / "turned.mp4", QUARTER_TURN)
    plan = FramePlan(budget=PixelBudget(), times_s=(7.3,), stamp=True)
    ((picture,),) = pictures(tmp_path / "turned.mp4", plan)
    assert (picture.frame.width, picture.frame.height) == (240, 320)
    assert read(picture) == "7"


@pytest.mark.parametrize(("size", "height"), [((80, 44), 5), ((212, 118), 10), ((596, 334), 30), ((1920, 1080), 95)])
def test_digits_have_a_share_of_the_picture_and_small_pictures_lose_little(size: tuple[int, int], height: int) -> None:
    assert 5 * dot(*size) == height
    image = Image.new("RGB", size)
    stamp(image, 119)
    rows, columns = np.nonzero(np.asarray(image)[..., 0])
    assert rows.max() - rows.min() + 1 == height
    assert (columns.max() - columns.min() + 1) <= 0.16 * size[0] and rows.min() >= 0.83 * size[1]


def test_each_digit_is_drawn_to_the_pixel() -> None:
    image = Image.new("L", (48, 8))
    rgb = Image.merge("RGB", [image] * 3)
    stamp(rgb, 1234567890)
    drawn = np.asarray(rgb)[1:6, 8:47, 0] > 0
    assert ["".join(".#"[int(dot)] for dot in row) for row in drawn] == [
        ".#. ### ### #.# ### ### ### ### ### ###".replace(" ", "."),
        "##. ..# ..# #.# #.. #.. ..# #.# #.# #.#".replace(" ", "."),
        ".#. ### ### ### ### ### ..# ### ### #.#".replace(" ", "."),
        ".#. #.. ..# ..# ..# #.# ..# #.# ..# #.#".replace(" ", "."),
        "### ### ### ..# ### ### ..# ### ### ###".replace(" ", "."),
    ]
