"""Everything at once: a server at which nearly half of all requests go wrong, and kill -9 of the driver and of workers.

    python -m tests.benchmarks.chaos [--quick] [--json FILE] [--seed N] [--rounds N]

Under some 300 attempts the server answers with 429 and `Retry-After`, 500, resets, hangs, truncated JSON, empty and
gigantic replies (`tests/server_faults.py`), while the driver is killed five times and a worker five times. Bars: the
final rows of all stages equal those of an undisturbed run; each kind of fault took place; the only answered calls that
are sent again were in flight at a kill, and no more than may be in flight. With --rounds it is a soak: so many trials,
each with a seed of its own, and every one must meet the bars.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.kills import Outcome, Setup, trial
from tests.server_faults import SHARES

FULL = Setup("longvideo_r1", 5, 34, 0.2, 24, 6.0, timeout_s=5.0)
QUICK = Setup("videozoomer", 1, 2, 0.3, 4, 1.0, timeout_s=3.0)
"""Three questions on each video, three attempts at each."""

_ROLES = 2
"""A worker of the second stage calls the teacher and, for a `video_qa`, the captioner."""


def passed(setup: Setup, outcome: Outcome, every_fault: bool) -> bool:
    """Whether all bars were met. every_fault: whether each kind must have taken place."""
    kills = outcome.driver_kills + outcome.worker_kills
    return (
        outcome.passed(setup.kills)
        and outcome.poisoned == 0
        and outcome.calls_repeated <= kills * _ROLES * setup.concurrency
        and (outcome.faults.keys() == SHARES.keys() or not every_fault)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one kill of each kind, 18 attempts")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    setup, outcomes = QUICK if options.quick else FULL, list[Outcome]()
    for seed in range(options.seed, options.seed + options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(trial(Path(folder), setup, seed))
        Console().print(
            table(f"Faults of every kind, and kill -9 at random moments (seed {seed})", figures(outcomes[-1]))
        )
    if options.json:
        options.json.write_text(json.dumps([figures(outcome) for outcome in outcomes], indent=2))
    return 0 if all(passed(setup, outcome, every_fault=not options.quick) for outcome in outcomes) else 1


def figures(outcome: Outcome) -> dict[str, Any]:
    return {name: value for name, value in asdict(outcome).items() if name != "deaths"}


def table(title: str, rows: dict[str, Any]) -> Table:
    found = Table("figure", "", title=title)
    for name, value in rows.items():
        found.add_row(name, f"{value:.2f}" if isinstance(value, float) else str(value))
    return found


if __name__ == "__main__":
    sys.exit(main())
