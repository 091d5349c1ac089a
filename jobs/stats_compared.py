"""The tables of `zoomtrail stats --compare`: two runs side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from jobs.stats_tables import dollars, named, number, per_kept, price, share
from jobs.tables import add_row, new_table

if TYPE_CHECKING:
    from pipeline.shards.funnel import Funnel
    from pipeline.shards.groups import Group
    from pipeline.shards.stats import Stats

_BOTH = ("first", "of planned", "second", "of planned", "difference")


def funnels(first: "Stats", second: "Stats") -> Table:
    """Every level and reason of either run; the difference is that of the shares, in percentage points."""
    table = new_table(f"Funnel (preset {first.condition.name})", ("", "lost because"), _BOTH)
    one, other = first.funnel, second.funnel
    add_row(table, "planned", "", f"{one.planned:,}", "", f"{other.planned:,}", "", "")
    lost = [{(loss.level, loss.reason): loss.rows for loss in found.losses} for found in (one, other)]
    for level in one.reached:
        for known, reason in dict.fromkeys([*lost[0], *lost[1]]):
            if known == level:
                counts = [found.get((level, reason), 0) for found in lost]
                add_row(table, "", reason, *_beside(counts, (one, other), "-"))
        add_row(table, level, "", *_beside([one.reached[level], other.reached[level]], (one, other)))
    return table


def _beside(counts: Sequence[int], of: "Sequence[Funnel]", sign: str = "") -> list[str]:
    cells = [
        cell
        for count, found in zip(counts, of, strict=True)
        for cell in (f"{sign if count else ''}{count:,}", share(count, found.planned))
    ]
    shares = [count / found.planned for count, found in zip(counts, of, strict=True) if found.planned]
    return [*cells, f"{100 * (shares[1] - shares[0]):+.1f}" if len(shares) == 2 else ""]


def groups(name: str, first: "Sequence[Group]", second: "Sequence[Group]") -> Table:
    """The groups of both by one column; a group that one run has not is empty there."""
    numbers = ("first", "kept", "teach dollars per kept", "second", "kept", "teach dollars per kept")
    table = new_table(f"By {name}", (name,), numbers)
    found = [{named(group): group for group in part} for part in (first, second)]
    for value in dict.fromkeys([*found[0], *found[1]]):
        cells: list[str] = []
        for part in found:
            group = part.get(value)
            cells += ["", "", ""] if group is None else _of_group(group)
        add_row(table, value, *cells)
    return table


def _of_group(group: "Group") -> list[str]:
    dollars = per_kept(group.known_usd, group.unpriced, group.kept)
    return [f"{group.planned:,}", share(group.kept, group.planned), dollars]


def spent(first: "Stats", second: "Stats") -> Table:
    """What the calls of both consumed."""
    table = new_table("Model calls and tokens", ("",), ("first", "second"))
    for stage in first.spent:
        one, other = first.spent[stage], second.spent[stage]
        add_row(table, f"{stage} calls", f"{one.calls:,}", f"{other.calls:,}")
        add_row(table, f"{stage} tokens read", f"{one.prompt_tokens:,}", f"{other.prompt_tokens:,}")
        add_row(table, f"{stage} tokens written", f"{one.completion_tokens:,}", f"{other.completion_tokens:,}")
        add_row(table, f"{stage} dollars", dollars(one), dollars(other))
    add_row(table, "dollars per kept row", price(first.usd_per_kept), price(second.usd_per_kept))
    return table


def spread(first: "Stats", second: "Stats") -> Table:
    """Quartiles of both, over answered and verified attempts."""
    points = ("25 %", "median", "75 %")
    table = new_table("Spread over answered and verified attempts: first, second", ("",), points + points)
    for name in first.spread:
        both = (found.spread[name].quantiles for found in (first, second))
        add_row(table, name, *(number(of[point]) for of in both for point in ("p25", "p50", "p75")))
    return table


def means(first: "Stats", second: "Stats") -> Table:
    """Of the verified attempts and of those kept, of both."""
    table = new_table("Means", ("",), ("verified: first", "second", "kept: first", "second"))
    for name in first.means:
        both = [found.means[name][group].mean for group in ("verified", "kept") for found in (first, second)]
        add_row(table, name, *(number(value) for value in both))
    return table
