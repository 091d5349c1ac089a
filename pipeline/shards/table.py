"""All attempts of a run as one flat SQL table, `rows`, that a user's condition can look at and nothing else."""

import re
from collections.abc import Collection, Sequence
from typing import Any

import duckdb

from pipeline.plan import Planned
from pipeline.shards.columns import CAPTIONED, FLAGS, PLANNED, ROLLED_OUT, TOLD, USAGE, VERDICT, Column, selected
from pipeline.shards.conservation import conserve, counted
from pipeline.shards.expressions import checked
from pipeline.shards.reading import Database, ShardFile, first_line, sql_type
from pipeline.store import ROWS, RunStore
from schemas.arrow import arrow_schema
from schemas.config import fingerprint
from schemas.errors import Fatal, UserError
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict

_RECORDS = ROWS | {"plan": Planned}

_STAGES = ("replay", "teach", "caption")
"""In this order, so that of a run that goes on no shard is seen without what came before it."""

_FILE = re.compile(r"shard-(\d+)\.parquet")
_SHARD = Column("shard", r"regexp_extract(r.filename, 'shard-(\d+)\.parquet$', 1)::BIGINT", "")
_ID = Column("trajectory_id", "r.trajectory_id", "")
_AS_PLANNED = (_ID, _SHARD, *(column for column in PLANNED if column.name not in ("trajectory_id", "shard")))
_TOLD = tuple(Column(column.name, f"r.{column.name}", "") for column in TOLD)
_UNTOLD = tuple(
    Column(name, f"NULL::{sql_type(arrow_schema(Verdict).field(name).type)}", "") for name in (c.name for c in TOLD)
)
"""Where the verdict tells of the turns they stay unread."""

_VIEWS = {
    "plan": PLANNED,
    "caption": (_SHARD, Column("video_id", "r.video_id", ""), *CAPTIONED, *USAGE),
    "teach": (_ID, _SHARD),
    "replay": (_ID, _SHARD, *VERDICT, *_TOLD, Column("has_verdict", "true", "")),
}

_ROWS = """
CREATE VIEW rows AS SELECT *, {flags} FROM (
    SELECT t.* EXCLUDE ({told}), c.* EXCLUDE (shard, video_id, {usage}), {either},
        v.* EXCLUDE (trajectory_id, shard, {told}) REPLACE (coalesce(v.has_verdict, false) AS has_verdict)
    FROM ({attempts}) t
    LEFT JOIN caption c ON c.shard = t.shard AND c.video_id = t.video_id
    LEFT JOIN replay v ON v.trajectory_id = t.trajectory_id
)
"""

_UNREADABLE = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.InternalException)


class Rows:
    """The rows of a run, as it was when this was made. files: every committed shard with its footer.

    planned: how many attempts there are. The files are read when a query asks, and only the columns that it names.
    Raises UserError where the URL is no run directory, Fatal where plan and shards contradict each other.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store.require()
        self._data = Database(store.storage)
        sizes = {stage: _sizes(store, stage) for stage in _STAGES}
        names = {stage: [store.shard_name(stage, shard) for shard in sizes[stage]] for stage in _STAGES}
        names["plan"] = [f"plan/{name}" for name in store.storage.names("plan", ".parquet")]
        footers = {stage: self._data.footers(names[stage]) for stage in names}
        for stage, columns in _VIEWS.items():
            kind = "TABLE" if stage == "caption" else "VIEW"
            source = self._data.source(_RECORDS[stage], names[stage])
            self._run(f"CREATE {kind} {stage} AS SELECT {selected(columns)} FROM {source} r")
        found = {
            "plan": counted(self._run, "plan"),
            "teach": counted(self._run, "teach"),
            "replay": counted(self._run, "replay", "count(n_trainable)"),
        }
        conserve(self._run, store.url, {stage: sizes[stage] for stage in ("teach", "replay")}, found)
        rows = {stage: {shard: part.rows for shard, part in parts.items()} for stage, parts in found.items()}
        rows["caption"] = dict(self._run("SELECT shard, count(*) FROM caption GROUP BY 1"))
        self.planned = sum(rows["plan"].values())
        self.files = [
            ShardFile(stage, shard, rows[stage].get(shard, 0), size, footer)
            for stage in reversed(_STAGES)
            for (shard, size), footer in zip(sizes[stage].items(), footers[stage], strict=True)
        ]
        told = {shard for shard, part in found["replay"].items() if part.told == part.rows}
        self._create_rows(sizes["teach"], told)
        self._data.lock([name for stage in names for name in names[stage]])

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each stage's settings."""
        return {stage: fingerprint(settings) for stage, settings in (self.store.recorded_settings() or {}).items()}

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The result of a query whose conditions were checked. Raises UserError where a row's value breaks one, Fatal
        where a file cannot be read."""
        try:
            cursor = self._data.sql.execute(sql)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except _UNREADABLE as error:
            raise self._unreadable(error) from error
        except duckdb.Error as error:
            raise UserError(f"the condition cannot be evaluated: {first_line(error)}") from error

    def check(self, condition: str) -> str:
        """A condition as one parenthesised expression (see `checked`). Raises UserError where it is anything else."""
        return checked(self._data.sql, "shape", condition)

    def _create_rows(self, taught: Collection[int], told: Collection[int]) -> None:
        """The view, from teach files whose turns need not be read, from the others, and from the plan of the rest."""

        def attempts(shards: Sequence[int], turns: Sequence[Column]) -> str:
            source = self._data.source(Trajectory, [self.store.shard_name("teach", shard) for shard in shards])
            return f"SELECT {selected((*_AS_PLANNED, *ROLLED_OUT, *turns))} FROM {source} r"

        parts = [attempts([shard for shard in taught if shard in told], _UNTOLD)]
        if slow := [shard for shard in taught if shard not in told]:
            parts.append(attempts(slow, TOLD))
        done = ", ".join(map(str, taught)) or "NULL"
        parts.append(f"SELECT *, 'not_run' AS status FROM plan WHERE coalesce(shard NOT IN ({done}), true)")
        self._run(
            _ROWS.format(
                flags=selected(FLAGS),
                told=", ".join(column.name for column in TOLD),
                usage=", ".join(column.name for column in USAGE),
                either=", ".join(f"coalesce(v.{c.name}, t.{c.name}) AS {c.name}" for c in TOLD),
                attempts=" UNION ALL BY NAME ".join(parts),
            )
        )
        self._run("CREATE TABLE shape AS SELECT * FROM rows LIMIT 0")

    def _run(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return self._data.sql.execute(sql).fetchall()
        except duckdb.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: duckdb.Error) -> Fatal:
        return Fatal(f"{self.store.url} cannot be read: {first_line(error)}")


def _sizes(store: RunStore, stage: str) -> dict[int, int]:
    """The bytes of each committed shard, by its number."""
    found = ((_FILE.fullmatch(file.name), file.bytes) for file in store.storage.files(store.folder(stage)))
    return {int(name[1]): size for name, size in found if name}
