"""Rows that arrive in any order, put in order and cut into files: a million of them never sit in memory."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc

_RANK, _NUMBER = "__rank", "__number"

Place = tuple[int, int]
"""Rank of a row's sample among all samples, and the row's number within it."""


class Spill:
    """Buckets on the local disk, one for each `bucket` samples. A context manager. rows: how many were added."""

    def __init__(self, schema: pa.Schema, bucket: int) -> None:
        self.rows = 0
        self._schema = schema
        self._bucket = bucket
        self._numbers: set[int] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="zoomtrail-cut-")

    def __enter__(self) -> "Spill":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, table: pa.Table, places: Sequence[Place]) -> None:
        """Takes rows with their places, no two the same."""
        self.rows += table.num_rows
        ranked = table.append_column(_RANK, pa.array([rank for rank, _ in places], pa.int64()))
        ranked = ranked.append_column(_NUMBER, pa.array([number for _, number in places], pa.int64()))
        buckets = [rank // self._bucket for rank, _ in places]
        for number in sorted(set(buckets)):
            self._numbers.add(number)
            part = ranked.take(pa.array([i for i, mine in enumerate(buckets) if mine == number], pa.int64()))
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            with self._path(number).open("ab") as file, pa.ipc.new_stream(file, part.schema, options=options) as stream:
                stream.write_table(part)

    def tables(self) -> Iterator[pa.Table]:
        """All rows in order, a bucket at a time."""
        for number in sorted(self._numbers):
            parts, path = [], self._path(number)
            with path.open("rb") as file:
                while file.tell() < path.stat().st_size:
                    parts.append(pa.ipc.open_stream(file).read_all())
            table = pa.concat_tables(parts)
            order = pc.sort_indices(table, sort_keys=[(_RANK, "ascending"), (_NUMBER, "ascending")])
            yield table.take(order).drop_columns([_RANK, _NUMBER])

    def files(self, rows_per_file: int) -> Iterator[pa.Table]:
        """The rows in order, `rows_per_file` at a time; one table without rows where there are none."""
        rest = self._schema.empty_table()
        for table in self.tables():
            rest = pa.concat_tables([rest, table])
            while rest.num_rows > rows_per_file:
                yield rest.slice(0, rows_per_file)
                rest = rest.slice(rows_per_file)
        yield rest

    def _path(self, number: int) -> Path:
        return Path(self._folder.name) / f"{number:08d}.arrows"
