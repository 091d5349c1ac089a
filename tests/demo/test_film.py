"""Films on disk: what was drawn is what a reader decodes."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.demo import world
from pipeline.demo.drawing import draw
from pipeline.demo.film import KEYFRAMES_S, film_name, write_film
from pipeline.media.video import VideoFile
from schemas.video import FramePlan, PixelBudget


@pytest.fixture(scope="module")
def short() -> world.Film:
    return world.film(3, at_least_s=45.0)


@pytest.fixture(scope="module")
def path(short: world.Film, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / film_name(short.seed)
    write_film(short, path)
    return path


def test_a_film_is_h264_of_its_size_rate_and_length(short: world.Film, path: Path) -> None:
    with VideoFile(str(path)) as opened:
        video = opened.video
    assert (video.codec, video.pixel_format, video.width, video.height) == ("h264", "yuv420p", 640, 360)
    assert video.fps == pytest.approx(world.FPS)
    assert video.duration_s == pytest.approx(short.duration_s)


def test_each_frame_shows_its_moment(short: world.Film, path: Path) -> None:
    times = tuple(float(t) for t in np.random.default_rng(0).uniform(0, short.duration_s, 12))
    with VideoFile(str(path)) as opened:
        pictures = opened.read(FramePlan(budget=PixelBudget(max_side=640), times_s=times))
    for time_s, picture in zip(times, pictures, strict=True):
        assert picture.frame.index == int(time_s * world.FPS)
        drawn = np.asarray(draw(short, picture.frame.time_s), dtype=float)
        decoded = np.asarray(Image.open(io.BytesIO(picture.jpeg)), dtype=float)
        assert np.abs(drawn - decoded).mean() < 4


def test_keyframes_stand_close_enough_for_quick_zooms(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        times = [p.pts * p.time_base for p in container.demux(video=0) if p.is_keyframe and p.pts is not None]
    gaps = np.diff([float(t) for t in times])
    assert len(times) > 1 and gaps.max() <= KEYFRAMES_S


def test_a_seed_gives_the_same_bytes_again(short: world.Film, path: Path, tmp_path: Path) -> None:
    write_film(short, tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == path.read_bytes()


def test_a_film_that_is_not_finished_leaves_nothing(short: world.Film, tmp_path: Path) -> None:
    broken = world.Film(short.seed, "no colour", short.scenes)
    with pytest.raises(KeyError):
        write_film(broken, tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []
