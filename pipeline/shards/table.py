"""All attempts of a run as one flat SQL table, `rows`, that a user's condition can look at and nothing else."""

import difflib
import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.plan import Planned, generation_in
from pipeline.shards.columns import (
    CAPTIONED,
    COLUMNS,
    FLAGS,
    GENERATION,
    PLANNED,
    ROLLED_OUT,
    USAGE,
    VERDICT,
    Column,
    selected,
)
from pipeline.shards.reading import ShardFile, read_columns, read_stage
from pipeline.store import ROWS, RunStore
from schemas.arrow import arrow_schema
from schemas.config import fingerprint
from schemas.errors import Fatal, UserError
from schemas.generation import Generation
from schemas.record import Record
from schemas.verdict import Verdict

_QUESTION = ("question_id", "video_id", "text", "kind", "choices", "answer_letter", "clue_intervals", "source")
_TURN = ("think", "error", "trainable")
_VIDEO = ("duration_s", "fps", "width", "height", "codec")
_READ = {
    "plan": ("shard", "attempt", *(f"question.{name}" for name in _QUESTION)),
    "caption": ("video_id", "status", "error", "usage", *(f"video.{name}" for name in _VIDEO)),
    "teach": (
        *("trajectory_id", "status", "protocol", "teacher", "final_answer", "answer_shown", "interval_shown"),
        *("usage", "error", "reflection.max_turns", "hints.list.element.level"),
        *(f"turns.list.element.{name}" for name in _TURN),
    ),
    "replay": tuple(arrow_schema(Verdict).names),
}
"""What is read of each file. Pixels, raw texts and frames stay where they are."""

_ID = Column("trajectory_id", "r.trajectory_id", "")
_STAGED = {
    "caption": (Column("video_id", "r.video_id", ""), *CAPTIONED, *USAGE),
    "teach": (_ID, *ROLLED_OUT),
    "replay": (_ID, *VERDICT, Column("has_verdict", "true", "")),
}

_JOIN = """
CREATE TABLE rows AS SELECT *, {flags} FROM (
    SELECT p.*, c.* EXCLUDE (shard, video_id, {usage}), t.* EXCLUDE (shard, trajectory_id)
        REPLACE (coalesce(t.status, 'not_run') AS status),
        v.* EXCLUDE (shard, trajectory_id) REPLACE (coalesce(v.has_verdict, false) AS has_verdict)
    FROM plan p
    LEFT JOIN caption c ON c.shard = p.shard AND c.video_id = p.video_id
    LEFT JOIN teach t ON t.trajectory_id = p.trajectory_id
    LEFT JOIN replay v ON v.trajectory_id = p.trajectory_id
)
"""

_LOCKS = (
    "SET enable_external_access = false",
    "SET autoload_known_extensions = false",
    "SET autoinstall_known_extensions = false",
    "SET python_enable_replacements = false",
    "SET lock_configuration = true",
)

_REFUSED = {"SUBQUERY": "a subquery", "WINDOW": "a window function", "STAR": "*", "PARAMETER": "a parameter"}


