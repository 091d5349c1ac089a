"""The real files that lie beside the checkout, where they do: right frames, or one clear refusal, and no hang."""

import itertools
import random
import time
from pathlib import Path

import pytest

from pipeline.media.decoder import Decoder
from pipeline.media.errors import VideoError
from pipeline.media.index import build_index
from pipeline.media.pixels import frame_hash
from pipeline.media.sandbox import open_video
from pipeline.media.witness import witness
from schemas.video import FramePlan, PixelBudget
from tests.corpus import linear_frames

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SMALL = PixelBudget(max_side=160)

REFUSED = {
    "audio_only.mp4": "video_no_stream",
    "corrupt_middle_20KB.mp4": "video_damaged",
    "decord_corrupted.mp4": "video_damaged",
    "git_lfs_pointer.mp4": "video_unreadable",
    "no_moov.mp4": "video_unreadable",
    "text_file.mp4": "video_unreadable",
    "truncated_60pct.mp4": "video_truncated",
    "zero_byte.mp4": "video_empty",
}
FRAMES = {
    "bframes_open_gop.mp4": (288, 12.0, (854, 480), 0),
    "decord_unordered.mov": (4, 0.125, (50, 50), 0),
    "decord_video_90.mov": (3, 0.1, (320, 568), 90),
    "duration_lies_60s_is_10s.mp4": (125, 10.0, (768, 432), 0),
    "nemo_curator_tiny.mp4": (7, 3.5, (320, 180), 0),
    "odd_dim_321x241_yuv444.mp4": (150, 5.028, (321, 241), 0),
    "pyscenedetect_delayed_start.mp4": (24, 0.96, (480, 320), 0),
    "rotated_90_displaymatrix.mp4": (100, 8.0, (432, 768), 270),
    "single_frame.mp4": (1, 0.034, (640, 360), 0),
    "torchcodec_bt2020_10bit_hevc.mp4": (60, 2.0, (320, 240), 0),
    "torchcodec_nasa_rotated.mp4": (17, 0.567, (270, 480), 270),
    "torchcodec_odd_hw_vp9.mp4": (25, 1.0, (321, 241), 0),
    "vfr_irregular.mp4": (681, 39.855, (640, 360), 0),
}
LARGE = {
    "screencast_tutorial_1080p.mp4",
    "agent327_360p.mp4",
    "cosmos_test_video_30s.mp4",
    "intel_one_by_one_person.mp4",
}

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data does not lie beside the checkout")


def present(folder: str, *patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in (DATA / folder).glob(pattern))


@needs_data
def test_every_bad_file_has_an_expected_outcome() -> None:
    assert {path.name for path in present("bad", "*.mp4", "*.mov")} == REFUSED.keys() | FRAMES.keys()


@needs_data
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_file_that_cannot_be_read_exactly_is_refused(name: str) -> None:
    start = time.monotonic()
    with pytest.raises(VideoError) as caught, open_video(str(DATA / "bad" / name)) as video:
        list(video.sample([FramePlan(budget=SMALL, indices=tuple(range(video.video.n_frames)))]))
    assert caught.value.kind == REFUSED[name]
    assert name in caught.value.message and "\n" not in caught.value.message
    assert time.monotonic() - start < 30


@needs_data
@pytest.mark.parametrize("name", sorted(FRAMES))
def test_a_strange_file_is_read_frame_by_frame(name: str) -> None:
    count, duration_s, size, rotation = FRAMES[name]
    check(DATA / "bad" / name, count, reads=5)
    with open_video(str(DATA / "bad" / name)) as video:
        shown = video.video
    assert (shown.n_frames, (shown.width, shown.height), shown.rotation) == (count, size, rotation)
    assert shown.duration_s == pytest.approx(duration_s, abs=0.001)


@needs_data
@pytest.mark.parametrize("path", present("videos", "*.mp4", "*.mkv", "*.webm"), ids=lambda path: path.name)
def test_real_videos_give_the_same_frames_by_seeks_as_by_plain_decoding(path: Path) -> None:
    check(path, None, reads=3 if path.name in LARGE else 6)


def check(path: Path, count: int | None, reads: int) -> None:
    """Random reads against plain decoding from the start (of the first frames, in long videos)."""
    with open_video(str(path)) as video:
        known = video.video.n_frames if path.name not in LARGE else 330
        hashes = [frame_hash(frame) for frame in linear_frames(path, known)]
        assert len(hashes) == (count or known)
        source = random.Random(path.name)
        for _ in range(reads):
            indices = tuple(source.choices(range(known), k=3))
            pictures = video.read(FramePlan(budget=SMALL, indices=indices))
            assert [picture.frame.hash for picture in pictures] == [hashes[index] for index in indices]
            assert [picture.frame.time_s for picture in pictures] == [video.timeline.times_s[i] for i in indices]


@needs_data
def test_an_old_444_stream_is_not_green_after_a_seek() -> None:
    """Fails with any reader that does not show the decoder the first packet before it seeks."""
    path = DATA / "videos" / "screencast_tutorial_1080p.mp4"
    entry = build_index(str(path)).entries[1]
    with Decoder(str(path)) as decoder:
        seeked = [frame_hash(frame) for frame in itertools.islice(decoder.frames(entry), 40)]
    assert seeked == [
        frame_hash(frame) for frame in itertools.islice(linear_frames(path), entry.first, entry.first + 40)
    ]
    assert witness(str(path), count=3) in ("agree", "not applicable")
