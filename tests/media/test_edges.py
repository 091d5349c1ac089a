"""Hidden, cut, turned and broken files: right frames, or one clear refusal."""

from collections.abc import Callable, Container, Iterator
from pathlib import Path

import av
import pytest
from av.video.frame import VideoFrame

from pipeline.media import index
from pipeline.media.decoder import Decoder, Entry
from pipeline.media.errors import VideoError
from pipeline.media.video import VideoFile
from schemas.video import FramePlan, PixelBudget
from tests.corpus import (
    CLOCK,
    KINDS,
    Kind,
    corrupt,
    encode,
    hide_start,
    paint,
    read_barcode,
    remux,
    rotate,
    truncate,
)
from tests.media.conftest import FRAMES, Encoded

SMALL = PixelBudget(max_side=128)
FRAME_TICKS = CLOCK // 25


def barcodes(file: VideoFile, *indices: int) -> list[int]:
    wanted = indices or tuple(range(file.video.n_frames))
    return [read_barcode(picture.jpeg) for picture in file.read(FramePlan(budget=SMALL, indices=wanted))]


def refusal(path: Path) -> VideoError:
    """The error of opening a file and reading all of it."""
    with pytest.raises(VideoError) as caught, VideoFile(str(path)) as file:
        barcodes(file)
    assert path.name in caught.value.message and "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("name", ["h264 closed GOP", "h264 open GOP", "hevc open GOP"])
@pytest.mark.parametrize("hidden", [7, 47])
def test_frames_hidden_by_an_edit_list_do_not_count(encoded: Encoded, tmp_path: Path, name: str, hidden: int) -> None:
    path = tmp_path / "hidden.mp4"
    hide_start(encoded(name), path, hidden * FRAME_TICKS)
    with VideoFile(str(path)) as file:
        assert file.timeline.times_s[:2] == pytest.approx([0, 0.04])
        assert barcodes(file) == list(range(hidden, FRAMES))
        assert barcodes(file, 90, 3, 0) == [90 + hidden, 3 + hidden, hidden]


@pytest.mark.parametrize(
    ("name", "suffix"), [("h264 open GOP", ".mp4"), ("h264 open GOP", ".mkv"), ("hevc open GOP", ".mp4")]
)
def test_a_clip_cut_at_an_open_keyframe_begins_with_that_keyframe(
    encoded: Encoded, tmp_path: Path, name: str, suffix: str
) -> None:
    path = tmp_path / f"cut{suffix}"
    remux(encoded(name), path, start_at_keyframe=1)
    with VideoFile(str(path)) as file:
        assert barcodes(file) == list(range(40, FRAMES))
        assert barcodes(file, 60, 0) == [100, 40]


@pytest.mark.parametrize("name", ["h264 MPEG-TS", "h264 open GOP MPEG-TS", "hevc MPEG-TS"])
def test_a_broadcast_joined_late_begins_with_its_first_keyframe(encoded: Encoded, tmp_path: Path, name: str) -> None:
    path = tmp_path / "joined.ts"
    path.write_bytes(encoded(name).read_bytes()[60 * 188 :])
    with VideoFile(str(path)) as file:
        assert barcodes(file) == list(range(40, FRAMES))
        assert barcodes(file, 99, 1) == [139, 41]


TURNS = {
    90: ((0, 1, -1, 0), lambda rgb: rgb[::-1].swapaxes(0, 1)),
    180: ((-1, 0, 0, -1), lambda rgb: rgb[::-1, ::-1]),
    270: ((0, -1, 1, 0), lambda rgb: rgb.swapaxes(0, 1)[::-1]),
}


@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_a_display_matrix_turns_pixels_and_size(tmp_path: Path, clockwise: int) -> None:
    matrix, turned = TURNS[clockwise]
    plain, path = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    upright = (128, 192) if clockwise != 180 else (192, 128)
    back = TURNS[360 - clockwise][1]
    encode(plain, 3, Kind("plain"), lambda index, width, height: back(paint(index + 5, *upright)).copy())
    rotate(plain, path, matrix)
    with VideoFile(str(path)) as file:
        assert (file.video.width, file.video.height, file.video.rotation) == (*upright, clockwise)
        assert barcodes(file) == [5, 6, 7]
        picture = file.read(FramePlan(budget=PixelBudget(), indices=(0,)))[0]
        assert (picture.frame.width, picture.frame.height) == upright
    assert turned(back(paint(0, *upright))).tolist() == paint(0, *upright).tolist()