class Rows:
    """The rows of a run, loaded once. files: every committed shard with its footer.

    Raises UserError where the URL is no run directory, Fatal where plan and shards contradict each other.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store.require()
        self.files: list[ShardFile] = []
        self._generation_of: dict[int, int] = {}
        settings = self.store.recorded_settings() or {}
        self._fingerprints = {0: {stage: fingerprint(of) for stage, of in settings.items()}}
        self._db = duckdb.connect(":memory:")
        self._load_plan()
        for stage in _STAGED:
            self._load_stage(stage)
        self._check_conservation()
        usage = ", ".join(column.name for column in USAGE)
        self._db.execute(_JOIN.format(flags=selected(FLAGS), usage=usage))
        self._db.execute("DROP TABLE plan; DROP TABLE teach; DROP TABLE replay")
        for lock in _LOCKS:
            self._db.execute(lock)

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each stage's settings, of the run's own attempts."""
        return self._fingerprints[0]

    def fingerprints_of(self, shard: int) -> dict[str, str]:
        """The same of the attempts of a shard: a regeneration may have had other settings."""
        return self._fingerprints[self._generation_of.get(shard, 0)]

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The result of a query whose conditions were checked. Raises UserError where a row's value breaks one."""
        try:
            cursor = self._db.execute(sql)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except duckdb.Error as error:
            raise UserError(f"the condition cannot be evaluated: {_first_line(error)}") from error

    def check(self, condition: str) -> str:
        """A condition as one parenthesised expression. Raises UserError where it is anything else.

        Allowed are expressions of the columns and functions that give the same result every time; refused are further
        statements, subqueries, aggregates, unknown columns, and whatever is not true or false.
        """
        wrapped = f"({condition}\n)"
        # What parses both inside brackets and without is one expression that closes no bracket of ours.
        for shape in (wrapped, condition):
            self._refuse_foreign(self._parsed(f"SELECT 1 FROM rows WHERE {shape}", condition), condition)
        try:
            self._db.execute(f"EXPLAIN SELECT 1 FROM rows WHERE {wrapped}")
            described = self._db.execute(f"DESCRIBE SELECT {wrapped} FROM rows").fetchall()
        except duckdb.Error as error:
            raise UserError(f"condition {_quoted(condition)}: {_first_line(error)}") from error
        if described[0][1] != "BOOLEAN":
            raise UserError(f"condition {_quoted(condition)} gives {described[0][1]}, not true or false: compare it")
        return wrapped

    def _parsed(self, sql: str, condition: str) -> Any:
        (text,) = self._db.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone() or ("{}",)
        parsed = json.loads(text)
        if parsed.get("error", True) or len(parsed["statements"]) != 1:
            fault = parsed.get("error_message", "not one expression")
            raise UserError(f"condition {_quoted(condition)} is not one SQL expression: {fault.splitlines()[0]}")
        return parsed["statements"][0]["node"].get("where_clause")

    def _refuse_foreign(self, tree: Any, condition: str) -> None:
        nodes = list(_nodes(tree))
        bound = {name for node in nodes if node.get("class") == "LAMBDA" for name in _names(node.get("lhs"))}
        for node in nodes:
            kind = node.get("class")
            if kind in _REFUSED:
                raise UserError(
                    f"condition {_quoted(condition)} holds {_REFUSED[kind]}; only columns of a row are allowed"
                )
            if kind == "COLUMN_REF":
                self._require_column(node["column_names"], bound, condition)
            if kind == "FUNCTION":
                self._require_steady(node["function_name"], condition)

    def _require_column(self, path: list[str], bound: set[str], condition: str) -> None:
        known = {column.name: column.meaning for column in COLUMNS}
        name = path[1] if len(path) == 2 and path[0].lower() == "rows" else path[0]
        if name.lower() in known or name in bound:
            return
        close = [f"{n} ({known[n]})" for n in difflib.get_close_matches(name.lower(), known, 2)]
        guess = f" Did you mean {' or '.join(close)}?" if close else ""
        quotes = " Texts stand in 'single quotes'." if f'"{name}"' in condition else ""
        raise UserError(
            f"condition {_quoted(condition)}: there is no column {name}.{guess}{quotes} Columns: {', '.join(known)}"
        )

    def _require_steady(self, function: str, condition: str) -> None:
        unsteady = self._db.execute(
            "SELECT 1 FROM duckdb_functions() WHERE function_name = ? AND (stability <> 'CONSISTENT' OR "
            "regexp_matches(macro_definition, '(?i)current_|sleep|select')) LIMIT 1",
            [function.lower()],
        ).fetchone()
        if unsteady:
            raise UserError(
                f"condition {_quoted(condition)}: {function}() is not allowed: a cut must come out the same again"
            )

    def _load_plan(self) -> None:
        self._create("plan", Planned, (*PLANNED, GENERATION))
        for name in self.store.storage.names("plan", ".parquet"):
            table, _, footer = read_columns(self.store, f"plan/{name}", _READ["plan"])
            ordered = generation_in(footer)
            self._insert("plan", table, f"{selected(PLANNED)}, {ordered.number if ordered else 0}::BIGINT")
            if ordered is not None:
                self._fingerprints[ordered.number] = self._marks(ordered)
                self._generation_of |= dict.fromkeys(table["shard"].unique().to_pylist(), ordered.number)

    def _marks(self, ordered: Generation) -> dict[str, str]:
        verifier = (self.store.recorded_settings() or {})["replay"] if self.store.verifier else None
        return ordered.fingerprints(verifier)

    def _load_stage(self, stage: str) -> None:
        shard = Column("shard", "0::BIGINT", "")
        self._create(stage, ROWS[stage], (shard, *_STAGED[stage]))
        for file, table in read_stage(self.store, stage, _READ[stage]):
            self.files.append(file)
            self._insert(stage, table, f"{file.shard}::BIGINT, {selected(_STAGED[stage])}")

    def _create(self, name: str, record: type[Record], columns: tuple[Column, ...]) -> None:
        self._db.register("incoming", arrow_schema(record).empty_table())
        self._db.execute(f"CREATE TABLE {name} AS SELECT {selected(columns)} FROM incoming r")

    def _insert(self, name: str, table: pa.Table, columns: str) -> None:
        self._db.register("incoming", table)
        self._db.execute(f"INSERT INTO {name} SELECT {columns} FROM incoming r")
        self._db.unregister("incoming")

    def _check_conservation(self) -> None:
        """Every attempt is planned once; a committed shard has each of its attempts once, and no other."""
        queries = {"planned twice": "SELECT trajectory_id FROM plan GROUP BY 1 HAVING count(*) > 1 ORDER BY 1"}
        for stage in ("teach", "replay"):
            found = f"SELECT trajectory_id, shard, count(*) AS n FROM {stage} GROUP BY ALL"
            done = ", ".join(str(file.shard) for file in self.files if file.stage == stage) or "NULL"
            due = f"SELECT trajectory_id, shard FROM plan WHERE shard IN ({done})"
            queries[f"not once in the rows of the {stage} stage, as planned"] = (
                f"SELECT trajectory_id FROM ({due}) p FULL JOIN ({found}) f USING (trajectory_id, shard) "
                "WHERE p.trajectory_id IS NULL OR n IS DISTINCT FROM 1 ORDER BY 1"
            )
        for fault, query in queries.items():
            if off := self._db.execute(query).fetchall():
                ids = ", ".join(row[0] for row in off[:3])
                raise Fatal(f"{self.store.url}: {len(off)} attempts are {fault}, such as {ids}")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _names(tree: Any) -> Iterator[str]:
    for node in _nodes(tree):
        if node.get("class") == "COLUMN_REF":
            yield node["column_names"][0]


def _first_line(error: duckdb.Error) -> str:
    return str(error).strip().splitlines()[0]


def _quoted(condition: str) -> str:
    line = " ".join(condition.split())
    return f"`{line if len(line) <= 120 else line[:117] + '...'}`"
