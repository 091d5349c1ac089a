"""decord as a witness: it agrees on sound files, notices planted faults, and abstains where it is known to be wrong."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from av.video.frame import VideoFrame

from pipeline.media.index import Index
from pipeline.media.witness import witness
from tests.corpus import hide_start
from tests.media.conftest import Encoded

pytest.importorskip("decord")


@pytest.mark.parametrize(
    "name", ["h264 closed GOP", "h264 open GOP", "hevc open GOP", "h264 4:4:4", "h264 10 bit", "vp9 webm", "mpeg4 mp4"]
)
def test_the_witness_agrees(encoded: Encoded, name: str) -> None:
    assert witness(str(encoded(name))) == "agree"


@pytest.mark.parametrize("name", ["av1 mp4", "h264 MPEG-TS", "mpeg4 avi", "gif"])
def test_the_witness_abstains_where_it_is_no_witness(encoded: Encoded, name: str) -> None:
    assert witness(str(encoded(name))) == "not applicable"


def test_the_witness_abstains_where_frames_are_hidden(encoded: Encoded, tmp_path: Path) -> None:
    hide_start(encoded("h264 closed GOP"), tmp_path / "hidden.mp4", 7 * 3600)
    assert witness(str(tmp_path / "hidden.mp4")) == "not applicable"


def test_a_reader_that_is_one_frame_off_is_noticed(encoded: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Index.frames

    def off_by_one(self: Index, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        return right(self, [max(0, index - 1) for index in wanted])

    monkeypatch.setattr(Index, "frames", off_by_one)
    assert witness(str(encoded("h264 closed GOP"))) == "disagree"
