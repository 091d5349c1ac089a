"""`zoomtrail stats`: the funnel from planned to kept, with the reason of every loss."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from jobs import stats_tables as tables
from jobs.tables import print_table, printable

if TYPE_CHECKING:
    from pipeline.shards.agreement import Agreement
    from pipeline.shards.stats import Stats


def stats(
    run: str,
    where: str | None,
    as_json: bool,
    verifier: str = "",
    by: str | None = None,
    compare: str | None = None,
) -> None:
    """Prints the statistics of a run under the `default` preset: tables on a terminal, plain text elsewhere, or JSON.

    where: an SQL condition; only rows that meet it are looked at. verifier: a further one, whose verdicts are looked at
    in place of the run's own. by: a column to group by. compare: another run to set beside this one. Raises UserError
    where a run, the condition or the column is none, Fatal where the run's files contradict each other.
    """
    found, others = _collected(run, where, verifier, by)
    second = _collected(compare, where, verifier, by)[0] if compare is not None else None
    if as_json:
        document = _document(found, others) | {"compare": second and second.as_json()}
        print(json.dumps(document, indent=2))
        return
    plain = not sys.stdout.isatty()
    console = Console(highlight=False, width=200 if plain else None, no_color=plain)
    for one in (found, second):
        if one is not None:
            console.print(printable(_heading(one)), markup=False, soft_wrap=True)
    for table in _compared(found, second) if second is not None else _shown(found, others):
        if table.row_count:
            console.print()
            print_table(console, table, plain)
    if second is None and by is None and (line := tables.verifiers_time(found)):
        console.print(f"\n{line}", soft_wrap=True)


def _collected(run: str, where: str | None, verifier: str, by: str | None) -> "tuple[Stats, Sequence[Agreement]]":
    from jobs.presets import DEFAULT, preset
    from pipeline.shards.agreement import agreements
    from pipeline.shards.stats import collect
    from pipeline.shards.table import Rows
    from pipeline.store import RunStore

    store = RunStore(run, verifier)
    return collect(Rows(store), preset(DEFAULT), where, by), agreements(store, preset(DEFAULT))


def _document(found: "Stats", others: "Sequence[Agreement]") -> dict[str, Any]:
    return found.as_json() | {"agreement": [asdict(other) for other in others]}


def _heading(found: "Stats") -> str:
    counts = f"{found.funnel.planned:,} attempts at {found.questions:,} questions about {found.videos:,} videos"
    return f"{found.run}: {counts}" + (f", where {found.where}" if found.where else "")


def _shown(found: "Stats", others: "Sequence[Agreement]") -> list[Table]:
    """What a person wants to know first stands first: where the attempts went, in which group, and for what money."""
    if found.by is not None:
        return [tables.funnel(found), tables.groups(*found.by)]
    return [
        tables.funnel(found),
        *(tables.groups(name, of) for name, of in found.groups.items() if sum(g.value is not None for g in of) > 1),
        tables.spent(found),
        tables.spread(found),
        tables.means(found),
        tables.agreement(others),
        tables.files(found),
        tables.worst(found),
    ]


def _compared(found: "Stats", second: "Stats") -> list[Table]:
    from jobs import stats_compared

    if found.by is not None and second.by is not None:
        return [stats_compared.funnels(found, second), stats_compared.groups(found.by[0], found.by[1], second.by[1])]
    return [
        stats_compared.funnels(found, second),
        stats_compared.spent(found, second),
        stats_compared.spread(found, second),
        stats_compared.means(found, second),
    ]
