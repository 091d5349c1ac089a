"""Videos on an object store: the same frames as from a file, fetched once per node, within a bound, whole or not."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import fsspec
import pytest

from pipeline import remote
from pipeline.media import fetched
from pipeline.media.errors import VideoError
from pipeline.media.fetched import FOLDER_VARIABLE, SIZE_VARIABLE, VideoCache, local_video
from pipeline.media.sandbox import open_video
from schemas.errors import Fatal, UserError
from schemas.video import FramePlan, PixelBudget
from tests.corpus import render_video
from tests.object_store import BUCKET, SECRET, ObjectStore

ROOT = Path(__file__).parents[2]
PLAN = FramePlan(budget=PixelBudget(max_side=96), times_s=(0.0, 1.2, 2.9))

READER = """
import sys
from pipeline.media.fetched import local_video
print("ready", flush=True)
sys.stdin.readline()
video = local_video(sys.argv[1])
print(video.path, flush=True)
sys.stdin.readline()
"""


class Node(NamedTuple):
    """A node's cache beside the store."""

    store: ObjectStore
    folder: Path

    def put(self, name: str, data: bytes) -> str:
        fsspec.filesystem("s3", use_listings_cache=False).pipe_file(f"{BUCKET}/{name}", data)
        return f"s3://{BUCKET}/{name}"

    def downloads(self, name: str) -> int:
        return sum(seen.kind == "GET" and seen.key == name for seen in self.store.seen)

    def files(self, suffix: str) -> list[str]:
        return sorted(path.name for path in self.folder.glob(f"*{suffix}"))


@pytest.fixture
def node(s3: ObjectStore, tmp_path: Path) -> Node:
    return Node(s3, tmp_path / "cache")


