"""`zoomtrail cut`: what a condition keeps, as the files of a trainer."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from jobs import presets
from schemas.errors import UserError

if TYPE_CHECKING:
    from pipeline.shards.condition import Condition
    from pipeline.shards.cut import Cut
    from pipeline.shards.explain import Explanation
    from pipeline.shards.formats.layout import Kind
    from pipeline.shards.order import Order
    from pipeline.shards.thinning import Thinning


def cut(run: str, order: "Order", verifier: str = "") -> None:
    """Writes RUN/cuts/NAME. verifier: a further one, whose verdicts are looked at in place of the run's own.

    Raises UserError where the run or the condition is none, or the name is taken; Fatal where the files cannot be
    written.
    """
    from pipeline.shards.cut import cut as make
    from pipeline.shards.table import Rows
    from pipeline.store import RunStore

    rows = Rows(RunStore(run, verifier))
    with _progress() as show:
        made = make(rows, order, show, alone=False)
    _report(made, run)


def explain(run: str, order: "Order", verifier: str = "") -> None:
    """Prints what each clause would drop, and writes nothing. Raises UserError as `cut`."""
    from pipeline.shards.explain import explain as look
    from pipeline.shards.table import Rows
    from pipeline.store import RunStore

    _print_explanation(look(Rows(RunStore(run, verifier)), order.condition, order.kind, order.seed))


def condition(preset: str | None, where: str | None, kind: "Kind", thinning: dict[str, object]) -> "Condition":
    """A preset's, a user's, or with both given that where both hold; `default` where neither is.

    thinning: what the command line says of it, by name, in place of what the preset says; None where it is silent.
    Raises UserError for a preset or a number that there is not.
    """
    from pipeline.shards import condition

    if where is None:
        chosen = presets.preset(preset or presets.DEFAULT, kind)
    elif preset is None:
        chosen = condition.where(where)
    else:
        chosen = presets.preset(preset, kind).plus(*condition.where(where).clauses)
    said = {name: value for name, value in thinning.items() if value is not None}
    return replace(chosen, thinning=_thinning({**chosen.thinning.asked, **said})) if said else chosen


def _thinning(said: dict[str, object]) -> "Thinning":
    from pipeline.shards.thinning import Thinning

    try:
        return Thinning.model_validate(said)
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0]).replace("_", "-")
        raise UserError(f"--{name} {fault['input']}: {fault['msg'][0].lower()}{fault['msg'][1:]}") from error


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


def _print_explanation(found: "Explanation") -> None:
    from rich.console import Console

    from jobs.tables import add_row, new_table, print_table

    lost = sum(loss.rows for loss in found.funnel.losses if loss.level != "kept")
    print(f"{_count(found.funnel.planned, 'attempt')} planned; {lost} lost before the condition, {found.judged} judged")
    plain = not sys.stdout.isatty()
    table = new_table("", ("drops",), ("in order", "alone", "only it"), "unless")
    for drop in found.drops:
        add_row(table, drop.reason, drop.in_order, drop.alone, "" if drop.only is None else drop.only, drop.sql)
    print_table(Console(highlight=False, width=10_000 if plain else None, no_color=plain), table, plain)
    print(f"kept {found.funnel.kept}; nothing was written")


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
