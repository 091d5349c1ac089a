"""Nothing lost, nothing twice: kill -9 of the driver and of workers at random moments, then the same command again.

    python -m tests.benchmarks.kills [--quick] [--json FILE]

Bars: the final rows of all stages equal those of an undisturbed run; the server sees again only calls that were in
flight at a kill; a further run does nothing in under 5 s. The server replies as a pure function of the request, so
rows can be compared.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.store import ROWS, RunStore
from schemas.config import STAGES
from tests.jobfiles import write_job
from tests.scripted_server import ScriptedServer


@dataclass(frozen=True)
class Setup:
    """What is run and disturbed. kills: of the driver, and as many of workers; videos: with nine attempts each.

    latency_s, concurrency: of the server and of each model, slow enough for all kills to find work going on.
    wait_s: each kill comes between 0.2 and this many seconds after a first new call. timeout_s: of a call; where it is
    set, the disturbed run's server commits every fault of `tests/server_faults.py`, hangs beyond it included.
    """

    protocol: str
    kills: int
    n_videos: int
    latency_s: float
    concurrency: int
    wait_s: float
    timeout_s: float = 0.0


FULL = (Setup("longvideo_r1", 5, 6, 0.2, 4, 3.0), Setup("videozoomer", 5, 6, 0.6, 2, 3.0))
QUICK = (Setup("videozoomer", 1, 1, 0.6, 2, 0.5),)

MARGIN_S = 0.5
"""A reply that left the server this long before a kill may not have been durable yet: the call counts as in flight."""


@dataclass
class Outcome:
    """What a series of kills did to one run."""

    protocol: str
    driver_kills: int = 0
    worker_kills: int = 0
    attempts: int = 0
    calls: int = 0
    calls_repeated: int = 0
    calls_repeated_though_answered: int = 0
    rows_equal: bool = False
    poisoned: int = 0
    second_run_s: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    deaths: list[tuple[float, float]] = field(default_factory=list, repr=False)

    def passed(self, kills: int) -> bool:
        """Whether all bars were met, and all the kills took place."""
        met = self.rows_equal and self.calls_repeated_though_answered == 0 and self.second_run_s < 5.0
        return met and self.driver_kills == self.worker_kills == kills


def start(job: Path, out: Path) -> "subprocess.Popen[bytes]":
    log = log_of(out).open("ab")
    command = [sys.executable, "-m", "jobs.cli", "generate", str(job), "--out", str(out)]
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).parents[2])


def log_of(out: Path) -> Path:
    return out.parent / f"{out.name}.log"


def finish(process: "subprocess.Popen[bytes]", out: Path) -> None:
    """Waits for the end of a run. Raises RuntimeError with the end of its log where it failed."""
    if process.wait(timeout=1500) != 0:
        raise RuntimeError(f"the run ended with status {process.returncode}:\n{log_of(out).read_text()[-4000:]}")


def descendants(pid: int) -> dict[int, str]:
    """Names of all processes below one, by id."""
    parents: dict[int, list[int]] = defaultdict(list)
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            parents[int(stat.rpartition(")")[2].split()[1])].append(int(entry.name))
    found: dict[int, str] = {}
    queue = [pid]
    while queue:
        for child in parents[queue.pop()]:
            found[child] = names[child]
            queue.append(child)
    return found


def alive(pids: Iterable[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists() and not _zombie(pid)}


def await_end(below: dict[int, str], patience_s: float = 30.0) -> None:
    """Waits for the end of a dead driver's processes; Ray's two agents outlive it by minutes and are ended by their id.

    Raises RuntimeError where a worker, a decoder or Ray itself lives on.
    """
    agents = {pid for pid, name in below.items() if name.startswith(("ray::DashboardAgent", "ray::RuntimeEnvAgent"))}
    deadline = time.monotonic() + patience_s
    while left := alive(below.keys() - agents):
        if time.monotonic() > deadline:
            raise RuntimeError(f"of a killed driver live on: {[below[pid] for pid in left]}")
        time.sleep(0.1)
    for pid in alive(agents):
        os.kill(pid, signal.SIGTERM)


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@dataclass
class Disturbance:
    """One disturbed run: its job, directory and server, and what was done to it."""

    setup: Setup
    job: Path
    out: Path
    server: ScriptedServer
    dice: random.Random
    outcome: Outcome

    def await_work(self, process: "subprocess.Popen[bytes]") -> bool:
        """Waits for a call that begins from now on, and a random while; False where the run ended before."""
        now = time.time()
        while process.poll() is None and not any(call["begin"] > now for call in self.server.calls()):
            time.sleep(0.05)
        time.sleep(self.dice.uniform(0.2, self.setup.wait_s))
        return process.poll() is None

    def kill_driver(self) -> None:
        """Starts the run and kills its driver while it works."""
        process = start(self.job, self.out)
        if not self.await_work(process):
            return
        below = descendants(process.pid)
        killed = time.time()
        process.send_signal(signal.SIGKILL)
        self.outcome.driver_kills += 1
        process.wait()
        await_end(below)
        self.outcome.deaths.append((killed, time.time()))

    def kill_workers(self) -> None:
        """Runs to the end while workers are killed."""
        process = start(self.job, self.out)
        for _ in range(self.setup.kills):
            working = self.await_work(process)
            workers = [pid for pid, name in descendants(process.pid).items() if name.startswith("ray::StageActor")]
            if not working or not workers:
                break
            os.kill(self.dice.choice(workers), signal.SIGKILL)
            self.outcome.deaths.append((time.time(), time.time()))
            self.outcome.worker_kills += 1
        finish(process, self.out)


def all_rows(out: Path | str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every stage, in a fixed order."""
    store = RunStore(str(out))
    return {
        stage: [
            row.model_dump() for shard in sorted(store.finished(stage)) for row in store.rows(ROWS[stage], stage, shard)
        ]
        for stage in STAGES
    }


