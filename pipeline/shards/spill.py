"""Rows that arrive in any order, put in order file by file: a million of them never sit in memory."""

import tempfile
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc

_RANK = "__rank"


class Spill:
    """Buckets on the local disk, one for each output file of `rows_per_file` rows. A context manager."""

    def __init__(self, schema: pa.Schema, rows_per_file: int) -> None:
        self._schema = schema
        self._rows_per_file = rows_per_file
        self._folder = tempfile.TemporaryDirectory(prefix="zoomtrail-cut-")

    def __enter__(self) -> "Spill":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, table: pa.Table, ranks: list[int]) -> None:
        """Takes rows with their place, from 0, among all rows."""
        ranked = table.append_column(_RANK, pa.array(ranks, pa.int64()))
        for number in sorted({rank // self._rows_per_file for rank in ranks}):
            mine = [i for i, rank in enumerate(ranks) if rank // self._rows_per_file == number]
            part = ranked.take(pa.array(mine, pa.int64()))
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            with self._path(number).open("ab") as file, pa.ipc.new_stream(file, part.schema, options=options) as stream:
                stream.write_table(part)

    def file(self, number: int) -> pa.Table:
        """The rows of an output file, in order; none where nothing was added to it."""
        path, parts = self._path(number), []
        if not path.exists():
            return self._schema.empty_table()
        with path.open("rb") as file:
            while file.tell() < path.stat().st_size:
                parts.append(pa.ipc.open_stream(file).read_all())
        table = pa.concat_tables(parts)
        ordered = table.take(pc.sort_indices(table, sort_keys=[(_RANK, "ascending")]))
        return ordered.drop_columns([_RANK]).combine_chunks()

    def _path(self, number: int) -> Path:
        return Path(self._folder.name) / f"{number:05d}.arrows"
