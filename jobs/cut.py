"""`zoomtrail cut`: what a condition keeps, as the files of a trainer."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.errors import UserError

if TYPE_CHECKING:
    from pipeline.shards.condition import Condition
    from pipeline.shards.cut import Cut
    from pipeline.shards.export import Learn
    from pipeline.shards.formats.layout import Kind, Media


ROWS_PER_FILE, PICTURED_ROWS_PER_FILE = 10_000, 256
"""Rows of a Parquet file where nothing is said; fewer where each holds a hundred pictures."""


@dataclass(frozen=True)
class Export:
    """How a cut is written. format: a trainer's; media: None for the format's way; learn: which turns of a
    corrected rollout carry loss; test_share: of the videos, 0..1."""

    format: str = "native"
    media: "Media | None" = None
    learn: "Learn" = "all"
    test_share: float = 0.0
    seed: int = 0
    tokenizer: str = ""
    max_tokens: int | None = None


def cut(
    run: str,
    name: str,
    preset: str | None,
    where: str | None,
    kind: "Kind",
    rows_per_file: int | None = None,
    export: Export = Export(),
    verifier: str = "",
) -> None:
    """Writes RUN/cuts/NAME with at most `rows_per_file` rows to a file. With both, preset and where must hold.

    verifier: a further one, whose verdicts are looked at in place of the run's own.

    Raises UserError where the run, the name, the preset or the condition is none, or the name is taken; Fatal where the
    files cannot be written.
    """
    if rows_per_file is not None and rows_per_file < 1:
        raise UserError(f"--rows-per-file {rows_per_file}: must be at least 1")
    from pipeline.shards.cut import Order
    from pipeline.shards.cut import cut as make
    from pipeline.shards.formats.known import known_format
    from pipeline.shards.table import Rows
    from pipeline.store import RunStore

    format = known_format(export.format)
    media, _ = format.layout(kind, export.media)
    order = Order(
        name=name,
        kind=kind,
        condition=_condition(preset, where),
        rows_per_file=rows_per_file or (PICTURED_ROWS_PER_FILE if media == "embedded" else ROWS_PER_FILE),
        format=format,
        media=media,
        learn=export.learn,
        test_share=export.test_share,
        seed=export.seed,
        tokenizer=export.tokenizer,
        max_tokens=export.max_tokens,
    )
    rows = Rows(RunStore(run, verifier))
    with _progress() as show:
        made = make(rows, order, show)
    _report(made, run)


def _condition(preset: str | None, where: str | None) -> "Condition":
    from jobs import presets
    from pipeline.shards import condition

    if where is None:
        return presets.preset(preset or presets.DEFAULT)
    if preset is None:
        return condition.where(where)
    return presets.preset(preset).plus(*condition.where(where).clauses)


def _report(made: "Cut", run: str) -> None:
    from jobs.tables import printable

    found = made.funnel
    for loss in found.losses:
        print(f"  dropped {loss.rows:>7}  {printable(loss.reason)}")
    for reason, count in made.dropped:
        print(f"  not written {count:>4}  {printable(reason)}")
    if waiting := found.statuses["not_run"]:
        print(f"the run is not finished: {_count(waiting, 'attempt')} not made yet")
    test = f" ({made.split_rows['test']} for test)" if "test" in made.split_rows else ""
    there = f"{_count(made.rows, 'row')}{test} in {_count(made.files, 'file')} in {made.folder}"
    print(
        f"kept {found.kept} of {_count(found.planned, 'attempt')}; {'wrote' if made.made else 'there already:'} {there}"
    )
    if not made.rows and not made.dropped:
        print(f"no attempt meets the condition, so the file is empty; see `zoomtrail stats {run}`")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar of shards on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("shards")
        yield lambda done, total: progress.update(task, completed=done, total=total)
