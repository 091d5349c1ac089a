"""How long `zoomtrail stats` and `zoomtrail cut` take for a run of a million attempts, and what memory they need.

    python -m tests.benchmarks.inspect [--quick] [--json FILE] [--rows N] [--folder FOLDER]

Each command runs as a user's does, in a process of its own; the files lie in the disk's cache. `cut` is set against a
bare duckdb `COPY` of the same trajectories with their verdicts under the same condition, in turns; the medians count.
The copy joins and writes every column of both, where a cut renders rows for a trainer: other work of the same input.
The conditions keep 1 % and 10 % of the attempts by what verdicts tell; a few by what trajectories alone tell, too; and
what the preset `default` keeps. Bars: `stats` under 5 s; `cut` at most 1.3 times as long as the copy; each under 2 GB
at its peak, the proportional set sizes of all its processes summed. Exit status 1 where one is missed; not with
--quick: 20,000 attempts, whose bars say little.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from jobs.presets import preset
from jobs.roll_up import roll_up_apart
from tests.benchmarks.large_runs import large_run

STATS_BAR_S, CUT_BAR, MEMORY_BAR_MB = 5.0, 1.3, 2000.0
ROUNDS = 3
SAMPLED_S = 0.05

_BARE = """
import sys, duckdb
run, condition, out = sys.argv[1:]
duckdb.execute(f'''COPY (
    SELECT * FROM (
        SELECT t.*, v.* EXCLUDE (trajectory_id, question_id, video_id, attempt, protocol, status, usage)
        FROM '{run}/trajectories/*.parquet' t JOIN '{run}/verdicts/*.parquet' v USING (trajectory_id)
    ) WHERE {condition}
) TO '{out}' (FORMAT parquet, COMPRESSION zstd)''')
"""
_THRESHOLD = """
import sys, duckdb
run, share = sys.argv[1:]
least = f"quantile_disc(coalesce(evidence_gain, -1), 1 - {share})"
print(duckdb.execute(f"SELECT {least} FROM '{run}/verdicts/*.parquet'").fetchall()[0][0])
"""


@dataclass(frozen=True)
class Took:
    """seconds, cpu_seconds: of a command; peak_mb: the most memory that its processes held together."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def main() -> int:
    options = _options()
    folder = options.folder or Path(tempfile.gettempdir()) / "zoomtrail-benchmarks" / f"inspect-{options.rows}"
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.print(f"a run of {options.rows:,} attempts in {folder} (kept for the next time)", markup=False)
    store = large_run(folder, options.rows)
    began = time.monotonic()
    roll_up_apart(store, console)  # as the end of a run does
    rounds = 1 if options.quick else ROUNDS
    figures: dict[str, Any] = {"rows": options.rows, "cpus": os.cpu_count(), "rounds": rounds}
    figures["rolled_up_s"] = time.monotonic() - began
    cli = [sys.executable, "-m", "jobs.cli"]
    figures["stats"] = [asdict(_took([*cli, "stats", str(folder)])) for _ in range(rounds)]
    figures["cuts"] = {name: _cuts(cli, folder, *asked, rounds) for name, asked in _conditions(folder).items()}
    bars = _bars(figures)
    _show(console, figures, bars)
    figures["met"] = all(value <= bar for value, bar in bars.values())
    if options.json:
        options.json.write_text(json.dumps(figures | {"bars": bars}, indent=2))
    return 0 if figures["met"] or options.quick else 1


def _conditions(folder: Path) -> dict[str, tuple[list[str], str]]:
    """By name the options of a cut, and its condition."""
    one, ten = (f"evidence_gain >= {_least(folder, share)}" for share in (0.01, 0.10))
    wheres = {"1 % kept": one, "10 % kept": ten, "final_answer": f"final_answer = 'A' AND {ten}"}
    found = {name: (["--where", condition], condition) for name, condition in wheres.items()}
    return found | {"default": (["--preset", "default"], preset("default").sql)}


def _least(folder: Path, share: float) -> str:
    """The evidence gain that such a share of the attempts has, or more."""
    command = [sys.executable, "-c", _THRESHOLD, str(folder), str(share)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _cuts(cli: list[str], folder: Path, options: list[str], condition: str, rounds: int) -> dict[str, Any]:
    """The product's cut and the bare copy by turns."""
    ours, bare = [], []
    for _ in range(rounds):
        shutil.rmtree(folder / "cuts", ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            out = str(Path(scratch) / "bare.parquet")
            bare.append(asdict(_took([sys.executable, "-c", _BARE, str(folder), condition, out])))
        ours.append(asdict(_took([*cli, "cut", str(folder), "benchmark", *options])))
    shutil.rmtree(folder / "cuts", ignore_errors=True)
    return {"condition": condition, "cut": ours, "copy": bare}


def _took(command: list[str]) -> Took:
    """What a command took. Raises CalledProcessError where it fails."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak, ended = 0.0, 0
    while not ended:
        peak = max(peak, _held_mb(process.pid))
        time.sleep(SAMPLED_S)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    # The largest process by itself is known exactly; of several the sum at the moments that were looked at.
    return Took(seconds, usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss / 1024))


def _held_mb(pid: int) -> float:
    """Of a process and all below it the proportional set sizes: what several share counts once."""
    held = 0.0
    try:
        tree = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return held
    for one in tree:
        with suppress(OSError):  # it has ended
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            held += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return held


def _median(took: list[dict[str, float]], what: str = "seconds") -> float:
    return statistics.median(one[what] for one in took)


def _bars(figures: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """By name the measured value and what it may come to."""
    bars = {"stats, seconds": (_median(figures["stats"]), STATS_BAR_S)}
    bars["stats, peak MB"] = (max(one["peak_mb"] for one in figures["stats"]), MEMORY_BAR_MB)
    for name, cut in figures["cuts"].items():
        bars[f"cut, {name}: times the bare copy of every column"] = (
            _median(cut["cut"]) / _median(cut["copy"]),
            CUT_BAR,
        )
        bars[f"cut, {name}: peak MB"] = (max(one["peak_mb"] for one in cut["cut"]), MEMORY_BAR_MB)
    return bars


def _show(console: Console, figures: dict[str, Any], bars: dict[str, tuple[float, float]]) -> None:
    table = Table(title=f"{figures['rows']:,} attempts, {figures['cpus']} CPUs, medians of {figures['rounds']}")
    for column in ("measured", "seconds", "CPU s", "peak MB"):
        table.add_column(column, justify="left" if column == "measured" else "right")
    measured = {"stats": figures["stats"]}
    for name, cut in figures["cuts"].items():
        measured |= {f"cut, {name}": cut["cut"], f"bare copy of every column, {name}": cut["copy"]}
    for name, took in measured.items():
        table.add_row(name, *(f"{_median(took, what):.1f}" for what in ("seconds", "cpu_seconds", "peak_mb")))
    console.print(table)
    for name, (value, bar) in bars.items():
        missed = "" if value <= bar else " MISSED"
        console.print(f"{name}: {value:.2f} (bar {bar}){missed}", markup=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    options.rows = options.rows or (20_000 if options.quick else 1_000_000)
    return options


if __name__ == "__main__":
    sys.exit(main())
