"""The tables of `zoomtrail stats`."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from jobs.tables import add_row, new_table

if TYPE_CHECKING:
    from pipeline.shards.agreement import Agreement
    from pipeline.shards.distributions import Distribution
    from pipeline.shards.groups import Group
    from pipeline.shards.stats import Spent, Stats

_MOST_SHARDS, _MOST_GROUPS = 10, 30
"""Listed for people; `--json` lists all."""

_EXAMPLE = 70
"""Characters shown of a failure's message."""

_BARS = "▁▂▃▄▅▆▇█"


def funnel(found: "Stats") -> Table:
    """Every level with what was lost on the way to it."""
    from pipeline.shards.funnel import WITHOUT

    table = new_table(
        f"Funnel (preset {found.condition.name})", ("", "lost because"), ("attempts", "of planned"), "such as"
    )
    planned = found.funnel.planned
    add_row(table, "planned", "", planned, "", "")
    for level, reached in found.funnel.reached.items():
        if level == "kept":
            for short, spared in found.funnel.spared.items():
                add_row(table, "", f"kept {WITHOUT[short]}", f"+{spared}", share(spared, planned), "")
        for loss in found.funnel.losses:
            if loss.level == level:
                add_row(table, "", loss.reason, f"-{loss.rows}", share(loss.rows, planned), loss.example[:_EXAMPLE])
        add_row(table, level, "", reached, share(reached, planned), "")
    statuses = " + ".join(f"{count} {status}" for status, count in found.funnel.statuses.items())
    return _with_caption(table, f"{planned} planned = {statuses}")


def groups(name: str, found: "Sequence[Group]") -> Table:
    """How far the attempts of each group came."""
    most = len(found) > _MOST_GROUPS
    title = f"By {name}" + (f": the {_MOST_GROUPS} largest of {len(found):,} (--json lists all)" if most else "")
    numbers = ("attempts", "answered", "verified", "kept", "of attempts", "teach dollars per kept")
    table = new_table(title, (name,), numbers, "most lost because")
    shown = sorted(found, key=lambda group: -group.planned)[:_MOST_GROUPS] if most else found
    for group in shown:
        counts = (f"{n:,}" for n in (group.planned, group.reached["answered"], group.reached["verified"], group.kept))
        why = f"{group.lost_most} (-{group.lost_most_rows:,})" if group.lost_most else ""
        dollars = per_kept(group.known_usd, group.unpriced, group.kept)
        add_row(table, named(group), *counts, share(group.kept, group.planned), dollars, why)
    return table


def named(group: "Group") -> str:
    """Its value, told apart from an empty text."""
    return "unknown" if group.value is None else group.value or "''"


def spent(found: "Stats") -> Table:
    """What the calls of each stage consumed."""
    table = new_table("Model calls and tokens", ("stage",), ("calls", "read", "of them cached", "written", "dollars"))
    for stage, one in found.spent.items():
        tokens = (f"{n:,}" for n in (one.prompt_tokens, one.cached_tokens, one.completion_tokens))
        add_row(table, stage, f"{one.calls:,}", *tokens, dollars(one))
    replay = "unknown" if found.replay_usd is None else f"{found.replay_usd:.4f}"
    add_row(table, "replay", "", f"{found.verifier_tokens:,}", "", "", replay)
    calls = "; what replay cost `zoomtrail calls` tells" if found.replay_usd is None else ""
    return _with_caption(table, f"dollars per kept row: {price(found.usd_per_kept)}{calls}")


def spread(found: "Stats") -> Table:
    """How measures are spread over the verified attempts, and over their zooms."""
    numbers = ("measured", "5 %", "median", "95 %", "mean")
    table = new_table("Spread over answered and verified attempts", ("",), numbers)
    table.add_column("from   to")
    for name, one in found.spread.items():
        points = (number(one.quantiles[point]) for point in ("p05", "p50", "p95"))
        rows = f"{one.rows:,}" + (f" ({one.not_finite:,} not finite)" if one.not_finite else "")
        add_row(table, name, rows, *points, number(one.mean), histogram(one))
    about = "zoom_*: of each zoom its seconds, these as a share of the video, and where its middle lies in the video"
    return _with_caption(table, about)


