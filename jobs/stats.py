"""`zoomtrail stats`: the funnel from planned to kept, with the reason of every loss."""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from jobs.tables import add_row, new_table, print_table, printable

if TYPE_CHECKING:
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
    plain = not sys.stdout.isatty()
    console = Console(highlight=False, width=200 if plain else None, no_color=plain)
    heading = f"{found.run}: {found.funnel.planned} attempts at {found.questions} questions about {found.videos} videos"
    console.print(printable(heading + (f", where {found.where}" if found.where else "")), markup=False, soft_wrap=True)
    agreement = [_agreement(others)] if others else []
    for table in (_funnel(found), _spent(found), _means(found), *agreement, _stages(found)):
        console.print()
        print_table(console, table, plain)
    if line := _verifiers_time(found):
        console.print(line, soft_wrap=True)
    _shards(console, found, plain)


def _funnel(found: "Stats") -> Table:
    table = new_table(
        f"Funnel (preset {found.condition.name})", ("", "lost because"), ("attempts", "of planned"), "such as"
    )
    planned = found.funnel.planned
    add_row(table, "planned", "", planned, "", "")
    for level, reached in found.funnel.reached.items():
        for loss in found.funnel.losses:
            if loss.level == level:
                add_row(table, "", loss.reason, f"-{loss.rows}", _share(loss.rows, planned), loss.example[:_EXAMPLE])
        add_row(table, level, "", reached, _share(reached, planned), "")
    statuses = " + ".join(f"{count} {status}" for status, count in found.funnel.statuses.items())
    table.caption, table.caption_justify = f"{planned} planned = {statuses}", "left"
    return table


def _spent(found: "Stats") -> Table:
    table = new_table("Model calls and tokens", ("stage",), ("calls", "read", "of them cached", "written", "dollars"))
    for stage, spent in found.spent.items():
        tokens = (f"{n:,}" for n in (spent.prompt_tokens, spent.cached_tokens, spent.completion_tokens))
        add_row(table, stage, f"{spent.calls:,}", *tokens, _dollars(spent))
    add_row(table, "replay", "", f"{found.verifier_tokens:,}", "", "", "")
    return table


def _means(found: "Stats") -> Table:
    table = new_table("Means", ("",), ("verified", "measured", "kept", "measured"))
    for name, groups in found.means.items():
        verified, kept = groups["verified"], groups["kept"]
        add_row(table, name, _mean(verified), verified.rows, _mean(kept), kept.rows)
    return table


def _agreement(others: "Sequence[Agreement]") -> Table:
    numbers = ("attempts", "both keep", "neither", "agree", "kappa", "p_gold_evidence apart", "correlation")
    table = new_table("Agreement with further verifiers", ("verifier",), numbers)
    for one in others:
        values = (_number(value) for value in (one.kappa, one.mean_difference, one.correlation))
        name = one.verifier or "the run's own"
        add_row(table, name, one.attempts, one.both, one.neither, _share(one.agree, one.attempts), *values)
    return table


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _stages(found: "Stats") -> Table:
    table = new_table("Files", ("stage",), ("shards", "rows", "bytes", "seconds"))
    stages: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for shard in found.shards:
        stages[shard["stage"]].append(shard)
    for stage, shards in stages.items():
        total = {field: sum(shard[field] or 0 for shard in shards) for field in ("rows", "bytes", "seconds")}
        add_row(table, stage, len(shards), f"{total['rows']:,}", f"{total['bytes']:,}", f"{total['seconds']:.1f}")
    return table


def _verifiers_time(found: "Stats") -> str | None:
    """How the verifier's time went; None without one that was timed. See `pipeline.stages.busy`."""
    busy, waiting = (sum(shard[f"verifier_{how}_s"] or 0 for shard in found.shards) for how in ("busy", "waiting"))
    if not busy + waiting:
        return None
    share = _share(busy, busy + waiting)
    return f"verifier busy for {busy:.1f} s, {share} of its time; {waiting:.1f} s it waited for pictures to be decoded"


def _shards(console: Console, found: "Stats", plain: bool) -> None:
    """All files where they are few, else those that took longest."""
    slowest = sorted(found.shards, key=lambda shard: -(shard["seconds"] or 0))[:_MOST_SHARDS]
    few = len(found.shards) <= _MOST_SHARDS
    title = "Shards" if few else f"Shards: the {_MOST_SHARDS} slowest of {len(found.shards)} (--json lists all)"
    table = new_table(title, ("stage",), ("shard", "rows", "bytes", "seconds"))
    for shard in found.shards if few else slowest:
        seconds = "unknown" if shard["seconds"] is None else f"{shard['seconds']:.1f}"
        add_row(table, shard["stage"], shard["shard"], f"{shard['rows']:,}", f"{shard['bytes']:,}", seconds)
    if found.shards:
        console.print()
        print_table(console, table, plain)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _dollars(spent: "Spent") -> str:
    if spent.cost_usd is not None:
        return f"{spent.cost_usd:.4f}"
    rows = spent.rows_without_price
    least = f", at least {spent.known_usd:.4f}" if spent.known_usd else ""
    return f"unknown{least} ({rows} row{'' if rows == 1 else 's'} unpriced)"


def _mean(value: "Mean") -> str:
    return _number(value.mean)
