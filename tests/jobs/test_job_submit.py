"""`ray job submit` of a run: its working directory, its key from the environment, its logs, stop and resubmit."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.plan import Plan
from pipeline.store import RunStore
from schemas.trajectory import Trajectory
from tests.benchmarks.kills import MARGIN_S, await_end, descendants
from tests.jobfiles import write_job
from tests.jobs.conftest import ROOT
from tests.scripted_server import ScriptedServer

pytest.importorskip("aiohttp_cors", reason="ray job submit needs ray[default]")
pytestmark = pytest.mark.slow

KEY = "sk-recognisable-51d0ac77e02b"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Head:
    """A Ray node with a dashboard, and the `ray` command against it."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        port, for_clients = free_port(), free_port()
        self.address = f"http://127.0.0.1:{port}"
        self._env = env
        self._ray = [sys.executable, "-m", "ray.scripts.scripts"]
        options = ["--head", "--block", "--port", "0", "--num-cpus", "4", "--disable-usage-stats"]
        options += ["--dashboard-port", str(port), "--ray-client-server-port", str(for_clients)]
        log = (folder / "head.log").open("wb")
        self.process = subprocess.Popen([*self._ray, "start", *options], env=env, stdout=log, stderr=log, cwd=ROOT)

    def job(self, *arguments: str) -> str:
        """What `ray job …` prints. Raises CalledProcessError where it fails."""
        verb, *rest = arguments
        command = [*self._ray, "job", verb, "--address", self.address, *rest]
        env = {name: value for name, value in self._env.items() if name != "SUBMITTED_KEY"}
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=300).stdout

    def await_status(self, job: str, wanted: str, patience_s: float = 240) -> None:
        deadline = time.monotonic() + patience_s
        while wanted not in (said := self.job("status", job)):
            assert time.monotonic() < deadline, f"{said}\n{self.job('logs', job)}"
            time.sleep(1)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    """The key is in the environment of the nodes, and of nothing that is submitted."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env = {**os.environ, **token, "PYTHONPATH": str(ROOT), "SUBMITTED_KEY": KEY, "RAY_USAGE_STATS_ENABLED": "0"}
    found = Head(tmp_path, env)
    deadline = time.monotonic() + 300
    while True:
        try:
            found.job("list")
            break
        except subprocess.CalledProcessError as error:
            assert time.monotonic() < deadline and found.process.poll() is None, error.stderr
            time.sleep(1)
    yield found
    below = descendants(found.process.pid)
    found.process.send_signal(signal.SIGTERM)
    found.process.wait(timeout=60)
    await_end(below, patience_s=60)


def test_a_submitted_run_is_stopped_and_the_same_submission_finishes_it(head: Head, tmp_path: Path) -> None:
    folder, out = tmp_path / "job", tmp_path / "run"
    with ScriptedServer(tmp_path / "calls.jsonl", latency_s=1.0) as server:
        role = {"api_key_env": "SUBMITTED_KEY", "concurrency": 2}
        write_job(folder, server.base_url, "videozoomer", n_videos=1, per_video=3, attempts=3, teacher=role)
        entry = f"{sys.executable} -m jobs.cli generate videozoomer.yaml --out {out} --address auto"
        submit = ["--no-wait", "--working-dir", str(folder), "--", *entry.split()]

        head.job("submit", "--submission-id", "first", *submit)
        while sum(call["status"] == 200 for call in server.calls()) < 3:
            assert "RUNNING" in (said := head.job("status", "first")) or "PENDING" in said, head.job("logs", "first")
            time.sleep(0.5)
        stopped = time.time()
        head.job("stop", "first")
        head.await_status("first", "STOPPED")
        ended = time.time()
        assert not RunStore(str(out)).finished("teach")

        head.job("submit", "--submission-id", "again", *submit)
        head.await_status("again", "SUCCEEDED")
        calls = server.calls()
    assert "done: 9 attempts" in head.job("logs", "again")
    rows = RunStore(str(out)).rows(Trajectory, "teach", 0)
    planned = Counter(row.trajectory_id for row in Plan(RunStore(str(out))).rows)
    assert Counter(row.trajectory_id for row in rows) == planned and planned.total() == 9
    assert {row.status for row in rows} <= {"answered", "gave_up", "malformed"}
    answered = Counter(call["key"] for call in calls if call["status"] == 200)
    twice = {key for key, count in answered.items() if count > 1}
    first = {call["key"]: call for call in reversed(calls) if call["key"] in twice}
    assert all(first[key]["begin"] <= ended and first[key]["end"] + MARGIN_S >= stopped for key in twice)
    assert len(twice) <= 2
    assert KEY not in head.job("list") and KEY not in head.job("logs", "again")
    assert KEY not in json.dumps([path.read_text(errors="replace") for path in out.rglob("*.yaml")])
