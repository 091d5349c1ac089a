"""All attempts of a run as one flat SQL table, `rows`, that a user's condition can look at and nothing else."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb

from pipeline.plan import Planned, generation_in
from pipeline.shards.columns import (
    CAPTIONED,
    FLAGS,
    GENERATION,
    PLANNED,
    ROLLED_OUT,
    TOLD,
    TURNS,
    USAGE,
    VERDICT,
    Column,
    selected,
)
from pipeline.shards.conservation import conserve, counted
from pipeline.shards.expressions import checked
from pipeline.shards.reading import Database, ShardFile, first_line
from pipeline.store import ROWS, RunStore
from schemas.config import fingerprint
from schemas.errors import Fatal, UserError

_RECORDS = ROWS | {"plan": Planned}

_STAGES = ("replay", "teach", "caption")
"""In this order, so that of a run that goes on no shard is seen without what came before it."""

_FILE = re.compile(r"shard-(\d+)\.parquet")
_SHARD = Column("shard", r"regexp_extract(r.filename, 'shard-(\d+)\.parquet$', 1)::BIGINT", "")
_ID = Column("trajectory_id", "r.trajectory_id", "")
_AS_PLANNED = (_ID, _SHARD, *(column for column in PLANNED if column.name not in ("trajectory_id", "shard")))
_TAUGHT = (*_AS_PLANNED, *ROLLED_OUT, *TURNS)
_REST = tuple(column for column in _TAUGHT if column.name not in {"shard", *(told.name for told in TOLD)})
_NAMES_REST = re.compile(rf"\b({'|'.join(column.name for column in _REST)})\b|(?<!count\()\*", re.IGNORECASE)
"""Whether a query may name a column that no verdict tells; `*` names them all."""
_FROM_ROWS = re.compile(r"\brows\b", re.IGNORECASE)

_JUDGED = (*VERDICT, Column("has_verdict", "true", ""))

_VIEWS = {
    "plan": PLANNED,
    "caption": (_SHARD, Column("video_id", "r.video_id", ""), *CAPTIONED, *USAGE),
    "teach": (_ID, _SHARD),
    "replay": (_ID, _SHARD, Column("n_trainable", "r.n_trainable", ""), *_JUDGED),
}

_ROWS = """
CREATE OR REPLACE VIEW rows AS SELECT *, {generation} AS generation, {flags} FROM (
    SELECT a.* REPLACE (coalesce(a.has_verdict, false) AS has_verdict), c.* EXCLUDE (shard, video_id, {usage})
    FROM ({attempts}) a LEFT JOIN caption c ON c.shard = a.shard AND c.video_id = a.video_id
)
"""
_BY_TRAJECTORY = """
SELECT t.*, v.* EXCLUDE (trajectory_id, shard, n_trainable)
FROM (SELECT {columns} FROM {source} r) t LEFT JOIN replay v ON v.trajectory_id = t.trajectory_id
"""
_BY_VERDICT = "SELECT {columns} FROM {verdicts} r"
_WITH_REST = """
SELECT v.*, t.* EXCLUDE (trajectory_id) FROM ({by_verdict}) v
LEFT JOIN (SELECT {rest} FROM {source} r) t ON t.trajectory_id = v.trajectory_id
"""

_UNREADABLE = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.InternalException)


class Rows:
    """The rows of a run, as it was when this was made. files: every committed shard with its footer.

    planned: how many attempts there are; plan: its parts. The files are read when a query asks, and only the columns
    that it names.
    Raises UserError where the URL is no run directory, Fatal where plan and shards contradict each other.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store.require()
        self._data = Database(store.storage)
        sizes = {stage: _sizes(store, stage) for stage in _STAGES}
        names = {stage: [store.shard_name(stage, shard) for shard in sizes[stage]] for stage in _STAGES}
        names["plan"] = [f"plan/{name}" for name in store.storage.names("plan", ".parquet")]
        self.plan = names["plan"]
        with ThreadPoolExecutor() as pool:
            footers = dict(zip(names, pool.map(self._data.footers, names.values()), strict=True))
        settings = self.store.recorded_settings() or {}
        self._fingerprints = {0: {stage: fingerprint(of) for stage, of in settings.items()}}
        self._regenerated = self._regenerations(names["plan"], footers["plan"])
        for stage, columns in _VIEWS.items():
            kind = "TABLE" if stage == "caption" else "VIEW"
            source = self._data.source(_RECORDS[stage], names[stage])
            self._run(f"CREATE {kind} {stage} AS SELECT {selected(columns)} FROM {source} r")
        told = {"plan": "0", "teach": "0", "replay": "count(n_trainable)"}
        with ThreadPoolExecutor() as pool:
            found = dict(zip(told, pool.map(lambda table: counted(self._run, table, told[table]), told), strict=True))
        conserve(self._run, store.url, {stage: sizes[stage] for stage in ("teach", "replay")}, found)
        rows = {stage: {shard: part.rows for shard, part in parts.items()} for stage, parts in found.items()}
        rows["caption"] = dict(self._run("SELECT shard, count(*) FROM caption GROUP BY 1"))
        self.planned = sum(rows["plan"].values())
        self.files = [
            ShardFile(stage, shard, rows[stage].get(shard, 0), size, footer)
            for stage in reversed(_STAGES)
            for (shard, size), footer in zip(sizes[stage].items(), footers[stage], strict=True)
        ]
        whole = {shard for shard, part in found["replay"].items() if part.told == part.rows}
        self._told = [shard for shard in sizes["teach"] if shard in whole]
        self._untold = [shard for shard in sizes["teach"] if shard not in whole]
        self._create_rows(whole=True)
        self._run("CREATE TABLE shape AS SELECT * FROM rows LIMIT 0")
        self._create_rows(whole=False)
        self._data.lock([name for stage in names for name in names[stage]])

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each stage's settings, of the run's own attempts."""
        return self._fingerprints[0]

    @property
    def generations(self) -> dict[int, dict[str, str]]:
        """The same of each generation: 0 is the run's own."""
        return self._fingerprints

    def fingerprints_of(self, shard: int) -> dict[str, str]:
        """The same of the attempts of a shard: a regeneration may have had other settings."""
        return self._fingerprints[
            next((n for n, (first, last) in self._regenerated.items() if first <= shard <= last), 0)
        ]

    def _regenerations(self, names: Sequence[str], footers: Sequence[dict[str, Any]]) -> dict[int, tuple[int, int]]:
        """The first and the last shard of each regeneration. names, footers: of the plan's parts."""
        verifier = (self.store.recorded_settings() or {})["replay"] if self.store.verifier else None
        found = {}
        for name, footer in zip(names, footers, strict=True):
            if ordered := generation_in(footer):
                source = self._data.source(Planned, [name])
                found[ordered.number] = self._run(f"SELECT min(shard), max(shard) FROM {source}")[0]
                self._fingerprints[ordered.number] = ordered.fingerprints(verifier)
        return found

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The result of a query whose conditions were checked; any thread may ask.

        Raises UserError where a row's value breaks a condition, Fatal where a file cannot be read.
        """
        if not self._whole and _FROM_ROWS.search(sql) and _NAMES_REST.search(sql):
            self._create_rows(whole=True)
        try:
            cursor = self._data.sql.cursor().execute(sql)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except _UNREADABLE as error:
            raise self._unreadable(error) from error
        except duckdb.Error as error:
            raise UserError(f"the condition cannot be evaluated: {first_line(error)}") from error

    def check(self, condition: str) -> str:
        """A condition as one parenthesised expression (see `checked`). Raises UserError where it is anything else."""
        return checked(self._data.sql.cursor(), "shape", condition)

    def _create_rows(self, whole: bool) -> None:
        """The view, from shards whose verdicts tell what is mostly asked for, from the others, and from the plan.

        whole: with the columns that no verdict tells, too, for which every trajectory must be looked up.
        """
        columns = selected((*TOLD, _SHARD, *_JUDGED))
        quick = _BY_VERDICT.format(columns=columns, verdicts=self._source("replay", self._told))
        rest, source = selected((_ID, *_REST)), self._source("teach", self._told)
        parts = [_WITH_REST.format(by_verdict=quick, rest=rest, source=source) if whole else quick]
        if self._untold:
            untold = self._source("teach", self._untold)
            parts.append(_BY_TRAJECTORY.format(columns=selected(_TAUGHT), source=untold))
        if self.planned > sum(file.rows for file in self.files if file.stage == "teach"):
            done = ", ".join(map(str, [*self._told, *self._untold])) or "NULL"
            parts.append(f"SELECT *, 'not_run' AS status FROM plan WHERE coalesce(shard NOT IN ({done}), true)")
        usage = ", ".join(column.name for column in USAGE)
        attempts = " UNION ALL BY NAME ".join(parts)
        spans = "".join(
            f" WHEN shard BETWEEN {first} AND {last} THEN {number}"
            for number, (first, last) in self._regenerated.items()
        )
        generation = f"(CASE{spans} ELSE 0 END)::BIGINT" if spans else GENERATION.sql
        self._run(_ROWS.format(generation=generation, flags=selected(FLAGS), usage=usage, attempts=attempts))
        self._whole = whole

    def _source(self, stage: str, shards: Sequence[int]) -> str:
        return self._data.source(ROWS[stage], [self.store.shard_name(stage, shard) for shard in shards])

    def _run(self, sql: str) -> list[tuple[Any, ...]]:
        """The result of a query of our own, in any thread."""
        try:
            return self._data.sql.cursor().execute(sql).fetchall()
        except duckdb.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: duckdb.Error) -> Fatal:
        return Fatal(f"{self.store.url} cannot be read: {first_line(error)}")


def _sizes(store: RunStore, stage: str) -> dict[int, int]:
    """The bytes of each committed shard, by its number."""
    found = ((_FILE.fullmatch(file.name), file.bytes) for file in store.storage.files(store.folder(stage)))
    return {int(name[1]): size for name, size in found if name}
