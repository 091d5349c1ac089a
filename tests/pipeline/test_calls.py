"""Kept calls: whole or absent, whoever writes them, whenever he dies, and whatever else lies under their names."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.models.calls import CallStore
from pipeline.models.endpoint import EndpointModel
from pipeline.storage import Storage
from schemas.errors import Fatal
from tests.pipeline.test_endpoint import HELLO, endpoint, good

ROOT = Path(__file__).parents[2]
KEYS = [f"{number:064x}" for number in range(200)]

WRITER = """
import sys
from pipeline.models.calls import CallStore
store, who, size = CallStore(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for key in (f"{number:064x}" for number in range(200)):
    store.put(key, "teacher", {"model": "m"}, {"choices": [], "who": who, "filling": who * size})
    assert set(store.get(key)["filling"]) <= {"a", "b"}
print("done", flush=True)
"""


def writer(folder: Path, who: str, size: int) -> "subprocess.Popen[str]":
    """A process that waits for a line, then writes 200 calls, each with `size` characters of its own letter."""
    command = [sys.executable, "-c", WRITER, str(folder), who, str(size)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def begin(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_that_race_on_200_keys_leave_each_call_whole(tmp_path: Path) -> None:
    racers = [writer(tmp_path, who, 20_000) for who in "ab"]
    for racer in racers:
        begin(racer)
    assert [racer.communicate(timeout=60)[0] for racer in racers] == ["done\n", "done\n"]
    store = CallStore(str(tmp_path))
    kept = [store.get(key) for key in KEYS]
    assert all(response and response["filling"] == response["who"] * 20_000 for response in kept)
    assert not store.unreadable
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [f"{key}.json" for key in KEYS]


def test_a_writer_killed_at_any_moment_leaves_no_half_call_under_a_final_name(tmp_path: Path) -> None:
    for number in range(6):
        process = writer(tmp_path, "ab"[number % 2], 2_000_000)
        begin(process)
        time.sleep(0.05 + 0.07 * number)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)
    store = CallStore(str(tmp_path))
    names = [path.stem for path in tmp_path.rglob("*.json")]
    assert names and all(store.get(name) for name in names) and not store.unreadable


SPOILED = [
    b"",
    b"\x00" * 4096,
    b'{"key": "',
    b"[]",
    b"null",
    b'{"key": "another", "response": {"choices": []}}',
    b'{"response": {}}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("spoiled", SPOILED)
def test_a_call_whose_file_is_torn_or_foreign_is_made_again_and_kept_whole(tmp_path: Path, spoiled: bytes) -> None:
    async def scene() -> None:
        async with endpoint(tmp_path, lambda _: good()) as (model, seen):
            key = (await model.complete(HELLO)).key
            path = tmp_path / CallStore.name(key)
            path.write_bytes(spoiled)
            assert (await model.complete(HELLO)).text == "hi" and len(seen) == 2
            assert json.loads(path.read_bytes())["key"] == key
            await model.complete(HELLO)
            assert len(seen) == 2 and _store(model).unreadable == {key}

    asyncio.run(scene())


def _store(model: EndpointModel) -> CallStore:
    return model._calls


def test_what_cannot_be_read_stops_the_run_before_anything_is_paid_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with endpoint(tmp_path, lambda _: good()) as (model, seen):
            key = (await model.complete(HELLO)).key
            path = tmp_path / CallStore.name(key)
            path.unlink()
            path.mkdir()
            with pytest.raises(Fatal, match=f"cannot read calls/.*{key}"):
                await model.complete(HELLO)
            assert len(seen) == 1

    asyncio.run(scene())


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_is_created_by_one_only(tmp_path: Path, remote: bool) -> None:
    storage = Storage(f"memory://{tmp_path.name}" if remote else str(tmp_path))
    assert storage.create("deep/claim", b"first") and not storage.create("deep/claim", b"second")
    assert storage.read("deep/claim") == b"first"
    assert [file.name for file in storage.files("deep")] == ["claim"]
    storage.remove("deep/claim")
    storage.remove("deep/claim")
    assert storage.files("deep") == [] and storage.create("deep/claim", b"third")


@pytest.mark.parametrize("remote", [False, True])
def test_folders_and_files_are_told_apart_with_size_and_time(tmp_path: Path, remote: bool) -> None:
    storage = Storage(f"memory://{tmp_path.name}" if remote else str(tmp_path))
    storage.write("calls/ab/one", b"12345")
    storage.write("calls/lone", b"")
    assert storage.folders("calls") == ["ab"] and storage.folders("none") == []
    (one,) = storage.files("calls/ab")
    assert (one.name, one.bytes) == ("one", 5) and abs((one.changed_at or 0) - time.time()) < 60
    assert [file.name for file in storage.files("calls")] == ["lone"]


def test_a_kept_file_stands_whole_under_its_name_alone_and_the_first_one_stays(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert storage.keep("calls/ab/one.json", b"first" * 1000)
    assert not storage.keep("calls/ab/one.json", b"second")
    assert storage.read("calls/ab/one.json") == b"first" * 1000
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["one.json"]
    (tmp_path / "calls" / "full").write_bytes(b"")
    with pytest.raises(Fatal, match=r"cannot write calls/full/one\.json"):
        storage.keep("calls/full/one.json", b"x")
