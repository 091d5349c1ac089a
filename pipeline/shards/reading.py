"""Parquet files of a run as SQL: read where they lie, only the columns that a query names, and nothing but them."""

import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage import Storage
from schemas.arrow import arrow_schema
from schemas.errors import Fatal, UserError
from schemas.record import SCHEMA_VERSION, Record

MEMORY = "1GiB"
"""What a query may hold; beyond it lies in temporary files. The footers that are held ready come to this."""

THREADS, REMOTE_THREADS = 8, 16
"""At most; an object store answers slowly, so that more threads wait there than there are processors."""

_LOCKS = (
    "SET enable_external_access = false",
    "SET autoload_known_extensions = false",
    "SET autoinstall_known_extensions = false",
    "SET python_enable_replacements = false",
    "SET lock_configuration = true",
)

_SCALARS = {
    pa.bool_(): "BOOLEAN",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
}


@dataclass(frozen=True)
class ShardFile:
    """What a committed file says of itself. size: bytes of the file; footer: fingerprint, statuses, usage, seconds."""

    stage: str
    shard: int
    rows: int
    size: int
    footer: dict[str, Any]


class Database:
    """An in-memory SQL database that reads files of a run, and after `lock` nothing else."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        scratch = Path(tempfile.gettempdir()) / f"zoomtrail-{os.getpid()}-{secrets.token_hex(4)}"
        self.sql = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": MEMORY,
                "threads": min(THREADS, os.cpu_count() or 1) if storage.is_local else REMOTE_THREADS,
                "temp_directory": str(scratch),
                "preserve_insertion_order": False,
            },
        )
        self.sql.execute("SET enable_progress_bar = false")
        self.sql.execute("SET parquet_metadata_cache = true")
        self.sql.execute("SET TimeZone = 'UTC'")  # so that a condition on times means the same everywhere
        # Joins are carried out as they are written: how many rows a list of files has it guesses badly.
        self.sql.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        if not storage.is_local:
            self.sql.register_filesystem(storage.fs)

    def lock(self, names: Sequence[str]) -> None:
        """From now on only these files of the run can be read, and none can be written."""
        self.sql.execute(f"SET allowed_paths = {self._listed(names)}")
        for lock in _LOCKS:
            self.sql.execute(lock)

    def source(self, record: type[Record], names: Sequence[str]) -> str:
        """Files of a record's rows, for a FROM. A column that an older file lacks is NULL there."""
        types = {field.name: sql_type(field.type) for field in arrow_schema(record)}
        if not names:
            columns = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in types.items())
            return f"(SELECT {columns}, NULL::VARCHAR AS filename WHERE false)"
        columns = ", ".join(
            f"{text(name)}: {{'name': {text(name)}, 'type': {text(kind)}, 'default_value': NULL}}"
            for name, kind in types.items()
        )
        return f"read_parquet({self._listed(names)}, schema = MAP {{{columns}}}, hive_partitioning = false)"

    def files(self, names: Sequence[str]) -> str:
        """Files of our own that all have the same columns, for a FROM."""
        return f"read_parquet({self._listed(names)}, hive_partitioning = false)"

    def table(self, sql: str) -> pa.Table:
        """The result of a query as an Arrow table."""
        return self.sql.cursor().sql(sql).to_arrow_table()

    def footers(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """What each file says of itself. Raises UserError for one of another version, Fatal for a damaged one."""
        if not names:
            return []
        try:
            found = (
                self.sql.cursor()
                .execute(
                    f"SELECT file_name, value FROM parquet_kv_metadata({self._listed(names)}) WHERE key = 'zoomtrail'"
                )
                .fetchall()
            )
        except duckdb.Error as error:
            raise self._damaged(names, error) from error
        by_path = {path: json.loads(value) for path, value in found}
        footers = [by_path.get(self._path(name), {}) for name in names]
        for name, footer in zip(names, footers, strict=True):
            if footer.get("schema_version") != SCHEMA_VERSION:
                raise UserError(
                    f"{self._storage.url}/{name} has rows of version {footer.get('schema_version')}, this Zoomtrail "
                    f"reads version {SCHEMA_VERSION}: use the Zoomtrail that wrote the run"
                )
        return footers

    def _damaged(self, names: Sequence[str], error: duckdb.Error) -> Fatal:
        """The file that cannot be read, by name."""
        for name in names:
            try:
                with self._storage.fs.open(self._storage.path(name)) as file:
                    pq.read_metadata(file)
            except (pa.ArrowInvalid, OSError) as found:
                return Fatal(f"{self._storage.url}/{name} is not a readable Parquet file: {found}")
        return Fatal(f"{self._storage.url}: {first_line(error)}")

    def _path(self, name: str) -> str:
        path = self._storage.path(name)
        return path if self._storage.is_local else str(self._storage.fs.unstrip_protocol(path))

    def _listed(self, names: Sequence[str]) -> str:
        return f"[{', '.join(text(self._path(name)) for name in names)}]"


def sql_type(kind: pa.DataType) -> str:
    """An Arrow type of a record as SQL writes it."""
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        fields = [f'"{field.name}" {sql_type(field.type)}' for field in kind]
        return f"STRUCT({', '.join(fields)})"
    return _SCALARS[kind]


def text(value: str) -> str:
    """A text as SQL."""
    return "'" + value.replace("'", "''") + "'"


def first_line(error: duckdb.Error) -> str:
    return str(error).strip().splitlines()[0]
