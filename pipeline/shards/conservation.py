"""Nothing lost, nothing twice: what a run's files hold is what was planned."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.errors import Fatal

_TWICE = "SELECT trajectory_id FROM plan GROUP BY 1 HAVING count(*) > 1 ORDER BY 1"
_OFF = """
SELECT trajectory_id FROM (SELECT trajectory_id, shard FROM plan WHERE shard IN ({shards})) p
FULL JOIN (SELECT trajectory_id, shard, count(*) AS n FROM {stage} WHERE shard IN ({shards}) GROUP BY ALL) f
USING (trajectory_id, shard) WHERE p.trajectory_id IS NULL OR n IS DISTINCT FROM 1 ORDER BY 1
"""


class Asks(Protocol):
    """Gives the rows that a query finds."""

    def __call__(self, sql: str) -> list[tuple[Any, ...]]: ...


@dataclass(frozen=True)
class Counted:
    """Of a shard: its rows; how many of them tell of their turns (see `TOLD`); and a sum over their ids."""

    rows: int
    told: int
    mark: int


def counted(ask: Asks, table: str, told: str = "0") -> dict[int, Counted]:
    """The shards of a table of attempts. told: an aggregate."""
    found = ask(f"SELECT shard, count(*), {told}, sum(hash(trajectory_id)) FROM {table} GROUP BY 1 ORDER BY 1")
    return {shard: Counted(rows, told, mark) for shard, rows, told, mark in found}


def conserve(ask: Asks, url: str, done: Mapping[str, Collection[int]], found: Mapping[str, dict[int, Counted]]) -> None:
    """Every attempt is planned once; a committed shard has each of its attempts once, and no other.

    done: the committed shards of each stage; found: what the plan and they hold. Their ids are compared by sums of
    64-bit hashes, and one by one only where these differ. Raises Fatal with the attempts that are off.
    """
    (distinct,) = ask("SELECT count(DISTINCT hash(trajectory_id)) FROM plan")[0]
    if distinct != sum(part.rows for part in found["plan"].values()):
        _refuse(ask(_TWICE), url, "planned twice")
    for stage, shards in done.items():
        planned, made = found["plan"], found[stage]
        off = [shard for shard in shards if not _same(planned.get(shard), made.get(shard))]
        if off:
            listed = ", ".join(map(str, off))
            fault = f"not once in the rows of the {stage} stage, as planned"
            _refuse(ask(_OFF.format(shards=listed, stage=stage)), url, fault)


def _same(planned: Counted | None, made: Counted | None) -> bool:
    def told(part: Counted | None) -> tuple[int, int] | None:
        return (part.rows, part.mark) if part else None

    return told(planned) == told(made)


def _refuse(off: list[tuple[Any, ...]], url: str, fault: str) -> None:
    if off:
        ids = ", ".join(row[0] for row in off[:3])
        raise Fatal(f"{url}: {len(off)} attempts are {fault}, such as {ids}")