def test_a_mirrored_picture_is_mirrored_back(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.mp4", tmp_path / "mirrored.mp4"
    encode(plain, 3, Kind("plain"), lambda index, width, height: paint(index + 5, width, height)[:, ::-1].copy())
    rotate(plain, path, (-1, 0, 0, 1))
    with VideoFile(str(path)) as file:
        assert barcodes(file) == [5, 6, 7]


def test_a_remux_keeps_the_hashes_and_encoding_again_changes_them(encoded: Encoded, tmp_path: Path) -> None:
    source, again = encoded("h264 closed GOP"), tmp_path / "again.mp4"
    remux(source, tmp_path / "remuxed.mkv")
    closed = next(kind for kind in KINDS if kind.name == "h264 closed GOP")
    encode(again, FRAMES, Kind("again", options=closed.options | {"crf": "30"}))
    plan = FramePlan(budget=SMALL, indices=(0, 50, 149))
    hashes = []
    for path in (source, tmp_path / "remuxed.mkv", again):
        with VideoFile(str(path)) as file:
            hashes.append([picture.frame.hash for picture in file.read(plan)])
    assert hashes[0] == hashes[1]
    assert not set(hashes[0]) & set(hashes[2])


def test_of_two_video_streams_the_default_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        streams = []
        for width, height in ((192, 128), (64, 48)):
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for number, stream in enumerate(streams):
            for index in range(5):
                rgb = paint(index + 100 * number, stream.width, stream.height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            container.mux(stream.encode(None))
    with VideoFile(str(path)) as file:
        assert (file.video.width, file.video.height) == (192, 128)
        assert barcodes(file) == [0, 1, 2, 3, 4]


def faststart(path: Path) -> None:
    encode(
        path, FRAMES, next(kind for kind in KINDS if kind.name == "h264 closed GOP"), muxer={"movflags": "faststart"}
    )


def fragmented(path: Path) -> None:
    kind = next(kind for kind in KINDS if kind.name == "h264 closed GOP")
    encode(path, FRAMES, kind, muxer={"movflags": "frag_keyframe+empty_moov"})


@pytest.mark.parametrize("make", [faststart, fragmented])
def test_an_mp4_cut_short_is_refused_though_its_index_is_whole(tmp_path: Path, make: Callable[[Path], None]) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    make(whole)
    truncate(whole, cut)
    with VideoFile(str(whole)) as file:
        assert barcodes(file, 149, 0) == [149, 0]
    assert refusal(cut).kind == "video_truncated"


@pytest.mark.parametrize("name", ["h264 closed GOP", "h264 open GOP mkv", "vp9 webm", "mpeg4 avi"])
def test_other_containers_cut_short_are_refused(encoded: Encoded, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"cut{encoded(name).suffix}"
    truncate(encoded(name), path)
    assert refusal(path).kind == "video_truncated"


def test_frames_before_damage_are_read_and_none_after_it(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.mp4", tmp_path / "damaged.mp4"
    faststart(whole)
    corrupt(whole, path, at=0.55, count=1500)
    with VideoFile(str(path)) as file:
        assert barcodes(file, 20, 3) == [20, 3]
        right, refused = [], []
        for index in range(FRAMES):
            try:
                assert barcodes(file, index) == [index]
                right.append(index)
            except VideoError as error:
                assert error.kind == "video_damaged" and " near " in error.message
                refused.append(index)
    assert len(right) > 60 and refused
    assert refusal(path).kind == "video_damaged"


@pytest.mark.parametrize("name", ["vp8 webm", "vp9 webm", "h264 MPEG-TS", "h264 open GOP mkv"])
def test_damage_that_a_demuxer_skips_in_silence_is_refused(encoded: Encoded, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"damaged{encoded(name).suffix}"
    corrupt(encoded(name), path, count=3000)
    assert refusal(path).kind == "video_damaged"


def test_files_that_are_no_video_say_what_they_are(tmp_path: Path) -> None:
    contents = {
        "empty.mp4": (b"", "video_empty"),
        "text.mp4": (b"hello, world\n" * 100, "video_unreadable"),
        "pointer.mp4": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "video_unreadable"),
        "playlist.mp4": (b"#EXTM3U\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n", "video_unreadable"),
    }
    for name, (content, kind) in contents.items():
        (tmp_path / name).write_bytes(content)
        assert refusal(tmp_path / name).kind == kind
    assert refusal(tmp_path / "nowhere.mp4").kind == "video_missing"
    assert refusal(tmp_path).kind == "video_missing"


@pytest.mark.parametrize("lost", [5, 60, 149])
def test_a_frame_that_never_comes_out_of_the_decoder_is_refused_not_replaced(
    encoded: Encoded, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    whole = Decoder.frames

    def lossy(self: Decoder, entry: Entry | None = None, wanted: Container[int] | None = None) -> Iterator[VideoFrame]:
        return (frame for frame in whole(self, entry) if frame.pts != lost * FRAME_TICKS)

    with VideoFile(str(encoded("h264 closed GOP"))) as file:
        monkeypatch.setattr(Decoder, "frames", lossy)
        with pytest.raises(VideoError) as caught:
            barcodes(file, lost)
        assert caught.value.kind == "video_damaged" and f"{lost / 25:.3f} s" in caught.value.message
        assert barcodes(file, lost - 1) == [lost - 1]


def test_packets_that_announce_frames_never_shown_are_not_believed(
    encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = index._scan

    def lying(decoder: Decoder) -> index._Scan:
        scan = honest(decoder)
        scan.times.insert(3, scan.times[2] + 1)
        return scan

    monkeypatch.setattr(index, "_scan", lying)
    with VideoFile(str(encoded("h264 closed GOP"))) as file:
        assert barcodes(file) == list(range(FRAMES))
