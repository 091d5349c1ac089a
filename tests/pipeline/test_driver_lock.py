"""One driver per run: the second stops at once, a dead one is replaced, and of two that replace it one wins."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline import driver_lock, remote
from pipeline.driver_lock import Lease, driving
from pipeline.storage import Storage
from schemas.errors import Fatal, UserError
from tests.object_store import BUCKET, ObjectStore

ROOT = Path(__file__).parents[2]

DRIVER = """
import sys, time
from pipeline.driver_lock import driving
with driving(sys.argv[1]):
    print("drives", flush=True)
    sys.stdin.readline()
print("done", flush=True)
"""


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "run")
    request.getfixturevalue("s3")
    return f"s3://{BUCKET}/run"


def driver(url: str) -> "subprocess.Popen[str]":
    """A process that drives the run until it is told to end."""
    command = [sys.executable, "-c", DRIVER, url]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "drives\n"
    return process


@pytest.fixture
def other(url: str) -> Iterator["subprocess.Popen[str]"]:
    process = driver(url)
    yield process
    process.kill()
    process.communicate()


def elsewhere(url: str, number: int = 1) -> Lease:
    """The lease of a driver on another machine."""
    lease = Lease(token="t", host="far", place="another", pid=1, started="7")
    Storage(url).write(f"driver-{number}.json", lease.said)
    return lease


def test_a_second_driver_stops_with_one_line_and_a_third_may_follow_the_first(
    url: str, other: "subprocess.Popen[str]"
) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"is being worked on by process {other.pid} on .*: wait for it, or stop"):
        driving(url).__enter__()
    assert time.monotonic() - began < 5
    assert other.communicate("\n", timeout=20)[0] == "done\n"
    assert Storage(url).names("", "") == []
    with driving(url):
        assert Storage(url).names("", "") == ["driver-1.json"]
    assert Storage(url).names("", "") == []


def test_a_killed_driver_is_replaced_at_once(url: str, other: "subprocess.Popen[str]") -> None:
    os.kill(other.pid, signal.SIGKILL)  # not waited for: as a shell would leave it for a moment
    time.sleep(0.2)
    began = time.monotonic()
    with driving(url) as ours:
        assert time.monotonic() - began < 5
        ours.require()
        assert Storage(url).names("", "") == ["driver-2.json"]


def test_a_driver_on_another_machine_counts_as_gone_after_a_silence(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_lock, "SILENCE_S", 0.6)
    monkeypatch.setattr(driver_lock, "BEAT_S", 0.1)
    elsewhere(url)
    began = time.monotonic()
    with driving(url):
        assert time.monotonic() - began >= 0.6
        assert Storage(url).names("", "") == ["driver-2.json"]


def test_a_driver_on_another_machine_that_gives_a_sign_of_life_is_left_alone(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_lock, "SILENCE_S", 20.0)
    monkeypatch.setattr(driver_lock, "BEAT_S", 0.1)
    lease = elsewhere(url)
    sign = lease.model_copy(update={"beat": 1})
    threading.Timer(0.5, lambda: Storage(url).write("driver-1.json", sign.said)).start()
    with pytest.raises(UserError, match="by process 1 on far"):
        driving(url).__enter__()
    assert Storage(url).read("driver-1.json") == sign.said


def test_of_many_that_replace_a_dead_driver_one_wins(url: str, other: "subprocess.Popen[str]") -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    together = threading.Barrier(6)

    def take(number: int) -> Any:
        together.wait()
        try:
            lease = driving(url)
            lease.__enter__()
            return lease
        except UserError:
            return None

    with ThreadPoolExecutor(6) as pool:
        taken = [lease for lease in pool.map(take, range(6)) if lease]
    assert len(taken) == 1
    assert len(Storage(url).names("", "")) == 1
    taken[0].__exit__(None, None, None)


def test_a_driver_that_was_replaced_while_it_was_silent_stops_and_leaves_the_other_alone(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_lock, "BEAT_S", 0.1)
    with driving(url) as ours:
        time.sleep(0.3)
        ours.require()
        elsewhere(url, number=2)
        until = time.monotonic() + 10
        with pytest.raises(Fatal, match="process 1 on far has taken over"):
            while time.monotonic() < until:
                ours.require()
                time.sleep(0.05)
    assert Storage(url).names("", "") == ["driver-2.json"]


def test_a_lease_that_cannot_be_read_is_waited_for_like_a_silent_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_lock, "SILENCE_S", 0.3)
    Storage(url).write("driver-4.json", b'{"pid": ')
    with driving(url):
        assert Storage(url).names("", "") == ["driver-5.json"]


@pytest.mark.parametrize("fault", ["501", "ignored"])
def test_where_a_store_lets_two_create_one_lease_a_single_driver_goes_on(
    s3: ObjectStore, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look before either writes: a store without conditional PUT then takes both, and the last one stands."""
    monkeypatch.setattr(driver_lock, "_place", lambda: "machine of " + threading.current_thread().name)
    monkeypatch.setattr(driver_lock, "_SETTLE_S", 0.5)
    monkeypatch.setattr(driver_lock, "SILENCE_S", 20.0)
    monkeypatch.setattr(driver_lock, "BEAT_S", 0.2)
    url, together, met = f"s3://{BUCKET}/run", threading.Barrier(2), threading.local()
    put, exists = Storage._put_new, Storage(url).fs.exists
    s3.faults = lambda number, method, path: fault

    def meet() -> None:
        """Each waits once for the other."""
        if not hasattr(met, "before"):
            met.before = True
            together.wait(60)

    def looked(path: str) -> bool:
        found = bool(exists(path))
        meet()
        return found

    def put_new(storage: Storage, path: str, data: bytes) -> None:
        if fault == "501":
            monkeypatch.setattr(storage.fs, "exists", looked)
        else:
            meet()
        put(storage, path, data)

    monkeypatch.setattr(Storage, "_put_new", put_new)

    def take(number: int) -> Any:
        try:
            lease = driving(url)
            return lease, lease.__enter__()
        except UserError:
            return None

    with ThreadPoolExecutor(2) as pool:
        ((lease, driver),) = [taken for taken in pool.map(take, range(2)) if taken]
    time.sleep(0.5)
    driver.require()
    assert Storage(url).names("", "") == ["driver-1.json"]
    lease.__exit__(None, None, None)


