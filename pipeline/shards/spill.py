"""Rows that arrive in any order, put in order and cut into files: a million of them never sit in memory."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc

RANK, NUMBER = "__rank", "__number"
"""Columns that tell a row's place: the rank of its sample among all samples, and its number within that."""

PLACE = (pa.field(RANK, pa.int64()), pa.field(NUMBER, pa.int64()))

_HELD_BYTES = 100_000_000
"""Rows that wait in memory before they are written, so that a bucket's file grows by more than a few at a time."""


class Spill:
    """Rows in memory, and from some size on in buckets on the local disk, one for each `bucket` samples.

    A context manager. rows: how many were added.
    """

    def __init__(self, schema: pa.Schema, bucket: int, held_bytes: int = _HELD_BYTES) -> None:
        self.rows = 0
        self._schema = schema
        self._bucket = bucket
        self._held_bytes = held_bytes
        self._waiting: list[pa.Table] = []
        self._bytes = 0
        self._numbers: set[int] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="zoomtrail-cut-")

    def __enter__(self) -> "Spill":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, table: pa.Table) -> None:
        """Takes rows with the columns of their places, no two the same."""
        self.rows += table.num_rows
        self._waiting.append(table)
        self._bytes += table.nbytes
        if self._bytes > self._held_bytes:
            self._flush()

    def tables(self) -> Iterator[pa.Table]:
        """All rows in order, a bucket at a time."""
        if not self._numbers:
            self._waiting = [_in_order(self._waiting)] if self._waiting else []
            for table in self._waiting:
                yield from (part.drop_columns([RANK, NUMBER]) for _, part in self._by_bucket(table))
            return
        self._flush()
        for number in sorted(self._numbers):
            parts, path = [], self._path(number)
            with path.open("rb") as file:
                while file.tell() < path.stat().st_size:
                    parts.append(pa.ipc.open_stream(file).read_all())
            yield _in_order(parts).drop_columns([RANK, NUMBER])

    def files(self, sizes: Sequence[int]) -> Iterator[pa.Table]:
        """The rows in order, so many at a time; one table without rows where there are none."""
        rest, tables = self._schema.empty_table(), self.tables()
        for size in sizes:
            while rest.num_rows < size:
                rest = pa.concat_tables([rest, next(tables)])
            yield rest.slice(0, size)
            rest = rest.slice(size)

    def _flush(self) -> None:
        """Writes what waits, each bucket's rows to its file."""
        if not self._waiting:
            return
        waiting, self._waiting, self._bytes = _in_order(self._waiting), [], 0
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        for number, table in self._by_bucket(waiting):
            self._numbers.add(number)
            with (
                self._path(number).open("ab") as file,
                pa.ipc.new_stream(file, table.schema, options=options) as stream,
            ):
                stream.write_table(table)

    def _by_bucket(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """The buckets of rows that are in order, with their rows."""
        buckets = pc.divide(table[RANK], self._bucket).combine_chunks()
        start = 0
        for number, count in sorted((item["values"], item["counts"]) for item in pc.value_counts(buckets).to_pylist()):
            yield number, table.slice(start, count)
            start += count

    def _path(self, number: int) -> Path:
        return Path(self._folder.name) / f"{number:08d}.arrows"


def _in_order(parts: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(parts)
    return table.take(pc.sort_indices(table, sort_keys=[(RANK, "ascending"), (NUMBER, "ascending")]))