def judge_calls(calls: list[dict[str, Any]], outcome: Outcome, margin_s: float = MARGIN_S) -> None:
    """Counts the calls that were answered more than once, and those of them that no death explains.

    A death lasts from the kill to the end of the last process below: the workers of a killed driver call on for a
    moment. margin_s: how long a reply may take from the server until it is durable.
    """
    by_key: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in calls:
        if call["status"] == 200:
            by_key[call["key"]].append(call)
    outcome.calls = len(by_key)
    for times in by_key.values():
        for earlier in sorted(times, key=lambda call: call["begin"])[:-1]:
            outcome.calls_repeated += 1
            in_flight = any(
                earlier["begin"] <= end and kill <= earlier["end"] + margin_s for kill, end in outcome.deaths
            )
            outcome.calls_repeated_though_answered += not in_flight


def trial(folder: Path, setup: Setup, seed: int) -> Outcome:
    """An undisturbed run, a disturbed one, and their comparison."""
    outcome = Outcome(setup.protocol)
    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    roles = ("captioner", "teacher") if setup.protocol == "longvideo_r1" else ("teacher",)

    def job_for(server_url: str) -> Path:
        more: dict[str, Any] = {role: {"concurrency": setup.concurrency} for role in roles}
        if setup.timeout_s:
            more = {role: {**more[role], "timeout_s": setup.timeout_s, "retries": 20} for role in roles}
        more |= {"attempts": 3, "workers": {"videos_per_shard": 2}}
        return write_job(folder, server_url, setup.protocol, setup.n_videos, 3, **more)

    job_for("http://127.0.0.1/v1")
    pace = {"truth": folder / "questions.jsonl", "latency_s": setup.latency_s}
    with (
        ScriptedServer(folder / "first.jsonl", **pace) as calm,
        ScriptedServer(folder / "second.jsonl", **pace, hang_s=2 * setup.timeout_s) as server,
    ):
        calm_job = job_for(calm.base_url).replace(folder / "calm.yaml")
        calm_run = start(calm_job, undisturbed)
        job = job_for(server.base_url)
        disturbance = Disturbance(setup, job, disturbed, server, random.Random(seed), outcome)
        for _ in range(setup.kills):
            disturbance.kill_driver()
        disturbance.kill_workers()
        finish(start(job, disturbed), disturbed)
        finish(calm_run, undisturbed)
        began = time.monotonic()
        finish(start(job, disturbed), disturbed)
        outcome.second_run_s = time.monotonic() - began
        judge_calls(server.calls(), outcome)
        outcome.faults = dict(Counter(call["fault"] for call in server.calls() if call["fault"]))
    rows = all_rows(disturbed)
    outcome.rows_equal = rows == all_rows(undisturbed)
    outcome.attempts = len(rows["teach"])
    kinds = Counter((row["error"] or {}).get("kind") for stage_rows in rows.values() for row in stage_rows)
    outcome.poisoned = kinds["poison"]
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one kill of each kind, one protocol")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    setups = QUICK if options.quick else FULL
    outcomes = []
    for setup in setups:
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(trial(Path(folder), setup, options.seed))
    figures = [{name: value for name, value in asdict(o).items() if name != "deaths"} for o in outcomes]
    table = Table(
        "figure", *(setup.protocol for setup in setups), title="kill -9 at random moments, then the same command"
    )
    for name in figures[0]:
        table.add_row(name, *(f"{f[name]:.2f}" if isinstance(f[name], float) else str(f[name]) for f in figures))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    return 0 if all(outcome.passed(setup.kills) for setup, outcome in zip(setups, outcomes, strict=True)) else 1


if __name__ == "__main__":
    sys.exit(main())
