"""The SQL table of a run, for several threads."""

import threading
from collections.abc import Mapping
from typing import Any

from pipeline.shards.condition import Condition
from pipeline.shards.funnel import loss_sql
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.errors import UserError


class SharedRows:
    """`Rows` with one query at a time. conditions: the presets by name, whose reasons are told."""

    def __init__(self, rows: Rows, conditions: Mapping[str, Condition]) -> None:
        self.conditions = conditions
        self._rows = rows
        self._lock = threading.Lock()
        self._losses: dict[str, str] = {}
        self._files = {(file.stage, file.shard) for file in rows.files}

    @property
    def store(self) -> RunStore:
        return self._rows.store

    def has(self, stage: str, shard: int) -> bool:
        """Whether the stage had committed the shard when the rows were loaded."""
        return (stage, shard) in self._files

    def query(self, sql: str) -> list[dict[str, Any]]:
        """See `Rows.query`."""
        with self._lock:
            return self._rows.query(sql)

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
