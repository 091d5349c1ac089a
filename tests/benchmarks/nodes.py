"""Nodes of a Ray cluster killed and added at random while a run on an object store works on it, with faults everywhere.

    python -m tests.benchmarks.nodes [--quick] [--json FILE] [--minutes N] [--seed N]

A head that takes no work and misses a dead node soon (see `tests/ray_nodes.py`), and up to three nodes; a node dies by
SIGKILL of its raylet and all its workers. Videos and runs lie on an S3 server, of whose requests one in twenty is slow,
refused (503), reset, answered in vain or cut short; the models' server commits every fault of its own. Whole runs
follow one another until the time is over. Bars: the rows of all stages of each equal an undisturbed run's; no call is
sent whose reply is on the store; the only answered calls that are sent again were in flight at a kill, and no more than
may be in flight on a node; a node's death makes no item poison; after `zoomtrail clean` the store holds no file under a
temporary name and no unfinished upload.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from rich.console import Console
from rich.table import Table

from pipeline.media.fetched import FOLDER_VARIABLE
from pipeline.storage import Storage
from tests.benchmarks.kills import Outcome as Judged
from tests.benchmarks.kills import all_rows, finish, judge_calls, log_of
from tests.jobfiles import write_job
from tests.object_store import BUCKET, ObjectStore, object_store, reached
from tests.ray_nodes import RayNodes
from tests.scripted_server import ScriptedServer

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Setup:
    """minutes: of disturbance at least; n_videos: of a run, with nine attempts each; nodes: at most, of two CPUs each.

    pause_s: between two events, at most; timeout_s: of a call; the server's hangs last twice as long.
    """

    minutes: float
    n_videos: int
    pause_s: float
    protocol: str = "longvideo_r1"
    nodes: int = 3
    concurrency: int = 4
    latency_s: float = 0.2
    timeout_s: float = 5.0


FULL = Setup(minutes=10, n_videos=16, pause_s=20)
QUICK = Setup(minutes=1, n_videos=2, pause_s=10, protocol="videozoomer", nodes=2, concurrency=2, latency_s=0.6)

_STORE_FAULTS = ("slow", "503", "reset", "lost", "truncated")
_STORE_FAULT_SHARE = 0.05

_DURABLE_S = 5.0
"""A reply is on the store within this time, though requests fail: half a second where slow, and waits between tries.
Until then its call counts as in flight."""

_CPUS = 2
_ACTORS = {"caption": 2, "teach": 2, "replay": 2}


@dataclass
class Outcome:
    """What became of all runs together. attempts: of each. noticed: node deaths that a driver noticed under workers."""

    runs: int = 0
    attempts: int = 0
    nodes_killed: int = 0
    nodes_added: int = 0
    noticed: int = 0
    store_requests: int = 0
    store_faults: int = 0
    calls: int = 0
    calls_repeated: int = 0
    calls_repeated_though_answered: int = 0
    calls_sent_though_kept: int = 0
    rows_equal: bool = True
    poisoned: int = 0
    leftovers: int = 0

    def passed(self, setup: Setup) -> bool:
        """Whether all bars were met, and nodes were killed."""
        return (
            self.rows_equal
            and self.nodes_killed > 0
            and self.noticed > 0
            and self.poisoned == self.leftovers == 0
            and self.calls_repeated_though_answered == self.calls_sent_though_kept == 0
            and self.calls_repeated <= self.nodes_killed * most_in_flight(setup)
        )


def most_in_flight(setup: Setup) -> int:
    """Calls that may be in flight on one node if all actors are on it, each of their models with its own."""
    models = {"longvideo_r1": _ACTORS["caption"] + 2 * _ACTORS["teach"], "videozoomer": _ACTORS["teach"]}
    return models[setup.protocol] * setup.concurrency


def start(job: Path, out: Path, address: str, url: str = "") -> "subprocess.Popen[bytes]":
    """The command on a cluster; what it says goes into a log beside `out`. url: where the run lies, if not there."""
    log = log_of(out).open("ab")
    command = [sys.executable, "-m", "jobs.cli", "generate", str(job), "--out", url or str(out), "--address", address]
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)


def disturb(
    process: "subprocess.Popen[bytes]", server: ScriptedServer, nodes: RayNodes, setup: Setup, dice: random.Random
) -> list[float]:
    """Kills and adds nodes until a run ends; the times of the kills. Before each, a new call has begun."""
    kills = list[float]()
    while process.poll() is None:
        kill = len(nodes) and (len(nodes) == setup.nodes or dice.random() < 0.5)
        now = time.time()
        while kill and process.poll() is None and not any(call["begin"] > now for call in server.calls()):
            time.sleep(0.1)
        due = time.monotonic() + dice.uniform(0.2, setup.pause_s)
        while process.poll() is None and time.monotonic() < due:
            time.sleep(0.1)
        if process.poll() is None and kill:
            kills.append(time.time())
            nodes.kill(dice)
        elif process.poll() is None:
            nodes.add(_CPUS)
    return kills


def disturbed_run(
    folder: Path, setup: Setup, store: ObjectStore, nodes: RayNodes, dice: random.Random, outcome: Outcome
) -> dict[str, list[dict[str, Any]]]:
    """One run while nodes come and go; its rows. Its figures are added to the outcome."""
    name, url = f"run-{outcome.runs}", f"s3://{BUCKET}/run-{outcome.runs}"
    log = folder / f"calls-{outcome.runs}.jsonl"
    before = len(nodes)
    with ScriptedServer(log, folder / "questions.jsonl", setup.latency_s, hang_s=2 * setup.timeout_s) as server:
        process = start(_job(folder, server.base_url, setup, f"{name}.yaml"), folder / name, nodes.address, url)
        kills = disturb(process, server, nodes, setup, dice)
        finish(process, folder / name)
        judged = Judged(setup.protocol, deaths=[(at, at) for at in kills])
        judge_calls(server.calls(), judged, _DURABLE_S)
        outcome.calls_sent_though_kept += _sent_though_kept(server.calls(), store, name)
    rows = all_rows(url)
    outcome.runs += 1
    outcome.nodes_killed += len(kills)
    outcome.nodes_added += len(nodes) - before + len(kills)  # those that came up
    outcome.calls += judged.calls
    outcome.calls_repeated += judged.calls_repeated
    outcome.calls_repeated_though_answered += judged.calls_repeated_though_answered
    logs = Storage(f"{url}/logs")
    outcome.noticed += sum(_last_line(logs.read(log))["nodes_lost"] for log in logs.names("", ".jsonl"))
    kinds = Counter((row["error"] or {}).get("kind") for stage in rows.values() for row in stage)
    outcome.poisoned += kinds["poison"]
    _clean(url)
    outcome.leftovers += leftovers(name)
    return rows


def _sent_though_kept(calls: list[dict[str, Any]], store: ObjectStore, run: str) -> int:
    """Calls that began when the store had said that it holds their reply. A call's file is named by its key."""
    kept = dict[str, float]()
    for one in store.seen:
        if one.method == "PUT" and one.key.startswith(f"{run}/calls/") and one.status == 200:
            kept.setdefault(Path(one.key).stem, one.at)
    assert kept, "calls are kept where this looks for them"
    return sum(call["begin"] > kept.get(call["key"], call["begin"]) for call in calls)


