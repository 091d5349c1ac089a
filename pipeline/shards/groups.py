"""A run's rows in groups by a column: how many attempts of each came how far."""

from dataclasses import dataclass
from typing import Any

from pipeline.shards.funnel import WITHOUT, reached_of
from pipeline.shards.table import Rows

VALUES, RANGES = 30, 10
"""A column of numbers with more values than the first is cut into ranges of about as many rows each."""

FIGURES = """
    status, short, loss[1] AS level, loss[2] AS reason, min(loss[3]) AS example, count(*) AS n,
    count(*) FILTER (calls > 0 AND cost_usd IS NULL) AS unpriced, coalesce(sum(cost_usd), 0.0) AS usd
"""
"""Of looked-at rows (see `stats`) with `SHORT`: what is counted by GROUP BY ALL, to be put together in groups."""


@dataclass(frozen=True)
class Group:
    """The attempts with one value of a column, or within a range of it.

    value: as text, None where it is unknown. planned; reached: attempts at each level; failed: those of this status.
    lost_most: the reason that took most of them, with how many; "" where none was lost. known_usd: dollars of the
    attempts whose cost is known; unpriced: how many have calls of unknown price.
    """

    value: str | None
    planned: int
    reached: dict[str, int]
    failed: int
    lost_most: str
    lost_most_rows: int
    known_usd: float
    unpriced: int

    @property
    def kept(self) -> int:
        return self.reached["kept"]


def groups(rows: Rows, table: str, key: str) -> list[Group]:
    """The groups by a column of a table with `FIGURES`; the order is that of the values."""
    short = ", ".join(f"coalesce(sum(n) FILTER (short = '{level}'), 0)::BIGINT AS {level}" for level in WITHOUT)
    found = rows.query(
        f"SELECT {key}::VARCHAR AS value, sum(n)::BIGINT AS planned, {short}, "
        "coalesce(sum(n) FILTER (level IS NULL), 0)::BIGINT AS kept, sum(failed)::BIGINT AS failed, "
        "arg_max(reason, n) FILTER (level IS NOT NULL) AS lost_most, "
        "coalesce(max(n) FILTER (level IS NOT NULL), 0)::BIGINT AS lost_most_rows, "
        "sum(usd) AS known_usd, sum(unpriced)::BIGINT AS unpriced FROM ("
        f"SELECT {key}, short, level, reason, sum(n) AS n, sum(usd) AS usd, sum(unpriced) AS unpriced, "
        f"coalesce(sum(n) FILTER (status = 'failed'), 0) AS failed FROM {table} GROUP BY {key}, short, level, reason "
        f"ORDER BY reason) GROUP BY {key} ORDER BY {key} NULLS LAST"
    )
    return [_group(row) for row in found]


def _group(row: dict[str, Any]) -> Group:
    return Group(
        value=row["value"],
        planned=row["planned"],
        reached=reached_of(row["planned"], row, row["kept"]),
        failed=row["failed"],
        lost_most=row["lost_most"] or "",
        lost_most_rows=row["lost_most_rows"],
        known_usd=row["known_usd"],
        unpriced=row["unpriced"],
    )


def groups_by(rows: Rows, table: str, column: str) -> list[Group]:
    """The groups by any column of looked-at rows; a column of many numbers by ranges of it."""
    (kind,) = rows.query(f"SELECT typeof({column}) AS type, count(DISTINCT {column}) AS n FROM {table} GROUP BY 1") or [
        {"type": "VARCHAR", "n": 0}
    ]
    if kind["type"] not in ("BIGINT", "INTEGER", "DOUBLE") or kind["n"] <= VALUES:
        return groups(rows, f"(SELECT {column} AS key, {FIGURES} FROM {table} GROUP BY ALL)", "key")
    shares = [place / RANGES for place in range(1, RANGES)]
    (cuts,) = rows.query(f"SELECT list_distinct(quantile_disc({column}, {shares})) AS bounds FROM {table}")
    place = " + ".join(f"({column} > {bound!r}::{kind['type']})::BIGINT" for bound in cuts["bounds"])
    ranged = f"(SELECT {place} AS key, {FIGURES} FROM {table} GROUP BY ALL)"
    ends = rows.query(
        f"SELECT ({place})::VARCHAR AS key, min({column}) AS first, max({column}) AS last FROM {table} GROUP BY 1"
    )
    names = {row["key"]: f"{row['first']:.4g} to {row['last']:.4g}" for row in ends if row["key"] is not None}
    return [
        Group(**{**vars(group), "value": names[group.value] if group.value is not None else None})
        for group in groups(rows, ranged, "key")
    ]
