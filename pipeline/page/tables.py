"""Statistics as tables: whatever JSON a run's statistics are, each part of it becomes a table of names and values."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MOST_ROWS = 60
_COUNTS = ("rows", "attempts", "count", "n")
"""Columns that count something: a bar is drawn beside the first of them."""


Cells = dict[tuple[str, ...], Any]
"""A row's values by the names under which they lie."""


@dataclass(frozen=True)
class StatsTable:
    """rows: a name and a value for each column. counts: of each row for a bar, empty where nothing is counted.

    left_out: rows beyond those shown.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Any, ...]], ...]
    counts: tuple[float, ...]
    left_out: int

    @property
    def narrow(self) -> bool:
        """Whether it is but names and values."""
        return not self.columns and len(self.rows) < 16


def stats_tables(found: Mapping[str, Any], without: Sequence[str]) -> list[StatsTable]:
    """Tables of all parts but some: single values together in the first, every other part in its own."""
    parts = {name: value for name, value in found.items() if name not in without and value not in ({}, [], None)}
    single = {name: value for name, value in parts.items() if not isinstance(value, (dict, list))}
    tables = [_table("run", [(name, {(): value}) for name, value in single.items()])] if single else []
    for name, value in parts.items():
        if name not in single:
            tables += _tables(name, value)
    return tables


def _tables(title: str, value: Any) -> Iterator[StatsTable]:
    """One table, or where its entries are tables themselves one of each."""
    if isinstance(value, list):
        if all(isinstance(one, dict) for one in value):
            yield _table(title, [_named(one) for one in value])
        else:
            yield _table(title, [(str(number), {(): one}) for number, one in enumerate(value)])
    elif any(isinstance(one, list) and any(isinstance(x, dict) for x in one) for one in value.values()):
        for name, one in value.items():
            yield from _tables(f"{title}: {name}", one if isinstance(one, (dict, list)) else [one])
    else:
        yield _table(title, [(str(name), _flat(one)) for name, one in value.items()])


def _table(title: str, rows: Sequence[tuple[str, Cells]]) -> StatsTable:
    """Its columns are named by their last names where these differ; lists, which are drawn, come first."""
    shown = rows[:_MOST_ROWS]
    keys = list(dict.fromkeys(key for _, cells in rows for key in cells))
    keys.sort(key=lambda key: not any(isinstance(cells.get(key), (list, tuple)) for _, cells in shown))
    last = Counter(key[-1:] for key in keys)
    names = {key: " ".join(key if last[key[-1:]] > 1 else key[-1:]) for key in keys}
    counted = next((key for name in _COUNTS for key in keys if names[key] == name), None)
    drawn = bool(shown and keys) and isinstance(shown[0][1].get(keys[0]), (list, tuple))
    counts = tuple(float(cells.get(counted) or 0) for _, cells in shown) if counted else ()
    return StatsTable(
        title=title,
        columns=() if keys == [()] else tuple(names.values()),
        rows=tuple((name, tuple(cells.get(key) for key in keys)) for name, cells in shown),
        counts=counts if len(set(counts)) > 1 and not drawn else (),
        left_out=len(rows) - len(shown),
    )


def _named(entry: dict[str, Any]) -> tuple[str, Cells]:
    """An entry of a list: its first value names it."""
    flat = _flat(entry)
    first = next(iter(flat), ())
    return str(flat.pop(first, "")), flat


def _flat(value: Any) -> Cells:
    """Nested values under their paths."""
    if not isinstance(value, dict):
        return {(): value}
    return {(str(name), *inner): one for name, nested in value.items() for inner, one in _flat(nested).items()}
