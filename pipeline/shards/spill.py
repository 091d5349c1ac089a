"""Rows that arrive in any order, put in order and cut into files: a million of them never sit in memory."""

import tempfile
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc

RANK, NUMBER = "__rank", "__number"
"""Columns that tell a row's place: the rank of its sample among all samples, and its number within that."""

PLACE = (pa.field(RANK, pa.int64()), pa.field(NUMBER, pa.int64()))

_HELD_BYTES = 100_000_000
"""Rows that wait in memory before they are written, so that a bucket's file grows by more than a few at a time."""


@dataclass(frozen=True)
class Shelves:
    """Buckets on the local disk, a folder for each `bucket` samples, to which several processes may add."""

    folder: str
    bucket: int

    def put(self, table: pa.Table, writer: str) -> Counter[int]:
        """Adds rows with the columns of their places; how many went into each bucket.

        writer: names the process; of one name no two put rows at the same time.
        """
        options, counts = pa.ipc.IpcWriteOptions(compression="lz4"), Counter[int]()
        for number, rows in self.split(_in_order([table])):
            path = self._place(number) / f"{writer}.arrows"
            path.parent.mkdir(exist_ok=True)
            with path.open("ab") as file, pa.ipc.new_stream(file, rows.schema, options=options) as stream:
                stream.write_table(rows)
            counts[number] = len(rows)
        return counts

    def read(self, number: int) -> pa.Table:
        """The rows of a bucket in order, without their places."""
        parts = []
        for path in sorted(self._place(number).iterdir()):
            with path.open("rb") as file:
                while file.tell() < path.stat().st_size:
                    parts.append(pa.ipc.open_stream(file).read_all())
        return _in_order(parts).drop_columns([RANK, NUMBER])

    def split(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """The buckets of rows that are in order, with their rows."""
        buckets = pc.divide(table[RANK], self.bucket).combine_chunks()
        start = 0
        for number, count in sorted((item["values"], item["counts"]) for item in pc.value_counts(buckets).to_pylist()):
            yield number, table.slice(start, count)
            start += count

    def _place(self, number: int) -> Path:
        return Path(self.folder) / f"{number:08d}"


@dataclass(frozen=True)
class Piece:
    """The rows of one file: so many, after the first `skipped` of some buckets that follow each other."""

    shelves: Shelves
    buckets: tuple[int, ...]
    skipped: int
    rows: int

    def read(self) -> pa.Table:
        """In any process."""
        return pa.concat_tables([self.shelves.read(number) for number in self.buckets]).slice(self.skipped, self.rows)


class Spill:
    """Rows in memory, and from some size on in buckets on the local disk, to which other processes may add as well.

    A context manager. rows: how many were added.
    """

    def __init__(self, schema: pa.Schema, bucket: int, held_bytes: int = _HELD_BYTES) -> None:
        self.rows = 0
        self._schema = schema
        self._held_bytes = held_bytes
        self._waiting: list[pa.Table] = []
        self._bytes = 0
        self._counts: Counter[int] = Counter()
        self._folder = tempfile.TemporaryDirectory(prefix="zoomtrail-cut-")
        self.shelves = Shelves(self._folder.name, bucket)

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

    def note(self, counts: Counter[int]) -> None:
        """Rows that another process has put on the shelves, by bucket."""
        self.rows += counts.total()
        self._counts += counts

    def tables(self) -> Iterator[pa.Table]:
        """All rows in order, a bucket at a time."""
        if not self._counts:
            self._waiting = [_in_order(self._waiting)] if self._waiting else []
            for table in self._waiting:
                yield from (part.drop_columns([RANK, NUMBER]) for _, part in self.shelves.split(table))
            return
        self._flush()
        yield from map(self.shelves.read, sorted(self._counts))

    def files(self, sizes: Sequence[int]) -> Iterator[pa.Table]:
        """The rows in order, so many at a time; one table without rows where there are none."""
        rest, tables = self._schema.empty_table(), self.tables()
        for size in sizes:
            while rest.num_rows < size:
                rest = pa.concat_tables([rest, next(tables)])
            yield rest.slice(0, size)
            rest = rest.slice(size)

    def pieces(self, sizes: Sequence[int]) -> list[Piece] | None:
        """The same, to be read by several processes; None where the rows are in memory."""
        if not self._counts:
            return None
        self._flush()
        numbers = sorted(self._counts)
        ends = list(accumulate(self._counts[number] for number in numbers))
        found, start = list[Piece](), 0
        for size in sizes:
            first, last = bisect_right(ends, start), bisect_left(ends, start + size)
            skipped = start - (ends[first] - self._counts[numbers[first]])
            found.append(Piece(self.shelves, tuple(numbers[first : last + 1]), skipped, size))
            start += size
        return found

    def _flush(self) -> None:
        """Puts what waits on the shelves."""
        if self._waiting:
            waiting, self._waiting, self._bytes = pa.concat_tables(self._waiting), [], 0
            self._counts += self.shelves.put(waiting, "here")


def _in_order(parts: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(parts)
    return table.take(pc.sort_indices(table, sort_keys=[(RANK, "ascending"), (NUMBER, "ascending")]))
