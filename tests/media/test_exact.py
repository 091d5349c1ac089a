"""Every frame of every kind of file, however it is reached, is the one asked for."""

import os
import random
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.media.decoder import Decoder, frame_time
from pipeline.media.index import build_index
from pipeline.media.pixels import frame_hash
from pipeline.media.video import VideoFile
from schemas.captions import Picture
from schemas.video import FramePlan, PixelBudget
from tests.corpus import KINDS, linear_frames, read_barcode
from tests.media.conftest import FRAMES, KIND_NAMES, Encoded

SMALL = PixelBudget(max_side=128)


def plan(*indices: int, budget: PixelBudget = SMALL) -> FramePlan:
    return FramePlan(budget=budget, indices=indices)


def in_order(file: VideoFile) -> list[Picture]:
    """All pictures by one linear pass."""
    return [picture for _, _, picture in file.sample([plan(*range(file.video.n_frames))])]


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no such scheduling here")
def test_no_encoder_leaves_this_process_a_priority_of_its_own(encoded: Encoded) -> None:
    for name in KIND_NAMES:
        encoded(name)
    assert os.sched_getscheduler(0) == os.sched_getscheduler(os.getppid())  # earlier tests may have made some


@pytest.mark.parametrize("name", KIND_NAMES)
def test_each_frame_in_order_is_what_plain_decoding_gives(encoded: Encoded, name: str) -> None:
    path = encoded(name)
    with VideoFile(str(path)) as file:
        pictures = in_order(file)
        assert [read_barcode(picture.jpeg) for picture in pictures] == list(range(FRAMES))
        assert [picture.frame.hash for picture in pictures] == [frame_hash(frame) for frame in linear_frames(path)]
        assert [picture.frame.time_s for picture in pictures] == list(file.timeline.times_s)


@pytest.mark.parametrize("name", KIND_NAMES)
def test_random_reads_in_any_order_give_the_same_bytes_as_one_pass(encoded: Encoded, name: str) -> None:
    source = random.Random(name)
    with VideoFile(str(encoded(name))) as file:
        expected = in_order(file)
        for _ in range(12):
            indices = source.choices(range(FRAMES), k=source.choice((1, 1, 2, 6)))
            assert file.read(plan(*indices)) == [expected[index] for index in indices]


@pytest.mark.parametrize("name", KIND_NAMES)
def test_decoding_from_every_entry_point_gives_the_bits_of_the_whole_stream(encoded: Encoded, name: str) -> None:
    path = encoded(name)
    hashes = [frame_hash(frame) for frame in linear_frames(path)]
    index = build_index(str(path))
    with Decoder(str(path)) as decoder:
        for entry in reversed(index.entries):
            assert [frame_hash(frame) for frame in decoder.frames(entry)] == hashes[entry.first :]


@pytest.mark.parametrize("name", KIND_NAMES)
def test_leaving_out_unreferenced_frames_changes_no_other(encoded: Encoded, name: str) -> None:
    path = encoded(name)
    hashes = [frame_hash(frame) for frame in linear_frames(path)]
    index = build_index(str(path))
    with Decoder(str(path)) as decoder:
        left = {frame_time(frame): frame_hash(frame) for frame in decoder.frames(None, wanted=())}
        assert left == {time: hashes[at] for at, time in enumerate(index.times) if time not in decoder.skipped}
    assert bool(decoder.skipped) == (index.codec == "h264" and "no B" not in name)


@pytest.mark.parametrize("name", ["h264 open GOP", "hevc open GOP", "h264 open GOP MPEG-TS", "mpeg4 mp4"])
def test_the_corpus_really_has_frames_shown_before_their_keyframe(encoded: Encoded, name: str) -> None:
    index = build_index(str(encoded(name)))
    assert not index.closed and len(index.entries) > 2


def test_an_intra_refresh_stream_has_no_entry_point_but_its_start(encoded: Encoded) -> None:
    assert [entry.first for entry in build_index(str(encoded("h264 intra refresh"))).entries] == [0]


@pytest.mark.parametrize("name", KIND_NAMES)
def test_times_are_those_encoded_counted_from_the_first_frame(encoded: Encoded, name: str) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    with VideoFile(str(encoded(name))) as file:
        times = kind.times(FRAMES) if kind.times else [i / 25 for i in range(FRAMES)]
        tolerance = 0.0006 if kind.suffix in (".mkv", ".webm", ".flv") else 1e-5
        assert list(file.timeline.times_s) == pytest.approx([time - times[0] for time in times], abs=tolerance)
        assert file.timeline.times_s[0] == 0
        assert all(a < b for a, b in pairwise(file.timeline.times_s))
        assert file.video.duration_s == file.timeline.duration_s > file.timeline.times_s[-1]
        assert file.video.fps == pytest.approx(FRAMES / file.video.duration_s)


def test_a_time_gives_the_frame_on_screen_where_the_rate_varies(encoded: Encoded) -> None:
    kind = next(kind for kind in KINDS if kind.name == "h264 variable rate")
    assert kind.times is not None
    times = kind.times(FRAMES)
    moments = (times[70], times[70] + 0.005, times[3] - 0.0001, times[149] + 100, 0.0)
    with VideoFile(str(encoded(kind.name))) as file:
        pictures = file.read(FramePlan(budget=SMALL, times_s=moments))
        assert [read_barcode(picture.jpeg) for picture in pictures] == [70, 70, 2, 149, 0]


def test_several_plans_share_one_pass_and_come_in_order_of_time(encoded: Encoded) -> None:
    wide, tiny = PixelBudget(max_side=160), PixelBudget(max_side=64)
    plans = [plan(9, 3, 3, budget=wide), plan(3, 100, budget=tiny), plan(100, budget=wide)]
    with VideoFile(str(encoded("h264 closed GOP"))) as file:
        sampled = list(file.sample(plans))
        assert [picture.frame.index for _, _, picture in sampled] == [3, 3, 3, 9, 100, 100]
        assert {(number, position) for number, position, _ in sampled} == {
            (0, 0),
            (0, 1),
            (0, 2),
            (1, 0),
            (1, 1),
            (2, 0),
        }
        for number, position, picture in sampled:
            assert picture == file.read(plans[number])[position]
            assert (picture.frame.width, picture.frame.height) == plans[number].budget.size(192, 128)


def test_a_plan_outside_the_video_is_the_callers_mistake(encoded: Encoded) -> None:
    with VideoFile(str(encoded("h264 closed GOP"))) as file:
        for wrong in (plan(FRAMES), plan(-1)):
            with pytest.raises(ValueError, match=r"outside 0\.\.149"):
                file.read(wrong)
        with pytest.raises(ValueError, match="either times or indices"):
            file.read(FramePlan(budget=SMALL))
        assert file.read(plan()) == []


def test_the_video_record_describes_the_file(encoded: Encoded, tmp_path: Path) -> None:
    import hashlib

    path = encoded("hevc 10 bit")
    with VideoFile(str(path), "some id") as file:
        video = file.video
    assert (video.video_id, video.uri) == ("some id", str(path))
    assert video.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (video.width, video.height, video.rotation, video.n_frames) == (192, 128, 0, FRAMES)
    assert (video.codec, video.pixel_format, video.container) == ("hevc", "yuv420p10le", "mov")
    assert video.duration_s == pytest.approx(6.0) and video.fps == pytest.approx(25)
