"""`ray job submit` of a run: its working directory, its key from the environment, its logs, stop and resubmit."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from ray.job_submission import JobSubmissionClient

from pipeline.plan import Plan
from pipeline.store import RunStore
from schemas.trajectory import Trajectory
from tests.benchmarks.kills import await_end, descendants
from tests.jobfiles import write_job
from tests.jobs.conftest import ROOT
from tests.ports import free_port
from tests.scripted_server import ScriptedServer

pytestmark = pytest.mark.slow

KEY = "sk-recognisable-51d0ac77e02b"


class Head:
    """A Ray node with a dashboard, the `ray` command against it, and Ray's client for what must be quick.

    log: what the node says; folder: where it keeps its own logs and copies, of a short name (sockets are in it).
    """

    def __init__(self, log: Path, folder: Path) -> None:
        port, for_clients, for_jobs = free_port(), free_port(), free_port()
        self.log, self.folder = log, folder
        self.address = f"http://127.0.0.1:{port}"
        self._ray = [sys.executable, "-m", "ray.scripts.scripts"]
        options = ["--head", "--block", "--port", "0", "--num-cpus", "4", "--disable-usage-stats"]
        options += ["--dashboard-agent-listen-port", str(for_jobs), "--temp-dir", str(folder)]
        options += ["--dashboard-port", str(port), "--ray-client-server-port", str(for_clients)]
        # The key is in the environment of the node, and of nothing that is submitted.
        env = {**os.environ, "PYTHONPATH": str(ROOT), "SUBMITTED_KEY": KEY}
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*self._ray, "start", *options], env=env, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT
            )

    def client(self, patience_s: float = 120) -> JobSubmissionClient:
        """As soon as the node answers. Ray looks for its token once in a process: here others may have run before."""
        told = {"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return JobSubmissionClient(self.address, headers=dict(told))
            except ConnectionError:
                assert time.monotonic() < deadline and self.process.poll() is None, "no dashboard"
                time.sleep(1)

    def job(self, verb: str, *arguments: str, patience_s: float = 240) -> str:
        """What `ray job VERB` prints. A node that has not started all its services yet asks to be tried again."""
        command = [*self._ray, "job", verb, "--address", self.address, *arguments]
        deadline = time.monotonic() + patience_s
        while (done := subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)).returncode:
            assert "please try again later" in done.stderr and time.monotonic() < deadline, done.stderr
        return done.stdout


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    for name, value in {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
        monkeypatch.setenv(name, value)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        found = Head(tmp_path / "head.log", Path(folder))
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


def files_with(text: str, *places: Path) -> list[Path]:
    """The files in folders, or files themselves, that hold a text."""
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place])]
    return [file for file in files if file.is_file() and text.encode() in file.read_bytes()]


def require_same_attempts(out: Path) -> None:
    """Every planned attempt is one row, and none failed."""
    store = RunStore(str(out))
    rows = list(store.rows(Trajectory, "teach", 0))
    planned = [row.trajectory_id for row in Plan(store).rows()]
    assert sorted(row.trajectory_id for row in rows) == sorted(planned) and len(planned) == 6
    assert {row.status for row in rows} <= {"answered", "gave_up", "malformed"}


def require_one_call_repeated(calls: list[dict[str, Any]], before: float) -> None:
    """At most the one in flight at a moment was answered twice: the last one of those that began before."""
    answered = Counter(call["key"] for call in calls if call["status"] == 200)
    last = max((call for call in calls if call["begin"] <= before), key=lambda call: float(call["begin"]))
    assert {key for key, count in answered.items() if count > 1} <= {last["key"]}
    assert max(answered.values()) <= 2


def test_a_submitted_run_is_stopped_and_the_same_submission_finishes_it(head: Head, tmp_path: Path) -> None:
    folder, out = tmp_path / "job", tmp_path / "run"
    client = head.client()
    with ScriptedServer(tmp_path / "calls.jsonl", latency_s=1.0, api_key=KEY) as server:
        with pytest.raises(HTTPError, match="401"):  # so each answered call brought the key
            urlopen(Request(f"{server.base_url}/chat/completions", b"{}", {"Authorization": "Bearer none"}))
        role = {"api_key_env": "SUBMITTED_KEY", "concurrency": 1}
        write_job(folder, server.base_url, "videozoomer", n_videos=1, per_video=3, teacher=role)
        # A job named relatively is found only where the working directory came along: the node's own is another.
        entry = f"{sys.executable} -m jobs.cli generate videozoomer.yaml --out {out} --address auto"
        submit = ["--no-wait", "--working-dir", str(folder), "--", *entry.split()]

        head.job("submit", "--submission-id", "first", *submit)
        while sum(call["status"] == 200 for call in server.calls()) < 2:
            assert not client.get_job_status("first").is_terminal(), client.get_job_logs("first")
            time.sleep(0.2)
        client.stop_job("first")
        assert await_end_of(client, "first") == "STOPPED"
        ended = time.time()
        assert not RunStore(str(out)).finished("teach")

        head.job("submit", "--submission-id", "again", *submit)
        assert await_end_of(client, "again") == "SUCCEEDED", client.get_job_logs("again")
        calls = server.calls()
    said = [client.get_job_logs("first"), head.job("logs", "again")]
    assert "stopped; the same command goes on from here" in said[0] and "done: 6 attempts" in said[1]
    assert all(job.runtime_env["working_dir"].startswith("gcs://") for job in client.list_jobs())
    require_same_attempts(out)
    require_one_call_repeated(calls, ended)
    assert KEY not in "".join(said) + str(client.list_jobs())
    assert not files_with(KEY, head.log, head.folder, out, folder)
