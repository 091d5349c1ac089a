"""A cut's files: Parquet under one explicit schema, or JSON with the same columns in every record."""

import io
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.shards.formats.layout import IMAGE, Layout
from pipeline.shards.spill import Piece, Spill
from pipeline.storage import Storage
from schemas.record import canonical_json

_ROWS_PER_GROUP = 1000
_PICTURED_ROWS_PER_GROUP = 32
"""Rows of a Parquet row group; fewer where each holds a hundred pictures: a reader holds a group at a time."""

FileKind = Literal["parquet", "json", "jsonl"]


@dataclass(frozen=True)
class Sizes:
    """How large a Parquet file may be. rows: at most; n_bytes: of its rows in memory, None for no bound. A row that is
    larger has a file of its own."""

    rows: int
    n_bytes: int | None

    def of(self, spill: Spill) -> list[int]:
        """The rows of each file; one of no rows where there are none."""
        if self.n_bytes is None:
            whole, rest = divmod(spill.rows, self.rows)
            return [self.rows] * whole + ([rest] if rest or not whole else [])
        sizes, held = [0], 0
        for size in _row_bytes(spill):
            if sizes[-1] and (sizes[-1] == self.rows or held + size > self.n_bytes):
                sizes.append(0)
                held = 0
            sizes[-1] += 1
            held += size
        return sizes


def _row_bytes(spill: Spill) -> Iterator[int]:
    for table in spill.tables():
        for batch in table.to_batches(max_chunksize=1):
            yield batch.nbytes


def write_split(
    storage: Storage,
    folder: str,
    split: str,
    spill: Spill,
    layout: Layout,
    sizes: Sizes,
    mark: dict[str, str],
    pool: Executor | None,
) -> tuple[int, int]:
    """Writes a split's files; gives how many there are and their bytes. mark: goes into the metadata of Parquet.

    pool: other processes that may write some of them.
    """
    if layout.suffix != "parquet":
        return 1, _write_json(storage, f"{folder}/{split}.{layout.suffix}", spill, layout.suffix)
    counts = sizes.of(spill)
    names = [f"{folder}/{split}-{number:05d}-of-{len(counts):05d}.parquet" for number in range(len(counts))]
    write = partial(_write, storage, mark)
    if pool is None or (pieces := spill.pieces(counts)) is None:
        return len(counts), sum(map(write, names, spill.files(counts)))
    return len(counts), sum(pool.map(write, names, pieces))


def _write(storage: Storage, mark: dict[str, str], name: str, rows: Piece | pa.Table) -> int:
    """Writes a file; gives its bytes."""
    data = _parquet(rows.read() if isinstance(rows, Piece) else rows, mark)
    storage.write(name, data)
    return len(data)


def pattern(split: str, suffix: FileKind) -> str:
    """The names of a split's files, for a dataset card."""
    return f"{split}-*.parquet" if suffix == "parquet" else f"{split}.{suffix}"


def _write_json(storage: Storage, name: str, spill: Spill, suffix: str) -> int:
    """A list with a record a line, or a record a line without a list."""
    opening, between, closing = ("[\n", ",\n", "\n]\n") if suffix == "json" else ("", "\n", "\n")
    with tempfile.TemporaryDirectory(prefix="zoomtrail-cut-") as folder:
        path = Path(folder) / "records"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write(opening)
            for number, line in enumerate(_lines(spill)):
                file.write(f"{between if number else ''}{line}")
            file.write(closing if spill.rows or suffix == "json" else "")
        return storage.write_file(name, path)


def _lines(spill: Spill) -> Iterator[str]:
    for table in spill.tables():
        for batch in table.to_batches(max_chunksize=_ROWS_PER_GROUP):
            yield from (json.dumps(row, ensure_ascii=False) for row in batch.to_pylist())


def _parquet(table: pa.Table, mark: dict[str, str]) -> bytes:
    """A table as a file. An empty one has no row group at all: `datasets` cannot read a row group of no rows."""
    buffer = io.BytesIO()
    pictured = _image_columns(table.schema)
    metadata = {b"zoomtrail": canonical_json(mark).encode(), **(_features(table.schema, pictured) if pictured else {})}
    marked = table.replace_schema_metadata(metadata)
    rows = _PICTURED_ROWS_PER_GROUP if pictured else _ROWS_PER_GROUP
    with pq.ParquetWriter(buffer, marked.schema, compression="zstd") as writer:
        for start in range(0, marked.num_rows, rows):
            writer.write_table(marked.slice(start, rows).combine_chunks())
    return buffer.getvalue()


def _image_columns(schema: pa.Schema) -> list[str]:
    return [f.name for f in schema if pa.types.is_list(f.type) and f.type.value_type == IMAGE]


def _features(schema: pa.Schema, pictured: list[str]) -> dict[bytes, bytes]:
    """The metadata by which `datasets` gives pictures, where Arrow knows only bytes."""
    import datasets

    features = datasets.Features.from_arrow_schema(schema)
    for name in pictured:
        features[name] = [datasets.Image()]
    return {b"huggingface": features.arrow_schema.metadata[b"huggingface"]}
