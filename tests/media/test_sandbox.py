"""A decoder that dies or hangs costs one video; the child never outlives its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.media.errors import VideoError
from pipeline.media.sandbox import SafeVideo, open_video
from pipeline.media.video import VideoFile
from schemas.video import FramePlan, PixelBudget
from tests.corpus import Kind, encode, paint, read_barcode, render_video

SMALL = PixelBudget(max_side=128)


def plan(*indices: int) -> FramePlan:
    return FramePlan(budget=SMALL, indices=indices)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp("sandbox") / "plain.mp4"
    render_video(made, 20)
    return str(made)


@pytest.fixture
def video(path: str) -> Iterator[SafeVideo]:
    with open_video(path) as opened:
        yield opened


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for_end(pid: int, limit_s: float = 10) -> bool:
    end = time.monotonic() + limit_s
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


def test_it_gives_what_the_same_process_gives(video: SafeVideo, path: str) -> None:
    wanted = FramePlan(budget=SMALL, times_s=(3.3, 0.0, 19.99, 3.3))
    with VideoFile(path) as file:
        assert (video.video, video.timeline) == (file.video, file.timeline)
        assert video.indices(wanted) == file.indices(wanted) == [33, 0, 199, 33]
        assert video.read(wanted) == file.read(wanted)
        plans = [wanted, plan(*range(0, 200, 3))]
        assert list(video.sample(plans)) == list(file.sample(plans))


def test_errors_of_the_file_come_through_with_their_kind(tmp_path: Path) -> None:
    with pytest.raises(VideoError) as caught:
        open_video(str(tmp_path / "nowhere.mp4"))
    assert caught.value.kind == "video_missing" and "nowhere.mp4" in caught.value.message


def test_a_wrong_index_is_the_callers_mistake_and_harms_nothing(video: SafeVideo) -> None:
    with pytest.raises(ValueError, match="outside"):
        video.read(plan(200))
    with pytest.raises(ValueError, match="outside"):
        video.sample([plan(0, -1)])
    assert read_barcode(video.read(plan(7))[0].jpeg) == 7


def test_an_abandoned_iterator_does_not_disturb_the_next_request(video: SafeVideo) -> None:
    for _ in range(3):
        iterator = video.sample([plan(*range(200))])
        next(iterator)
        next(iterator)
        assert read_barcode(video.read(plan(150))[0].jpeg) == 150
        iterator.close()
    assert [read_barcode(picture.jpeg) for _, _, picture in video.sample([plan(5, 6)])] == [5, 6]


def test_reads_may_come_between_the_pictures_of_a_pass(video: SafeVideo) -> None:
    seen = []
    for _, _, picture in video.sample([plan(*range(0, 200, 20))]):
        seen.append(read_barcode(picture.jpeg))
        assert read_barcode(video.read(plan(199 - seen[-1]))[0].jpeg) == 199 - seen[-1]
    assert seen == list(range(0, 200, 20))


def test_threads_may_share_one_video(video: SafeVideo) -> None:
    wrong: list[int] = []

    def work(start: int) -> None:
        for index in range(start, 200, 40):
            if read_barcode(video.read(plan(index))[0].jpeg) != index:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


@pytest.mark.parametrize(("deadly", "name"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "SIGKILL")])
def test_a_crash_is_a_video_error_and_the_next_video_works(path: str, deadly: int, name: str) -> None:
    with open_video(path) as video:
        iterator = video.sample([plan(*range(200))])
        next(iterator)
        os.kill(video.pid, deadly)
        with pytest.raises(VideoError) as caught:
            list(iterator)
        assert caught.value.kind == "video_crash"
        assert name in caught.value.message and path in caught.value.message
        with pytest.raises(VideoError):
            video.read(plan(0))
    with open_video(path) as video:
        assert read_barcode(video.read(plan(3))[0].jpeg) == 3


def test_a_stalled_child_is_given_up(path: str) -> None:
    with SafeVideo(path, stall_s=1) as video:
        os.kill(video.pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(VideoError) as caught:
            video.read(plan(1))
        assert caught.value.kind == "video_timeout" and path in caught.value.message
        assert time.monotonic() - start < 10
        pid = video.pid
    assert not alive(pid)


def test_a_library_that_never_returns_is_ended_by_the_kernel() -> None:
    # PyDLL keeps the interpreter's lock while it sleeps: no Python code of the child can run any more.
    code = (
        "import ctypes, multiprocessing, signal; from pipeline.media.decoder_child import Pulse;"
        "ours, theirs = multiprocessing.Pipe(); Pulse(ours, 0.5).start(); ctypes.PyDLL(None).sleep(60)"
    )
    start = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGALRM
    assert time.monotonic() - start < 20


def test_slow_work_that_goes_on_is_not_a_stall(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    kind = Kind("one keyframe", options={"preset": "ultrafast", "g": "9999"}, size=(640, 360))
    encode(path, 60, kind)
    code = (
        "import sys, time; import pipeline.media.decoder as d; original = d.Decoder.packets\n"
        "def slow(self):\n"
        "    for packet in original(self):\n"
        "        time.sleep(0.03); yield packet\n"
        "d.Decoder.packets = slow; from pipeline.media.decoder_child import main; main()"
    )
    script = tmp_path / "slow_child.py"
    script.write_text(code)
    start, popen = time.monotonic(), subprocess.Popen

    class SlowChild(popen):  # type: ignore[misc, valid-type]
        def __init__(self, command: list[str], **options: object) -> None:
            super().__init__([command[0], str(script), *command[3:]], **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", SlowChild)
        with SafeVideo(str(path), stall_s=1.0) as video:
            assert read_barcode(video.read(plan(59))[0].jpeg) == 59
    assert time.monotonic() - start > 3


def test_the_child_dies_with_its_parent(path: str) -> None:
    code = (
        "import os, signal, sys; from pipeline.media.sandbox import open_video\n"
        "from schemas.video import FramePlan, PixelBudget\n"
        "video = open_video(sys.argv[1]); plan = FramePlan(budget=PixelBudget(), indices=tuple(range(200)))\n"
        "next(video.sample([plan])); print(video.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    finished = subprocess.run([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert finished.returncode == -signal.SIGKILL
    assert wait_for_end(int(finished.stdout))


def test_closing_twice_and_use_after_it_are_clear(path: str) -> None:
    video = open_video(path)
    pid = video.pid
    video.close()
    video.close()
    assert not alive(pid)
    with pytest.raises(VideoError, match="closed"):
        video.read(plan(0))


def test_the_child_imports_no_heavy_library() -> None:
    code = (
        "import sys, pipeline.media.decoder_child;"
        "print([name for name in ('torch', 'pandas', 'pyarrow', 'ray', 'datasets', 'decord') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout.strip() == "[]"


def test_memory_stays_bounded_however_many_frames_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    pictures = [paint(index, 1280, 720) for index in range(8)]
    kind = Kind("large", options={"preset": "ultrafast", "g": "50"}, size=(1280, 720))
    encode(path, 400, kind, lambda index, width, height: pictures[index % 8])
    with open_video(str(path)) as video:
        wanted = FramePlan(budget=PixelBudget(max_side=640), indices=tuple(range(400)))
        iterator = video.sample([wanted])
        next(iterator)
        time.sleep(1)
        assert sum(1 for _ in iterator) == 399
        status = Path(f"/proc/{video.pid}/status").read_text()
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak_kb < 250_000, "400 decoded frames at full size alone would be 550 MB"
