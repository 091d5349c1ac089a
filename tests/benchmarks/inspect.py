"""How long `zoomtrail stats` and `zoomtrail cut` take for a run of a million attempts, and what memory they need.

    python -m tests.benchmarks.inspect [--quick] [--json FILE] [--rows N] [--folder FOLDER]

Each command runs as a user's does, in a process of its own; the files lie in the disk's cache. `cut` is set against a
bare duckdb `COPY` of the same trajectories with their verdicts under the same condition, in turns; the medians count.
The conditions keep 1 % and 10 % of the attempts. Bars: `stats` under 5 s; `cut` at most 1.3 times as long as the copy;
each under 2 GB at its peak. Exit status 1 where one is missed. --quick: 20,000 attempts, whose bars say little.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.large_runs import large_run

STATS_BAR_S, CUT_BAR, MEMORY_BAR_MB = 5.0, 1.3, 2000.0
ROUNDS = 3
SHARES = {"1 %": 0.01, "10 %": 0.10}

_BARE = """
import sys, duckdb
run, condition, out = sys.argv[1:]
duckdb.execute(f'''COPY (
    SELECT t.*, v.* EXCLUDE (trajectory_id, question_id, video_id, attempt, protocol, status, usage)
    FROM '{run}/trajectories/*.parquet' t JOIN '{run}/verdicts/*.parquet' v USING (trajectory_id) WHERE {condition}
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
    """seconds, cpu_seconds: of a process; peak_mb: the most memory that it held."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def main() -> int:
    options = _options()
    folder = options.folder or Path(tempfile.gettempdir()) / "zoomtrail-benchmarks" / f"inspect-{options.rows}"
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.print(f"a run of {options.rows:,} attempts in {folder} (kept for the next time)", markup=False)
    large_run(folder, options.rows)
    rounds = 1 if options.quick else ROUNDS
    figures: dict[str, Any] = {"rows": options.rows, "cpus": os.cpu_count(), "rounds": rounds}
    cli = [sys.executable, "-m", "jobs.cli"]
    figures["stats"] = [asdict(_took([*cli, "stats", str(folder)])) for _ in range(rounds)]
    figures["cuts"] = {name: _cuts(cli, folder, share, rounds) for name, share in SHARES.items()}
    bars = _bars(figures)
    _show(console, figures, bars)
    figures["met"] = all(value <= bar for value, bar in bars.values())
    if options.json:
        options.json.write_text(json.dumps(figures | {"bars": bars}, indent=2))
    return 0 if figures["met"] else 1


def _cuts(cli: list[str], folder: Path, share: float, rounds: int) -> dict[str, Any]:
    """The product's cut and the bare copy by turns."""
    least = subprocess.run(
        [sys.executable, "-c", _THRESHOLD, str(folder), str(share)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    condition = f"evidence_gain >= {least}"
    ours, bare = [], []
    for _ in range(rounds):
        shutil.rmtree(folder / "cuts", ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            out = str(Path(scratch) / "bare.parquet")
            bare.append(asdict(_took([sys.executable, "-c", _BARE, str(folder), condition, out])))
        ours.append(asdict(_took([*cli, "cut", str(folder), "benchmark", "--where", condition])))
    shutil.rmtree(folder / "cuts", ignore_errors=True)
    return {"condition": condition, "cut": ours, "copy": bare}


def _took(command: list[str]) -> Took:
    """What a command took. Raises CalledProcessError where it fails."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Took(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _median(took: list[dict[str, float]], what: str = "seconds") -> float:
    return statistics.median(one[what] for one in took)


def _bars(figures: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """By name the measured value and what it may come to."""
    bars = {"stats, seconds": (_median(figures["stats"]), STATS_BAR_S)}
    bars["stats, peak MB"] = (max(one["peak_mb"] for one in figures["stats"]), MEMORY_BAR_MB)
    for name, cut in figures["cuts"].items():
        bars[f"cut that keeps {name}, times the copy"] = (_median(cut["cut"]) / _median(cut["copy"]), CUT_BAR)
        bars[f"cut that keeps {name}, peak MB"] = (max(one["peak_mb"] for one in cut["cut"]), MEMORY_BAR_MB)
    return bars


def _show(console: Console, figures: dict[str, Any], bars: dict[str, tuple[float, float]]) -> None:
    table = Table(title=f"{figures['rows']:,} attempts, {figures['cpus']} CPUs, medians of {figures['rounds']}")
    for column in ("measured", "seconds", "CPU s", "peak MB"):
        table.add_column(column, justify="left" if column == "measured" else "right")
    measured = {"stats": figures["stats"]}
    for name, cut in figures["cuts"].items():
        measured |= {f"cut, {name} kept": cut["cut"], f"bare copy, {name} kept": cut["copy"]}
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
