"""All attempts of a run as one flat SQL table, `rows`, that a user's condition can look at and nothing else."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import pyarrow as pa

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
from pipeline.shards.conservation import Counted, conserve, counted
from pipeline.shards.expressions import checked
from pipeline.shards.reading import Database, ShardFile, first_line
from pipeline.shards.rollup import Known, parts
from pipeline.store import ROWS, RunStore
from schemas.config import fingerprint
from schemas.errors import Fatal, UserError

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
    "caption": (_SHARD, Column("video_id", "r.video_id", ""), *CAPTIONED, *USAGE),
    "teach": (_ID, _SHARD),
    "replay": (_ID, _SHARD, Column("n_trainable", "r.n_trainable", ""), *_JUDGED),
}

_ROWS = """
SELECT *, {generation} AS generation, {flags} FROM (
    SELECT a.* REPLACE (coalesce(a.has_verdict, false) AS has_verdict), c.* EXCLUDE (shard, video_id, {usage})
    FROM ({attempts}) a LEFT JOIN caption c ON c.shard = a.shard AND c.video_id = a.video_id
)
"""
_BY_TRAJECTORY = """
SELECT t.*, v.* EXCLUDE (trajectory_id, shard, n_trainable)
FROM (SELECT {columns} FROM {source} r) t
LEFT JOIN (SELECT {judged} FROM {verdicts} r) v ON v.trajectory_id = t.trajectory_id
"""
_BY_VERDICT = "SELECT {columns} FROM {verdicts} r"
_WITH_REST = """
SELECT v.*, t.* EXCLUDE (trajectory_id) FROM ({by_verdict}) v
LEFT JOIN (SELECT {rest} FROM {source} r) t ON t.trajectory_id = v.trajectory_id
"""

_UNREADABLE = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.InternalException)


class Rows:
    """The rows of a run, as it was when this was made. files: every committed shard with its footer.

    planned: how many attempts there are; plan: its parts; known: of each stage's shards, rolled up or not; told: shards
    that are in no part and could be. The files are read when a query asks, and only the columns that it names.
    Raises UserError where the URL is no run directory, Fatal where plan and shards contradict each other.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store.require()
        self._data = Database(store.storage)
        sizes = {stage: _sizes(store, stage) for stage in _STAGES}
        self._parts = parts(self._data, store, sizes)
        known = {stage: {n: one for part in self._parts for n, one in part.shards[stage].items()} for stage in _STAGES}
        self._left = {stage: [n for n in sizes[stage] if n not in known["replay"]] for stage in _STAGES}
        names = {stage: [store.shard_name(stage, shard) for shard in self._left[stage]] for stage in _STAGES}
        names["plan"] = [f"plan/{name}" for name in store.storage.names("plan", ".parquet")]
        self.plan = names["plan"]
        with ThreadPoolExecutor() as pool:
            footers = dict(zip(names, pool.map(self._data.footers, names.values()), strict=True))
        settings = self.store.recorded_settings() or {}
        self._fingerprints = {0: {stage: fingerprint(of) for stage, of in settings.items()}}
        self._regenerated = self._regenerations(names["plan"], footers["plan"])
        self._create_stages(sizes)
        found = self._counted(known)
        conserve(self._run, store.url, {stage: sizes[stage] for stage in ("teach", "replay")}, found)
        for stage in _STAGES:
            read = zip(self._left[stage], footers[stage], strict=True)
            nothing = Counted(0, 0, 0)
            known[stage] |= {n: Known(sizes[stage][n], footer, found[stage].get(n, nothing)) for n, footer in read}
        self.planned = sum(part.rows for part in found["plan"].values())
        self.known = {stage: {shard: known[stage][shard] for shard in sizes[stage]} for stage in reversed(_STAGES)}
        self.files = [
            ShardFile(stage, shard, one.counted.rows, one.size, one.footer)
            for stage, shards in self.known.items()
            for shard, one in shards.items()
        ]
        whole = {shard for shard, part in found["replay"].items() if part.told == part.rows}
        self.told = [shard for shard in self._left["teach"] if shard in whole]
        self._untold = [shard for shard in self._left["teach"] if shard not in whole]
        self._create_rows(whole=True)
        self._run("CREATE TABLE shape AS SELECT * FROM rows LIMIT 0")
        self._create_rows(whole=False)
        self._data.lock([name for stage in names for name in names[stage]] + self._rolled())

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

    def rolled_up(self, span: range) -> tuple[pa.Table, pa.Table]:
        """The rows and the videos of shards whose verdicts tell of their trajectories, for a part (see `rollup`)."""
        shards = list(span)
        rows = f"{self._joined(self._quick(shards, whole=True))} ORDER BY shard, trajectory_id"
        source = self._source("caption", shards)
        videos = f"SELECT {selected(_VIEWS['caption'])} FROM {source} r ORDER BY shard, video_id"
        return self._data.table(rows), self._data.table(videos)

    def _create_stages(self, sizes: Mapping[str, Mapping[int, int]]) -> None:
        """The plan, and of each stage what stands in its shards, whether they are rolled up or not."""
        self._run(f"CREATE VIEW plan AS SELECT {selected(PLANNED)} FROM {self._data.source(Planned, self.plan)} r")
        for stage in ("teach", "replay"):  # only until the files are locked: rolled-up ones are not read then
            source = self._source(stage, list(sizes[stage]))
            self._run(f"CREATE VIEW {stage} AS SELECT {selected(_VIEWS[stage])} FROM {source} r")
        source = self._source("caption", self._left["caption"])
        captions = [f"SELECT {selected(_VIEWS['caption'])} FROM {source} r"]
        if self._parts:
            captions.append(f"SELECT * FROM {self._data.files([part.videos for part in self._parts])}")
        self._run(f"CREATE TABLE caption AS {' UNION ALL BY NAME '.join(captions)}")

    def _counted(self, known: Mapping[str, Mapping[int, Known]]) -> dict[str, dict[int, Counted]]:
        """The rows of each shard of the plan and of the stages. known: of those that are rolled up."""
        told = {"plan": "0", "teach": "0", "replay": "count(n_trainable)"}
        tables = {"plan": "plan"} | {
            stage: f"(SELECT {selected(_VIEWS[stage])} FROM {self._source(stage, self._left[stage])} r)"
            for stage in ("teach", "replay")
        }
        with ThreadPoolExecutor() as pool:
            counts = pool.map(lambda stage: counted(self._run, tables[stage], told[stage]), told)
            found = dict(zip(told, counts, strict=True))
        captions = self._run("SELECT shard, count(*) FROM caption GROUP BY 1")
        found["caption"] = {shard: Counted(rows, 0, 0) for shard, rows in captions}
        return {stage: of | {n: one.counted for n, one in known.get(stage, {}).items()} for stage, of in found.items()}

    def _create_rows(self, whole: bool) -> None:
        """The view, from shards whose verdicts tell what is mostly asked for, from the others, and from the plan.

        whole: with the columns that no verdict tells, too, for which every trajectory must be looked up.
        """
        attempts = [self._quick(self.told, whole)]
        if self._untold:
            judged = [shard for shard in self._untold if shard in self.known["replay"]]
            attempts.append(
                _BY_TRAJECTORY.format(
                    columns=selected(_TAUGHT),
                    source=self._source("teach", self._untold),
                    judged=selected(_VIEWS["replay"]),
                    verdicts=self._source("replay", judged),
                )
            )
        done = self.known["teach"]
        if self.planned > sum(one.counted.rows for one in done.values()):
            listed = ", ".join(map(str, done)) or "NULL"
            attempts.append(f"SELECT *, 'not_run' AS status FROM plan WHERE coalesce(shard NOT IN ({listed}), true)")
        rows = [self._joined(" UNION ALL BY NAME ".join(attempts))]
        if self._parts:
            rows.append(f"SELECT * FROM {self._data.files([part.rows for part in self._parts])}")
        self._run(f"CREATE OR REPLACE VIEW rows AS {' UNION ALL BY NAME '.join(rows)}")
        self._whole = whole

    def _quick(self, shards: Sequence[int], whole: bool) -> str:
        """The attempts of shards whose verdicts tell of them."""
        columns = selected((*TOLD, _SHARD, *_JUDGED))
        quick = _BY_VERDICT.format(columns=columns, verdicts=self._source("replay", shards))
        rest, source = selected((_ID, *_REST)), self._source("teach", shards)
        return _WITH_REST.format(by_verdict=quick, rest=rest, source=source) if whole else quick

    def _joined(self, attempts: str) -> str:
        """Attempts with what is known of their videos and shards."""
        usage = ", ".join(column.name for column in USAGE)
        spans = "".join(
            f" WHEN shard BETWEEN {first} AND {last} THEN {number}"
            for number, (first, last) in self._regenerated.items()
        )
        generation = f"(CASE{spans} ELSE 0 END)::BIGINT" if spans else GENERATION.sql
        return _ROWS.format(generation=generation, flags=selected(FLAGS), usage=usage, attempts=attempts)

    def _rolled(self) -> list[str]:
        return [name for part in self._parts for name in (part.rows, part.videos)]

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
