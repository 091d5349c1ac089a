"""What ten million trajectories would take, reckoned from a finished run: on paper, and only from measured figures.

    python -m tests.benchmarks.ten_million RUN [--attempts N] [--set NAME=NUMBER]... [--json FILE]

RUN is a pilot like the large run to come: same job, same kind of videos, some hundred attempts. What one takes is RUN's
own; the rest are figures of other benchmarks and capacities, printed with what they stand for, which `--set` replaces
by yours. For N attempts: need = N x what one takes; days = need / capacity. What needs the most days breaks first.
A row whose figure nobody has given is shown as not measured, after the others.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from math import inf, isnan
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.kept_calls import KeptCalls
from pipeline.store import RunStore
from schemas.config import DIRECTORIES, STAGES

UNKNOWN = float("nan")
REQUESTS = {"put": "writes", "get": "reads", "head": "reads", "list": "writes"}
"""Kinds of request to the store, with what they count as."""

CAPACITIES = {
    "teacher_requests_per_minute": (5_000.0, "an account's limit; yours is at your provider"),
    "teacher_tokens_per_minute": (4_000_000.0, "an account's limit, read and written"),
    "captioner_requests_per_minute": (3_000.0, "of your captioner; `vllm bench serve` measures it"),
    "caption_workers": (32.0, "as in jobs/configs/cluster.yaml"),
    "replay_workers": (64.0, "as in jobs/configs/cluster.yaml: a GPU each"),
    "replay_gpu_seconds_per_attempt": (UNKNOWN, "of your verifier on its GPU; not given: the run's own seconds"),
    "cpu_cores": (328.0, "as in jobs/configs/kuberay.yaml: 9 x 8 for caption and teach, 64 x 4 for replay"),
    "captioner_gpus": (4.0, "as in jobs/configs/node.yaml: those of one server"),
    "captioner_gpu_seconds_per_call": (UNKNOWN, "the server's GPUs over the calls a second that it answers when full"),
    "cpu_ms_per_attempt": (UNKNOWN, "our own code, of all stages: `tests.benchmarks.scale --part overhead`"),
    **{f"store_{kind}s_per_attempt": (UNKNOWN, "`tests.benchmarks.scale --part store`") for kind in REQUESTS},
    "store_writes_per_second": (3_500.0, "S3's promise of PUT, LIST and DELETE for one prefix; calls/ has 256"),
    "store_reads_per_second": (5_500.0, "S3's promise of GET and HEAD for one prefix"),
}
"""By name: a number, and what it stands for. None of them comes from the run."""


@dataclass(frozen=True)
class Measured:
    """Of one attempt, on the mean over all of a run: failed and broken ones count.

    calls, tokens (read and written), dollars: by role, the last None where a price is unknown. bytes: by folder
    of the run, its plan, ledger and logs as well. seconds: of a worker, by stage. shards: a small fraction.
    """

    attempts: int
    calls: dict[str, float]
    tokens: dict[str, float]
    dollars: dict[str, float | None]
    bytes: dict[str, float]
    seconds: dict[str, float]
    shards: float


def measure(run: RunStore) -> Measured:
    """Raises ValueError where a run is not finished."""
    shards = {stage: run.finished(stage) for stage in STAGES}
    if not shards["replay"] or len({frozenset(found) for found in shards.values()}) > 1:
        raise ValueError(f"{run.url} is not finished: run it to its end first")
    footers = {stage: [run.footer(stage, shard) for shard in sorted(found)] for stage, found in shards.items()}
    attempts = sum(footer["rows"] for footer in footers["teach"])
    calls, tokens, dollars, size = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    unpriced = set[str]()
    for call in KeptCalls(run).each():
        size["calls"] += call.bytes
        if call.kind == "call":
            calls[call.role] += 1
            tokens[call.role] += call.usage.prompt_tokens + call.usage.completion_tokens
            dollars[call.role] += call.usage.cost_usd or 0.0
            unpriced |= {call.role} if call.usage.cost_usd is None else set()
    for stage, folder in DIRECTORIES.items():
        size[folder] += sum(file.bytes for file in run.storage.files(folder))
        assert size[folder], f"{stage} has no files"
    for folder in ("plan", "ledger", "logs"):
        size[folder] = sum(file.bytes for file in run.storage.files(folder))
    return Measured(
        attempts=attempts,
        calls={role: count / attempts for role, count in calls.items()},
        tokens={role: count / attempts for role, count in tokens.items()},
        dollars={role: None if role in unpriced else dollars[role] / attempts for role in calls},
        bytes={folder: count / attempts for folder, count in size.items()},
        seconds={stage: sum(f["seconds"] for f in found) / attempts for stage, found in footers.items()},
        shards=len(shards["replay"]) / attempts,
    )


@dataclass(frozen=True)
class Need:
    """Something that runs short. need: for all attempts, in `unit`; days: at its capacity. NaN: not measured."""

    what: str
    need: float
    unit: str
    days: float

    @property
    def measured(self) -> bool:
        return not isnan(self.days)


def needs(one: Measured, n: int, has: dict[str, float]) -> list[Need]:
    """What takes longest comes first, and last what is not measured. has: capacities. What is not used is left out."""
    found = [Need(what, n * each, unit, n * each / per_day) for what, each, unit, per_day in _rows(one, has)]
    used = [need for need in found if need.need or not need.measured]
    return sorted(used, key=lambda need: -need.days if need.measured else inf)


def _rows(one: Measured, has: dict[str, float]) -> list[tuple[str, float, str, float]]:
    """What it is, how much an attempt needs of it, in which unit, and how much there is in a day."""
    minutes, seconds = 24 * 60.0, 86_400.0
    calls, tokens = one.calls, one.tokens
    captions = calls.get("captioner", 0)
    gpu_hours = captions * has["captioner_gpu_seconds_per_call"] / 3600 if captions else 0
    replayed = has["replay_gpu_seconds_per_attempt"]
    replay_s = one.seconds["replay"] if isnan(replayed) else replayed
    return [
        ("the teacher's requests", calls.get("teacher", 0), "calls", has["teacher_requests_per_minute"] * minutes),
        ("the teacher's tokens", tokens.get("teacher", 0), "tokens", has["teacher_tokens_per_minute"] * minutes),
        ("the captioner's requests", captions, "calls", has["captioner_requests_per_minute"] * minutes),
        ("the captioner's GPUs", gpu_hours, "GPU hours", has["captioner_gpus"] * 24),
        ("caption workers", one.seconds["caption"] / 3600, "worker hours", has["caption_workers"] * 24),
        ("replay workers", replay_s / 3600, "GPU hours", has["replay_workers"] * 24),
        ("cores for our own code", has["cpu_ms_per_attempt"] / 3.6e6, "core hours", has["cpu_cores"] * 24),
        *(
            (f"the store's {kind.upper()}", has[f"store_{kind}s_per_attempt"], "requests", per_s * seconds)
            for kind, per_s in ((kind, has[f"store_{as_}_per_second"]) for kind, as_ in REQUESTS.items())
        ),
    ]


def show(one: Measured, n: int, has: dict[str, float], found: list[Need]) -> None:
    console = Console()
    title = f"{n:,} attempts, from {one.attempts:,}; the first row breaks first"
    table = Table("what", "needed", "", "days", title=title)
    for need in found:
        amount = "not measured" if isnan(need.need) else f"{need.need:,.0f}"
        table.add_row(need.what, amount, need.unit, f"{need.days:,.1f}" if need.measured else "not measured")
    console.print(table)
    for role, dollars in one.dollars.items():
        console.print(f"{role}: " + ("price unknown" if dollars is None else f"${n * dollars:,.0f}"))
    for folder, size in one.bytes.items():
        console.print(f"{folder}/: {n * size / 1e12:,.3f} TB")
    console.print(f"the whole run: {n * sum(one.bytes.values()) / 1e12:,.3f} TB")
    console.print(f"files: {n * sum(one.calls.values()):,.0f} calls, {n * one.shards * len(STAGES):,.0f} shards")
    for name, value in has.items():
        amount = "not measured" if isnan(value) else f"{value:g}"
        console.print(f"{name} = {amount}: {CAPACITIES[name][1]}", style="dim")


def setting(text: str) -> tuple[str, float]:
    """NAME=NUMBER, of a capacity. Raises ValueError."""
    name, _, value = text.partition("=")
    if name not in CAPACITIES:
        raise ValueError(f"{name} is none of {', '.join(CAPACITIES)}")
    return name, float(value)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--attempts", type=int, default=10_000_000)
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=NUMBER", dest="settings")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    has = {name: value for name, (value, _) in CAPACITIES.items()} | dict(options.settings)
    one = measure(RunStore(options.run).require())
    found = needs(one, options.attempts, has)
    show(one, options.attempts, has, found)
    if options.json:
        figures = {"attempts": options.attempts, "per_attempt": asdict(one), "capacities": has}
        options.json.write_text(json.dumps({**figures, "needs": [asdict(need) for need in found]}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
