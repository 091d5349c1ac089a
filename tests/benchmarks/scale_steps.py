"""Steps of a run by themselves, each in a process of its own: what they take of the processor, memory and the store.

    python -m tests.benchmarks.scale_steps STEP JOB OUT

STEP: `plan`, `resume` (all that a driver reads before it hands out a shard), or `stages` (three shards after another
without Ray). Prints figures as JSON.
"""

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from fsspec import AbstractFileSystem

from jobs.generate import plan_run
from jobs.runs import Run
from jobs.tally import items_to_do
from pipeline.ledger import used_before
from pipeline.plan import Planned
from pipeline.plan_parts import ShardRows
from pipeline.stages.items import Care
from pipeline.storage import Storage
from pipeline.store import RunStore
from pipeline.worker import Assignment, Worker
from schemas.arrow import from_table
from schemas.config import STAGES

PAGE = 1000
"""Names that an object store lists at once."""


@contextmanager
def requests() -> Iterator[Counter[str]]:
    """Counts what is asked of the store: whole files read, written and removed, pages of names listed, files opened.

    All of `Storage` goes through its `_attempt`, whatever it is called; of a file that is opened to be read in parts
    the parts are not counted: `scale_store` has the requests as a server sees them.
    """
    asked: Counter[str] = Counter()
    attempt, opening = Storage._attempt, AbstractFileSystem.open

    def attempted(storage: Storage, what: str, name: str, work: Callable[[], Any], *expected: type[OSError]) -> Any:
        asked[what] += 1
        found = attempt(storage, what, name, work, *expected)
        asked[what] += max(0, ceil(len(found) / PAGE) - 1) if what == "list" else 0
        return found

    def opened(fs: AbstractFileSystem, *arguments: Any, **named: Any) -> Any:
        asked["open"] += 1
        return opening(fs, *arguments, **named)

    with patch.object(Storage, "_attempt", attempted), patch.object(AbstractFileSystem, "open", opened):
        yield asked


class Meter:
    """Seconds and processor seconds of this process and its ended children since the last look."""

    def __init__(self) -> None:
        self.figures()

    def figures(self) -> dict[str, float]:
        times = psutil.Process().cpu_times()
        own, below = times.user + times.system, times.children_user + times.children_system
        now = {"s": time.monotonic(), "cpu_s": own, "decoder_cpu_s": below}
        before, self._last = getattr(self, "_last", now), now
        return {name: value - before[name] for name, value in now.items()}


def memory() -> dict[str, float]:
    """MB of this process now, and the most that it had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"mb": psutil.Process().memory_info().rss / 1e6, "peak_mb": peak}


def plan(job: Path, out: str) -> dict[str, Any]:
    """Planning a run."""
    before, meter = memory()["mb"], Meter()
    with requests() as asked:
        run = plan_run(job, out)
    return {"attempts": run.attempts, "before_mb": before, **meter.figures(), **memory(), "requests": dict(asked)}


def resume(job: Path, out: str) -> dict[str, Any]:
    """Opening a run, and what its earlier sessions used."""
    found: dict[str, Any] = {"before_mb": memory()["mb"]}
    meter = Meter()
    with requests() as asked:
        run = plan_run(job, out)
        to_do = items_to_do(run.shards, run.done)
        first = min(run.shards.keys() - run.done["teach"])
        ShardRows(RunStore(run.url), run.shards).message(first)
        found["look"] = {"to_do": to_do, **meter.figures(), **memory(), "requests": dict(asked)}
        asked.clear()
        used = used_before(run.url, run.config.endpoints)
        calls = sum(of.answered for of in used.values())
        found["ledger"] = {"calls": calls, **meter.figures(), **memory(), "requests": dict(asked)}
    return found


def stages(job: Path, out: str) -> dict[str, Any]:
    """Each stage of some shards, without Ray; the first shard warms up and is not counted."""
    run = plan_run(job, out)
    return asyncio.run(_stages(run, sorted(run.shards)[:3]))


async def _stages(run: Run, shards: list[int]) -> dict[str, Any]:
    rows = ShardRows(RunStore(run.url), run.shards)
    found: dict[str, Any] = {}
    for stage in STAGES:
        worker = Worker(Assignment(run.config, run.url, stage, run.fingerprints[stage]))
        await worker.run(shards[0], from_table(Planned, rows.of(shards[0])), Care())
        meter = Meter()
        attempts = 0
        with requests() as asked:
            for shard in shards[1:]:
                planned = from_table(Planned, rows.of(shard))
                attempts += len(planned)
                await worker.run(shard, planned, Care())
        found[stage] = {"attempts": attempts, **meter.figures(), "requests": dict(asked)}
        found[stage]["progress"] = asdict(worker.progress())
    return found


STEPS = {"plan": plan, "resume": resume, "stages": stages}


def main() -> None:
    step, job, out = sys.argv[1:]
    print(json.dumps(STEPS[step](Path(job), out)))


if __name__ == "__main__":
    main()
