"""The SQL table of a run for several threads, with what lists need held ready beside it."""

import itertools
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.shards.columns import COLUMNS
from pipeline.shards.condition import Condition
from pipeline.shards.funnel import loss_sql
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.config import STAGES
from schemas.errors import UserError

SHOWN = (
    *("trajectory_id", "question_id", "video_id", "shard", "attempt", "protocol", "status", "teacher", "final_answer"),
    *("answer_letter", "answer_correct", "n_zooms", "p_gold_overview", "p_gold_evidence", "evidence_gain"),
    *("grounding_iou", "hint_level", "reflected", "think_chars", "cost_usd"),
)
"""Columns that a list shows or is ordered by."""

_LISTED = """
CREATE TABLE {table} AS
SELECT *, row_number() OVER (ORDER BY shard, question_id, attempt) AS place, loss[1] AS level,
    coalesce(loss[2], 'kept') AS outcome, loss[3][:200] AS message
FROM (SELECT {columns}, {loss} AS loss FROM rows)
"""

_WORD = re.compile(r"\w+")
_COLUMNS = {column.name for column in COLUMNS}

_TABLES = {"listed": 2, "met": 6}
"""How many tables of a kind are held: of the latest presets, and of the latest conditions."""


class SharedRows:
    """`Rows` with one query at a time. conditions: the presets by name, whose reasons are told."""

    def __init__(self, rows: Rows, conditions: Mapping[str, Condition]) -> None:
        self.conditions = conditions
        self._rows = rows
        self._lock = threading.RLock()
        self._losses: dict[str, str] = {}
        self._files = {(file.stage, file.shard) for file in rows.files}
        self._plan = rows.store.storage.names("plan", ".parquet")
        self._numbers = itertools.count()
        self._forgotten: deque[str] = deque()
        self._tables: dict[str, OrderedDict[str, str]] = {kind: OrderedDict() for kind in _TABLES}

    @property
    def store(self) -> RunStore:
        return self._rows.store

    def shards(self, stage: str) -> list[int]:
        """The shards that the stage had committed when the rows were loaded."""
        return sorted(shard for of, shard in self._files if of == stage)

    def has(self, stage: str, shard: int) -> bool:
        """Whether a shard is among them."""
        return (stage, shard) in self._files

    def renewed(self) -> "SharedRows":
        """The rows that the run holds now; these where nothing was added to it. Raises as `Rows` does."""
        files = {(stage, shard) for stage in STAGES for shard in self.store.finished(stage)}
        if files == self._files and self.store.storage.names("plan", ".parquet") == self._plan:
            return self
        return SharedRows(Rows(self.store), self.conditions)

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Within it no other thread drops a table, so that those of `listed` and `met` can be asked by their names."""
        with self._lock:
            yield

    def query(self, sql: str) -> list[dict[str, Any]]:
        """See `Rows.query`."""
        with self._lock:
            while self._forgotten:
                self._rows.query(f"DROP TABLE IF EXISTS {self._forgotten.popleft()}")
            return self._rows.query(sql)

    def forget(self, table: str) -> None:
        """Has a table dropped before the next query. Takes no lock: a garbage collector may call it at any moment."""
        self._forgotten.append(table)

    def check(self, condition: str) -> str:
        """See `Rows.check`."""
        with self._lock:
            return self._rows.check(condition)

    def condition(self, preset: str) -> Condition:
        """The condition of a preset. Raises UserError where there is none."""
        if preset not in self.conditions:
            raise UserError(f"there is no preset {preset}; there are {', '.join(self.conditions)}")
        return self.conditions[preset]

    def loss(self, preset: str) -> str:
        """See `loss_sql`: NULL for a row that the preset keeps, else level, reason and message."""
        condition = self.condition(preset)
        with self._lock:
            if preset not in self._losses:
                self._losses[preset] = f"({loss_sql(self._rows, condition)})"
            return self._losses[preset]

    def listed(self, preset: str) -> str:
        """Within `steady`: a table of all attempts with the columns SHOWN and those that the preset's clauses name,
        their `place` in the plan from 1, and what the preset says of each: `outcome` is `kept`, or the reason of the
        loss; `level` and `message` are NULL for a kept row."""
        named = (name for clause in self.condition(preset).clauses for name in columns_in(clause.sql))
        columns = ", ".join(dict.fromkeys((*SHOWN, *named)))
        loss = self.loss(preset)
        return self._table("listed", preset, lambda table: _LISTED.format(table=table, columns=columns, loss=loss))

    def attempt(self, trajectory_id: str, preset: str) -> dict[str, Any] | None:
        """The row of `listed` of one attempt, None where the run plans no such."""
        with self.steady():
            found = self.query(f"SELECT * FROM {self.listed(preset)} WHERE trajectory_id = {quoted(trajectory_id)}")
        return found[0] if found else None

    def met(self, condition: str) -> str:
        """Within `steady`: a table of the ids of all attempts that meet a user's condition. Raises UserError."""
        return self._table(
            "met",
            condition,
            lambda table: f"CREATE TABLE {table} AS SELECT trajectory_id AS id FROM rows WHERE {self.check(condition)}",
        )

    def fresh(self) -> int:
        """A number for the name of a table that no other has."""
        return next(self._numbers)

    def _table(self, kind: str, key: str, sql: Callable[[str], str]) -> str:
        """The name of a table that is made when it is first asked for."""
        held = self._tables[kind]
        with self._lock:
            if key not in held:
                table = f"{kind}_{self.fresh()}"
                self.query(sql(table))
                held[key] = table
            held.move_to_end(key)
            if len(held) > _TABLES[kind]:
                self.forget(held.popitem(last=False)[1])
            return held[key]


def columns_in(condition: str) -> list[str]:
    """The columns that a condition names, each once."""
    return list(dict.fromkeys(word for word in _WORD.findall(condition.lower()) if word in _COLUMNS))


def quoted(value: str) -> str:
    """A text as SQL."""
    return "'" + value.replace("'", "''") + "'"
