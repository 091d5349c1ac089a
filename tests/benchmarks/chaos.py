"""Everything at once: a server at which nearly half of all requests go wrong, and kill -9 of the driver and of workers.

    python -m tests.benchmarks.chaos [--quick] [--json FILE] [--seed N]

Under some 300 attempts the server answers with 429 and `Retry-After`, 500, resets, hangs, truncated JSON, empty and
gigantic replies (`tests/server_faults.py`), while the driver is killed five times and a worker five times. Bars: the
final rows of all stages equal those of an undisturbed run; each kind of fault took place; the only answered calls that
are sent again were in flight at a kill, and no more than may be in flight.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

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
    options = parser.parse_args()
    setup = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        outcome = trial(Path(folder), setup, options.seed)
    figures = {name: value for name, value in asdict(outcome).items() if name != "deaths"}
    table = Table("figure", "", title="Faults of every kind, and kill -9 at random moments")
    for name, value in figures.items():
        table.add_row(name, f"{value:.2f}" if isinstance(value, float) else str(value))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    return 0 if passed(setup, outcome, every_fault=not options.quick) else 1


if __name__ == "__main__":
    sys.exit(main())