def trial(folder: Path, setup: Setup, seed: int) -> Outcome:
    """An undisturbed run, then disturbed ones until the time is over, each compared with it."""
    outcome, dice = Outcome(), random.Random(seed)
    _job(folder, "http://127.0.0.1/v1", setup, "job.yaml")
    with object_store() as server, reached(server) as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder / "fetched"))
        videos = Storage(f"s3://{BUCKET}/videos")
        for video in sorted((folder / "videos").iterdir()):
            videos.write_file(video.name, video)
        expected = _undisturbed(folder, setup)
        outcome.attempts = len(expected["teach"])
        store.forget()
        store.faults = lambda number, method, path: _fault(seed, number)
        with RayNodes() as nodes:
            for _ in range(setup.nodes - 1):
                nodes.add(_CPUS)
            began = time.monotonic()
            while not outcome.runs or time.monotonic() - began < 60 * setup.minutes:
                rows = disturbed_run(folder, setup, store, nodes, dice, outcome)
                outcome.rows_equal &= rows == expected
                if not len(nodes):
                    nodes.add(_CPUS)
        outcome.store_requests = len(store.seen)
        outcome.store_faults = sum(bool(one.fault) for one in store.seen)
    return outcome


def _undisturbed(folder: Path, setup: Setup) -> dict[str, list[dict[str, Any]]]:
    """The rows of a run on the store without faults or kills."""
    url = f"s3://{BUCKET}/calm"
    with ScriptedServer(folder / "calm.jsonl", folder / "questions.jsonl", setup.latency_s) as server:
        command = [sys.executable, "-m", "jobs.cli", "generate", _job(folder, server.base_url, setup, "calm.yaml")]
        subprocess.run([*map(str, command), "--out", url], cwd=ROOT, check=True, capture_output=True)
    return all_rows(url)


def _fault(seed: int, number: int) -> str:
    """What befalls a request to the store: of the same number always the same."""
    dice = random.Random(f"{seed} {number}")
    return dice.choice(_STORE_FAULTS) if dice.random() < _STORE_FAULT_SHARE else ""


def _job(folder: Path, base_url: str, setup: Setup, name: str) -> Path:
    call = {"concurrency": setup.concurrency, "timeout_s": setup.timeout_s, "retries": 20}
    more: dict[str, Any] = {"captioner": call} if setup.protocol == "longvideo_r1" else {}
    more |= {"teacher": call, "attempts": 3, "workers": {**_ACTORS, "videos_per_shard": 1}}
    more |= {"source": {"videos": f"s3://{BUCKET}/videos"}}
    job = write_job(folder, base_url, setup.protocol, setup.n_videos, 3, **more)
    return job.replace(folder / name)


def _last_line(log: bytes) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(log.decode().splitlines()[-1])
    return line


def _clean(url: str) -> None:
    command = [sys.executable, "-m", "jobs.cli", "clean", url, "--yes", "--minutes", "0"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def leftovers(run: str) -> int:
    """What is on the store of a run that only a crash leaves, by its own listing."""
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    temporary = sum(name.endswith(".tmp") for name in fs.find(f"{BUCKET}/{run}"))
    uploads = fs.call_s3("list_multipart_uploads", Bucket=BUCKET, Prefix=f"{run}/").get("Uploads", [])
    return temporary + len(uploads)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute, runs of 18 attempts")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    setup = QUICK if options.quick else FULL
    if options.minutes:
        setup = Setup(**{**asdict(setup), "minutes": options.minutes})
    with tempfile.TemporaryDirectory() as folder:
        outcome = trial(Path(folder), setup, options.seed)
    table = Table("figure", "", title="Nodes killed and added at random, and faults of every kind")
    for name, value in asdict(outcome).items():
        table.add_row(name, str(value))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(asdict(outcome), indent=2))
    return 0 if outcome.passed(setup) else 1


if __name__ == "__main__":
    sys.exit(main())
