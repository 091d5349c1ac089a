"""Whether each trainer's own loader reads our rows, and learns exactly the turns that should be learned.

    python -m tests.benchmarks.trainers [llamafactory] [ms-swift] [trl] [verl] [--envs DIR] [--json FILE]

Installs each trainer from the package registry in an environment of its own (kept with --envs, else thrown away), cuts
small runs in each form that it reads, and has its own code make training samples of them: loader, template, collator,
with a tokenizer that has a token for each byte. The samples, decoded, must be the chat that our own rows hold, and the
tokens with labels the learned turns and their end mark, nothing else; each picture must be there, in its place; a
reward must get what it needs. Exit status 1 where one sample differs, or a trainer cannot be had.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.store import RunStore
from tests.benchmarks.environments import Failed
from tests.benchmarks.trainer_cases import Case, Wanted, cases, make_runs, task, wanted
from tests.benchmarks.trainer_envs import PACKAGES, ask, python_of


@dataclass
class Result:
    """How a trainer read one cut. Each count is of rows: in our cut, read, and right in text, labels, pictures, values.

    labels, values: None where the kind has none; error: why nothing was read.
    """

    trainer: str
    version: str
    format: str
    kind: str
    run: str
    rows: int
    read: int = 0
    texts: int = 0
    labels: int | None = None
    images: int = 0
    values: int | None = None
    error: str = ""

    @property
    def right(self) -> bool:
        counts = (self.read, self.texts, self.images, self.labels, self.values)
        return not self.error and self.rows > 0 and all(count in (None, self.rows) for count in counts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.trainers")
    parser.add_argument("trainers", nargs="*", help=f"of {', '.join(PACKAGES)}; all by default")
    parser.add_argument("--envs", type=Path, help="keep the environments there, and use those that are")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    if unknown := set(arguments.trainers) - set(PACKAGES):
        parser.error(f"no such trainer: {', '.join(sorted(unknown))}")
    results: list[Result] = []
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        runs = make_runs(folder)
        for trainer in arguments.trainers or PACKAGES:
            try:
                results += measure(trainer, runs, (arguments.envs or folder / "envs").absolute(), folder / "work")
            except Failed as error:
                failed[trainer] = str(error)
    _show(results, failed)
    met = not failed and all(result.right for result in results)
    if arguments.json:
        found = [asdict(result) | {"right": result.right} for result in results]
        arguments.json.write_text(json.dumps({"results": found, "failed": failed, "met": met}, indent=2) + "\n")
    return 0 if met else 1


def measure(trainer: str, runs: dict[str, RunStore], envs: Path, work: Path) -> list[Result]:
    """All cases of a trainer, read in one child. Raises Failed where it cannot be installed or does not answer."""
    own = [case for case in cases() if case.trainer == trainer]
    tasks = [task(case, runs[case.run]) for case in own]
    answer = ask(trainer, python_of(trainer, envs), work / trainer, tasks)
    release = answer["versions"][trainer]
    found = [answer["cases"][t["name"]] for t in tasks]
    return [judge(case, release, wanted(case, runs[case.run]), f) for case, f in zip(own, found, strict=True)]


def judge(case: Case, version: str, rows: Sequence[Wanted], found: dict[str, Any]) -> Result:
    """Compares what a trainer made of a cut with what it should have, row by row."""
    result = Result(case.trainer, version, case.format, case.kind, case.run, len(rows))
    if "error" in found:
        result.error = found["error"]
        return result
    pairs = list(zip(rows, found["rows"], strict=False))

    def count(right: Callable[[Wanted, dict[str, Any]], bool]) -> int:
        return sum(right(row, made) for row, made in pairs)

    result.read = len(found["rows"])
    result.texts = count(lambda row, made: made["text"] == row.text)
    result.images = count(lambda row, made: made["pictures"] == len(row.pictures))
    if case.learns == "prompt":
        result.values = count(lambda row, made: _holds(made["columns"], row.columns))
    else:
        result.labels = count(lambda row, made: made["learned"] == row.learned)
    return result


def _holds(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; a trainer may say more."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(name in found and _holds(found[name], wanted[name]) for name in wanted)
    return bool(found == wanted)


def _show(results: Sequence[Result], failed: dict[str, str]) -> None:
    table = Table(title="Rows that each trainer's own code reads as they should be")
    for name in ("trainer", "format", "kind", "run"):
        table.add_column(name)
    for name in ("rows", "read", "text", "labels", "pictures", "values"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for result in results:
        counts = (result.rows, result.read, result.texts, result.labels, result.images, result.values)
        cells = ["" if count is None else str(count) for count in counts]
        verdict = "as it should be" if result.right else f"[red]{'not read' if result.error else 'differs'}[/red]"
        table.add_row(f"{result.trainer} {result.version}", result.format, result.kind, result.run, *cells, verdict)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for result in (result for result in results if result.error):
        console.print(f"{result.trainer}, {result.format} {result.kind}, {result.run}: {result.error}", markup=False)
    for trainer, reason in failed.items():
        console.print(f"{trainer} could not be measured:\n{reason}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
