"""`zoomtrail stats`: the funnel from planned to kept, with the reason of every loss."""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pipeline.shards.agreement import Agreement
    from pipeline.shards.stats import Mean, Spent, Stats

_MOST_SHARDS = 20
"""Files listed for people; `--json` lists all."""

_EXAMPLE = 70
"""Characters shown of a failure's message."""


def stats(run: str, where: str | None, as_json: bool, verifier: str = "") -> None:
    """Prints the statistics of a run under the `default` preset: tables on a terminal, plain text elsewhere, or JSON.

    where: an SQL condition; only rows that meet it are looked at. verifier: a further one, whose verdicts are looked at
    in place of the run's own. Raises UserError where the run or the condition is
    none, Fatal where the run's files contradict each other.
    """
    from jobs.presets import DEFAULT, preset
    from pipeline.shards.agreement import agreements
    from pipeline.shards.stats import collect
    from pipeline.shards.table import Rows
    from pipeline.store import RunStore

    store = RunStore(run, verifier)
    found = collect(Rows(store), preset(DEFAULT), where)
    others = agreements(store, preset(DEFAULT))
    if as_json:
        print(json.dumps(found.as_json() | {"agreement": [asdict(other) for other in others]}, indent=2))
    else:
        _show(found, others)


def _show(found: "Stats", others: "Sequence[Agreement]") -> None:
    from rich.console import Console

    plain = not sys.stdout.isatty()
    console = Console(highlight=False, width=200 if plain else None, no_color=plain)
    heading = f"{found.run}: {found.funnel.planned} attempts at {found.questions} questions about {found.videos} videos"
    console.print(printable(heading + (f", where {found.where}" if found.where else "")), markup=False, soft_wrap=True)
    agreement = [_agreement(others)] if others else []
    for table in (_funnel(found), _spent(found), _means(found), *agreement, _stages(found)):
        console.print()
        _print(console, table, plain)
    _shards(console, found, plain)


def _print(console: "Console", table: "Table", plain: bool) -> None:
    from rich import box

    table.box = None if plain else box.SIMPLE_HEAD
    table.title_justify = "left"
    if not plain:
        console.print(table)
        return
    with console.capture() as text:
        console.print(table)
    print("\n".join(line.rstrip() for line in text.get().splitlines()))


def _table(title: str, texts: tuple[str, ...], numbers: tuple[str, ...], last: str = "") -> "Table":
    from rich.table import Table

    table = Table(title=title, title_style="bold", pad_edge=False, expand=bool(last))
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    if last:
        table.add_column(last, overflow="ellipsis", no_wrap=True, ratio=1)
    return table


def _add(table: "Table", *cells: object) -> None:
    from rich.text import Text

    table.add_row(*(Text(printable(str(cell))) for cell in cells))


def _funnel(found: "Stats") -> "Table":
    table = _table(
        f"Funnel (preset {found.condition.name})", ("", "lost because"), ("attempts", "of planned"), "such as"
    )
    planned = found.funnel.planned
    _add(table, "planned", "", planned, "", "")
    for level, reached in found.funnel.reached.items():
        for loss in found.funnel.losses:
            if loss.level == level:
                _add(table, "", loss.reason, f"-{loss.rows}", _share(loss.rows, planned), loss.example[:_EXAMPLE])
        _add(table, level, "", reached, _share(reached, planned), "")
    statuses = " + ".join(f"{count} {status}" for status, count in found.funnel.statuses.items())
    table.caption, table.caption_justify = f"{planned} planned = {statuses}", "left"
    return table


def _spent(found: "Stats") -> "Table":
    table = _table("Model calls and tokens", ("stage",), ("calls", "read", "of them cached", "written", "dollars"))
    for stage, spent in found.spent.items():
        tokens = (f"{n:,}" for n in (spent.prompt_tokens, spent.cached_tokens, spent.completion_tokens))
        _add(table, stage, f"{spent.calls:,}", *tokens, _dollars(spent))
    _add(table, "replay", "", f"{found.verifier_tokens:,}", "", "", "")
    return table


def _means(found: "Stats") -> "Table":
    table = _table("Means", ("",), ("verified", "measured", "kept", "measured"))
    for name, groups in found.means.items():
        verified, kept = groups["verified"], groups["kept"]
        _add(table, name, _mean(verified), verified.rows, _mean(kept), kept.rows)
    return table


def _agreement(others: "Sequence[Agreement]") -> "Table":
    table = _table("Agreement with further verifiers", ("verifier",), ("attempts", "both keep", "neither", "agree"))
    for name in ("kappa", "p_gold_evidence apart", "correlation"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in others:
        numbers = (_number(value) for value in (one.kappa, one.mean_difference, one.correlation))
        _add(table, one.verifier, one.attempts, one.both, one.neither, _share(one.agree, one.attempts), *numbers)
    return table


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _stages(found: "Stats") -> "Table":
    table = _table("Files", ("stage",), ("shards", "rows", "bytes", "seconds"))
    stages: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for shard in found.shards:
        stages[shard["stage"]].append(shard)
    for stage, shards in stages.items():
        total = {field: sum(shard[field] or 0 for shard in shards) for field in ("rows", "bytes", "seconds")}
        _add(table, stage, len(shards), f"{total['rows']:,}", f"{total['bytes']:,}", f"{total['seconds']:.1f}")
    return table


def _shards(console: "Console", found: "Stats", plain: bool) -> None:
    """All files where they are few, else those that took longest."""
    slowest = sorted(found.shards, key=lambda shard: -(shard["seconds"] or 0))[:_MOST_SHARDS]
    few = len(found.shards) <= _MOST_SHARDS
    title = "Shards" if few else f"Shards: the {_MOST_SHARDS} slowest of {len(found.shards)} (--json lists all)"
    table = _table(title, ("stage",), ("shard", "rows", "bytes", "seconds"))
    for shard in found.shards if few else slowest:
        seconds = "unknown" if shard["seconds"] is None else f"{shard['seconds']:.1f}"
        _add(table, shard["stage"], shard["shard"], f"{shard['rows']:,}", f"{shard['bytes']:,}", seconds)
    if found.shards:
        console.print()
        _print(console, table, plain)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _dollars(spent: "Spent") -> str:
    if spent.cost_usd is not None:
        return f"{spent.cost_usd:.4f}"
    rows = spent.rows_without_price
    least = f", at least {spent.known_usd:.4f}" if spent.known_usd else ""
    return f"unknown{least} ({rows} row{'' if rows == 1 else 's'} unpriced)"


def _mean(value: "Mean") -> str:
    return _number(value.mean)


def printable(text: str) -> str:
    """A text on one line without control characters: a model's words cannot steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
