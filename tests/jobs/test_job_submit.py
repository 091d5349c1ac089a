"""`ray job submit` of a run: its working directory, its key from the environment, its logs, stop and resubmit."""

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

from ray.job_submission import JobSubmissionClient

pytestmark = pytest.mark.slow

KEY = "sk-recognisable-51d0ac77e02b"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Head:
    """A Ray node with a dashboard, the `ray` command against it, and Ray's client for what must be quick."""

    def __init__(self, folder: Path) -> None:
        port, for_clients = free_port(), free_port()
        self.address = f"http://127.0.0.1:{port}"
        self._ray = [sys.executable, "-m", "ray.scripts.scripts"]
        options = ["--head", "--block", "--port", "0", "--num-cpus", "4", "--disable-usage-stats"]
        options += ["--dashboard-port", str(port), "--ray-client-server-port", str(for_clients)]
        # The key is in the environment of the node, and of nothing that is submitted.
        env = {**os.environ, "PYTHONPATH": str(ROOT), "SUBMITTED_KEY": KEY}
        log = (folder / "head.log").open("wb")
        self.process = subprocess.Popen([*self._ray, "start", *options], env=env, stdout=log, stderr=log, cwd=ROOT)

    def client(self, patience_s: float = 120) -> JobSubmissionClient:
        """As soon as the node answers."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return JobSubmissionClient(self.address)
            except ConnectionError:
                assert time.monotonic() < deadline and self.process.poll() is None, "no dashboard"
                time.sleep(1)

    def job(self, verb: str, *arguments: str) -> str:
        """What `ray job VERB` prints. Raises CalledProcessError where it fails."""
        command = [*self._ray, "job", verb, "--address", self.address, *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    for name, value in {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
        monkeypatch.setenv(name, value)
    found = Head(tmp_path)
    yield found
    below = descendants(found.process.pid)
    found.process.send_signal(signal.SIGTERM)
    found.process.wait(timeout=60)
    await_end(below, patience_s=60)


def await_end_of(client: JobSubmissionClient, job: str, patience_s: float = 300) -> str:
    deadline = time.monotonic() + patience_s
    while not (status := client.get_job_status(job)).is_terminal():
        assert time.monotonic() < deadline, client.get_job_logs(job)
        time.sleep(0.5)
    return str(status.value)


def test_a_submitted_run_is_stopped_and_the_same_submission_finishes_it(head: Head, tmp_path: Path) -> None:
    folder, out = tmp_path / "job", tmp_path / "run"
    client = head.client()
    with ScriptedServer(tmp_path / "calls.jsonl", latency_s=1.5) as server:
        role = {"api_key_env": "SUBMITTED_KEY", "concurrency": 1}
        write_job(folder, server.base_url, "videozoomer", n_videos=1, per_video=3, attempts=3, teacher=role)
        entry = f"{sys.executable} -m jobs.cli generate videozoomer.yaml --out {out} --address auto"
        submit = ["--no-wait", "--working-dir", str(folder), "--", *entry.split()]

        head.job("submit", "--submission-id", "first", *submit)
        while sum(call["status"] == 200 for call in server.calls()) < 2:
            assert not client.get_job_status("first").is_terminal(), client.get_job_logs("first")
            time.sleep(0.2)
        stopped = time.time()
        client.stop_job("first")
        assert await_end_of(client, "first") == "STOPPED"
        ended = time.time()
        assert not RunStore(str(out)).finished("teach")

        head.job("submit", "--submission-id", "again", *submit)
        assert await_end_of(client, "again") == "SUCCEEDED", client.get_job_logs("again")
        calls = server.calls()
    said = head.job("logs", "again")
    assert "done: 9 attempts" in said
    rows = RunStore(str(out)).rows(Trajectory, "teach", 0)
    planned = Counter(row.trajectory_id for row in Plan(RunStore(str(out))).rows)
    assert Counter(row.trajectory_id for row in rows) == planned and planned.total() == 9
    assert {row.status for row in rows} <= {"answered", "gave_up", "malformed"}
    answered = Counter(call["key"] for call in calls if call["status"] == 200)
    twice = {key for key, count in answered.items() if count > 1}
    first = {call["key"]: call for call in reversed(calls) if call["key"] in twice}
    assert all(first[key]["begin"] <= ended and first[key]["end"] + MARGIN_S >= stopped for key in twice)
    assert len(twice) <= 1
    assert KEY not in said and KEY not in str(client.list_jobs())