@pytest.fixture
def reader() -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Starts a process that fetches a video when told to, and holds it until it is told to end."""
    started: list[subprocess.Popen[str]] = []

    def start(uri: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", READER, uri]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def tell(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def told(process: "subprocess.Popen[str]") -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def test_frames_are_those_of_the_file_and_the_video_keeps_its_url(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    render_video(path, 3, size=(160, 120))
    url = node.put("films/film.mp4", path.read_bytes())
    node.store.forget()
    with open_video(str(path), "film") as local:
        expected, described = local.read(PLAN), local.video
    for _ in range(2):
        with open_video(url, "film") as opened:
            assert opened.read(PLAN) == expected
            assert opened.video == described.model_copy(update={"uri": url})
    assert node.downloads("films/film.mp4") == 1
    assert node.store.counts == {"HEAD": 3, "GET": 1}


def test_a_broken_video_is_refused_under_its_url(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    render_video(path, 2, size=(160, 120))
    url = node.put("broken.mp4", path.read_bytes()[:4000])
    with pytest.raises(VideoError) as caught, open_video(url):
        pass
    assert caught.value.message.startswith(f"{url}: ") and str(node.folder) not in caught.value.message
    with pytest.raises(VideoError, match=rf"s3://{BUCKET}/none.mp4: there is no such file") as caught:
        open_video(f"s3://{BUCKET}/none.mp4")
    assert caught.value.kind == "video_missing"


def test_three_processes_that_want_one_video_fetch_it_once(
    node: Node, reader: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    url = node.put("film.mp4", b"7" * 3_000_000)
    node.store.faults = lambda number, method, path: "slow" if method == "GET" else ""
    node.store.forget()
    readers = [reader(url) for _ in range(3)]
    for process in readers:
        tell(process)
    paths = {told(process) for process in readers}
    assert len(paths) == 1 and paths.pop().read_bytes() == b"7" * 3_000_000
    assert node.downloads("film.mp4") == 1


def test_a_process_killed_in_the_middle_leaves_nothing_that_anyone_waits_for_or_takes_for_whole(
    node: Node, reader: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    url = node.put("film.mp4", b"7" * 3_000_000)
    node.store.faults = lambda number, method, path: "slow" if method == "GET" else ""
    process = reader(url)
    tell(process)
    until = time.monotonic() + 20
    while not node.files(".part") and time.monotonic() < until:
        time.sleep(0.01)
    assert node.files(".part")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert node.files(".part") and not node.files(".video")
    node.store.faults = lambda number, method, path: ""
    other = node.put("other.mp4", b"8")
    local_video(other).close()
    began = time.monotonic()
    assert Path(local_video(url).path).read_bytes() == b"7" * 3_000_000
    assert time.monotonic() - began < 5
    assert node.files(".part") == [] and len(node.files(".video")) == 2


def test_the_longest_unused_goes_first_and_what_is_in_use_stays(node: Node, tmp_path: Path) -> None:
    cache = VideoCache(tmp_path / "small", 2_500_000)
    urls = [node.put(f"{number}.mp4", bytes([number]) * 1_000_000) for number in range(4)]
    first, second = cache.get(urls[0]), cache.get(urls[1])
    second.close()
    first.close()
    first = cache.get(urls[0])
    cache.get(urls[2]).close()
    assert Path(first.path).exists() and not Path(second.path).exists()
    held = cache.get(urls[1])  # 2 is not in use and goes; 0 is, though it was used before
    over = cache.get(urls[3])
    assert all(Path(video.path).stat().st_size == 1_000_000 for video in (first, held, over))
    for video in (first, held, over):
        video.close()
    cache.get(urls[2]).close()
    assert sum(path.stat().st_size for path in (tmp_path / "small").glob("*.video")) == 2_000_000


def test_a_video_that_was_replaced_is_fetched_again(node: Node) -> None:
    url = node.put("film.mp4", b"old")
    old = local_video(url)
    node.put("film.mp4", b"new")
    new = local_video(url)
    assert (Path(old.path).read_bytes(), Path(new.path).read_bytes()) == (b"old", b"new")


@pytest.mark.parametrize("fault", ["slow", "503", "reset", "truncated"])
def test_faults_on_the_way_leave_the_video_whole(node: Node, fault: str) -> None:
    content = os.urandom(2_000_000)
    url = node.put("film.mp4", content)
    left = [fault] * 2
    node.store.faults = lambda number, method, path: left.pop() if left else ""
    video = local_video(url)
    assert Path(video.path).read_bytes() == content and not left
    assert node.files(".part") == []


def test_what_cannot_be_had_is_one_line(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    url = node.put("film.mp4", b"7" * 1000)
    node.store.faults = lambda number, method, path: "403"
    with pytest.raises(Fatal, match=rf"^cannot fetch s3://{BUCKET}/film.mp4: (Forbidden|Access Denied)$") as caught:
        local_video(url)
    assert SECRET not in str(caught.value)
    node.store.faults = lambda number, method, path: ""
    with pytest.raises(Fatal, match=r"cannot fetch s3://not-there/film.mp4"):
        local_video("s3://not-there/film.mp4")
    monkeypatch.setattr(remote, "PATIENCE_S", 0.5)
    with pytest.raises(Fatal, match=r"^cannot fetch http://127.0.0.1:1/film.mp4: "):
        local_video(f"http://someone:{SECRET}@127.0.0.1:1/film.mp4?signature={SECRET}")
    monkeypatch.setattr(fetched, "_SPARE_BYTES", 1 << 62)
    with pytest.raises(Fatal, match=f"no room for a video of 1,000 bytes .* {FOLDER_VARIABLE} names another folder"):
        local_video(url)
    monkeypatch.setenv(SIZE_VARIABLE, "much")
    with pytest.raises(UserError, match="ZOOMTRAIL_VIDEO_CACHE_GB=much: give a number"):
        local_video(url)


def test_a_path_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    assert local_video("/videos/a b#c.mp4").path == "/videos/a b#c.mp4"
    assert not (tmp_path / "cache").exists()


def test_a_held_video_cannot_be_locked_by_one_who_would_remove_it(node: Node) -> None:
    video = local_video(node.put("film.mp4", b"7"))
    with Path(video.path).open("rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        video.close()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