def test_a_driver_whose_lease_another_wrote_over_stops_and_leaves_that_one_alone(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_lock, "BEAT_S", 0.1)
    with driving(url) as ours:
        standing = elsewhere(url, number=1)
        until = time.monotonic() + 10
        with pytest.raises(Fatal, match="process 1 on far has taken over"):
            while time.monotonic() < until:
                ours.require()
                elsewhere(url, number=1)  # a beat of ours that was under way may have replaced it
                time.sleep(0.05)
    assert Storage(url).read("driver-1.json") == standing.said


def test_seconds_in_which_the_store_is_away_are_no_silence(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage longer than the silence: when the store is back, the contender still waits for the driver's sign."""
    assert driver_lock.SILENCE_S > remote.PATIENCE_S + 2 * driver_lock.BEAT_S
    monkeypatch.setattr(driver_lock, "SILENCE_S", 2.0)
    monkeypatch.setattr(driver_lock, "BEAT_S", 0.1)
    url = f"s3://{BUCKET}/run"
    lease = elsewhere(url)
    began = time.monotonic()
    s3.faults = lambda number, method, path: "503" if 0.3 < time.monotonic() - began < 3.0 else ""
    sign = lease.model_copy(update={"beat": 1})

    def back() -> None:
        while time.monotonic() - began < 3.0:
            time.sleep(0.05)
        Storage(url).write("driver-1.json", sign.said)

    thread = threading.Thread(target=back)
    thread.start()
    with pytest.raises(UserError, match="by process 1 on far"):
        driving(url).__enter__()
    assert time.monotonic() - began >= 3.0
    thread.join()