def histogram(one: "Distribution") -> str:
    """Bars between the values that 1 % lie below and above; what lies beyond counts at the ends."""
    if not one.bins or one.low is None or one.high is None:
        return ""
    most = max(one.bins)
    bars = "".join(_BARS[-(-n * len(_BARS) // most) - 1] if n else " " for n in one.bins)
    return f"{one.low:.3g} |{bars}| {one.high:.3g}"


def means(found: "Stats") -> Table:
    """Of the verified attempts, and of those kept."""
    table = new_table("Means", ("",), ("verified", "measured", "kept", "measured"))
    for name, of in found.means.items():
        verified, kept = of["verified"], of["kept"]
        add_row(table, name, number(verified.mean), f"{verified.rows:,}", number(kept.mean), f"{kept.rows:,}")
    return table


def agreement(others: "Sequence[Agreement]") -> Table:
    """With each further verifier."""
    numbers = ("attempts", "both keep", "neither", "agree", "kappa", "p_gold_evidence apart", "correlation")
    table = new_table("Agreement with further verifiers", ("verifier",), numbers)
    for one in others:
        values = (number(value) for value in (one.kappa, one.mean_difference, one.correlation))
        name = one.verifier or "the run's own"
        add_row(table, name, one.attempts, one.both, one.neither, share(one.agree, one.attempts), *values)
    return table


def files(found: "Stats") -> Table:
    """What each stage has written."""
    table = new_table("Files", ("stage",), ("shards", "rows", "bytes", "seconds"))
    stages: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for shard in found.shards:
        stages[shard["stage"]].append(shard)
    for stage, shards in stages.items():
        total = {field: sum(shard[field] or 0 for shard in shards) for field in ("rows", "bytes", "seconds")}
        add_row(table, stage, len(shards), f"{total['rows']:,}", f"{total['bytes']:,}", f"{total['seconds']:,.1f}")
    return table


def verifiers_time(found: "Stats") -> str:
    """How the verifier's time went; "" without one that was timed. See `pipeline.stages.busy`."""
    busy, waiting = (sum(shard[f"verifier_{how}_s"] or 0 for shard in found.shards) for how in ("busy", "waiting"))
    if not busy + waiting:
        return ""
    part = share(busy, busy + waiting)
    return f"verifier busy for {busy:.1f} s, {part} of its time; {waiting:.1f} s it waited for pictures to be decoded"


def worst(found: "Stats") -> Table:
    """The shards, those first of which least is kept; and in a line those that failed most and took longest."""
    shards = found.per_shard
    few = len(shards) <= _MOST_SHARDS
    title = "Shards, worst first" + ("" if few else f": {_MOST_SHARDS} of {len(shards):,} (--json lists all)")
    table = new_table(title, ("shard",), ("attempts", "kept", "of attempts", "failed", "bytes", "seconds"))
    for one in shards[:_MOST_SHARDS]:
        counts = (f"{one['planned']:,}", f"{one['kept']:,}", share(one["kept"], one["planned"]), f"{one['failed']:,}")
        add_row(table, one["shard"], *counts, f"{one['bytes']:,}", f"{one['seconds']:,.1f}")
    if few:
        return table
    failed = sorted(shards, key=lambda one: (-one["failed"], one["shard"]))[:3]
    slow = sorted(shards, key=lambda one: (-one["seconds"], one["shard"]))[:3]
    failures = ", ".join(f"{one['shard']} ({one['failed']:,})" for one in failed if one["failed"])
    slowest = ", ".join(f"{one['shard']} ({one['seconds']:,.1f} s)" for one in slow)
    return _with_caption(table, f"most failures: {failures or 'none'}; slowest: {slowest}")


def share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def number(value: float | None) -> str:
    """With three digits behind the point, or without where it is large."""
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.3f}"


def price(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def per_kept(usd: float, unpriced: int, kept: int) -> str:
    """Dollars for each kept row, where all prices are known and something is kept."""
    return price(None if unpriced or not kept else usd / kept)


def dollars(one: "Spent") -> str:
    """Of a stage's calls; an unknown price is never shown as nothing."""
    if one.cost_usd is not None:
        return f"{one.cost_usd:.4f}"
    rows = one.rows_without_price
    least = f", at least {one.known_usd:.4f}" if one.known_usd else ""
    return f"unknown{least} ({rows} row{'' if rows == 1 else 's'} unpriced)"


def _with_caption(table: Table, caption: str) -> Table:
    table.caption, table.caption_justify = caption, "left"
    return table
