"""The frames of a page are the very pictures that the model saw, or a line says why not."""

from pathlib import Path

import pytest

from pipeline.media.sandbox import open_video
from pipeline.page.films import Films
from pipeline.page.frames import Frames
from pipeline.page.server import Server
from pipeline.page.told import looks_of
from pipeline.store import RunStore
from schemas.errors import Rejected
from schemas.trajectory import Trajectory
from schemas.video import ExactSize, Frame, FramePlan, Video
from tests.corpus import read_barcode, render_video
from tests.page.conftest import Serve
from tests.page.test_server import about, ask
from tests.page.watching import film, record_other_pictures


def first(store: RunStore) -> tuple[Video, list[Frame]]:
    """The video and all frames of the first trajectory."""
    made = store.rows(Trajectory, "teach", 0)[0]
    assert made.video
    return made.video, [frame for look in looks_of(made) for frame in look]


def test_each_frame_is_byte_for_byte_what_the_decoder_gives(page: Server, watched: RunStore) -> None:
    video, frames = first(watched)
    assert len(frames) == 7
    with open_video(video.uri) as opened:
        for number, frame in enumerate(frames):
            plan = FramePlan(budget=ExactSize(width=frame.width, height=frame.height), indices=(frame.index,))
            shown = ask(page, about("/frame", n=number))
            assert shown.headers["Content-Type"] == "image/jpeg"
            assert shown.body == opened.read(plan)[0].jpeg
            assert read_barcode(shown.body) == frame.index
    assert ask(page, about("/frame", n=len(frames))).status == 404


def test_another_picture_than_was_recorded_is_told_and_never_shown(own: RunStore, serve: Serve) -> None:
    _, frames = first(own)
    record_other_pictures(own)
    refused = ask(serve(own), about("/frame", n=len(frames) - 1))
    assert refused.status == 409
    assert f"frame {frames[-1].index} is another picture now" in refused.error and frames[-1].hash in refused.error


def test_another_film_in_its_place_is_not_even_decoded(own: RunStore, serve: Serve) -> None:
    _, frames = first(own)
    render_video(film(own, 0), 5, size=(160, 120), seed=99)
    refused = ask(serve(own), about("/frame", n=len(frames) - 1))
    assert refused.status == 404 and "is not the video that the run saw" in refused.error


@pytest.mark.parametrize("spoil", ["gone", "other", "folder", "denied"])
def test_what_lies_at_a_path_of_the_runs_is_not_told(own: RunStore, tmp_path: Path, spoil: str) -> None:
    """A run that names a file of this machine must not learn by the error whether it is there."""
    video, frames = first(own)
    path = film(own, 0)
    path.unlink()
    if spoil == "folder":
        path.mkdir()
    elif spoil != "gone":
        path.write_text("a secret")
        path.chmod(0o600 if spoil == "other" else 0)
    with pytest.raises(Rejected) as refused:
        Frames(Films()).jpeg(video, frames[0], frames)
    assert str(refused.value) == f"{path} is not the video that the run saw, or is not here"


def test_a_film_that_changes_after_it_was_proven_gives_no_picture(
    own: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, frames = first(own)
    monkeypatch.setattr(Films, "require", lambda *_: render_video(film(own, 0), 5, size=(160, 120), seed=99))
    with pytest.raises(Rejected, match="is not the video that the run saw"):
        Frames(Films()).jpeg(video, frames[0], frames)


def test_without_its_film_the_overview_comes_from_the_captions(own: RunStore, serve: Serve) -> None:
    _, frames = first(own)
    film(own, 0).unlink()
    server = serve(own)
    shown = ask(server, about("/frame", n=0))
    assert shown.status == 200 and read_barcode(shown.body) == frames[0].index
    zoomed = ask(server, about("/frame", n=len(frames) - 1))
    assert zoomed.status == 404 and str(film(own, 0)) in zoomed.error


def test_memory_holds_no_more_pictures_than_it_may(watched: RunStore) -> None:
    video, frames = first(watched)
    held = Frames(Films(), held_bytes=1)
    for frame in (*frames, *frames):
        assert read_barcode(held.jpeg(video, frame, frames)) == frame.index
    assert len(held._held) == 1
    held.close()
    ample = Frames(Films())
    ample.jpeg(video, frames[0], frames)
    assert len(ample._held) == len(set(map(str, frames)))
    ample.close()


def test_a_broken_film_costs_its_own_frames_only(own: RunStore, tmp_path: Path) -> None:
    video, frames = first(own)
    held = Frames(Films())
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film at all")
    for _ in range(2):
        with pytest.raises(Rejected):
            held.jpeg(video.model_copy(update={"uri": str(broken)}), frames[0], frames)
    assert held.jpeg(video, frames[0], frames)
    held.close()
