"""The files of a plan: how much each shard holds, in one pass over a few columns; the rows of one shard when wanted."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.ranges import AHEAD_BYTES, Ranges
from pipeline.store import RunStore, footer_of
from schemas.errors import Fatal

Numbers = npt.NDArray[np.int64]

_KEPT_GROUPS = 8
"""Row groups in memory: shards are handed out in order, and each stage is at another place of the plan."""


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """Where the plan has a shard, and how much it holds: all that is kept of it while a run is carried out.

    part: number of the plan's file; first: of the file's rows the first one. videos: those of usable questions.
    """

    part: int
    first: int
    attempts: int
    videos: int


class PlanFile:
    """One part of the plan. Its rows lie shard by shard."""

    def __init__(self, file: Ranges) -> None:
        self._file = file
        self._parquet = pq.ParquetFile(file)
        self._metadata = self._parquet.metadata
        self.footer: dict[str, Any] = footer_of(self._metadata)
        sizes = [self._metadata.row_group(number).num_rows for number in range(self._metadata.num_row_groups)]
        self.starts = np.cumsum([0, *sizes])

    def columns(self, *names: str) -> pa.Table:
        """Columns of all rows; `question.video_id` names a nested one."""
        self._file.ahead = AHEAD_BYTES
        return self._parquet.read(columns=list(names), use_threads=False)

    def group(self, number: int) -> pa.Table:
        """All of a row group, by one request."""
        group = self._metadata.row_group(number)
        self._file.ahead = sum(group.column(column).total_compressed_size for column in range(group.num_columns))
        return self._parquet.read_row_group(number, use_threads=False).replace_schema_metadata(None)

    def tables(self, rows: Numbers | None = None) -> Iterator[pa.Table]:
        """Rows by their numbers, which ascend, or all: one row group after the other."""
        for number, (start, end) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            if rows is None:
                yield self.group(number)
            elif len(inside := rows[(rows >= start) & (rows < end)]):
                yield self.group(number).take(pa.array(inside - start))


def part_name(number: int) -> str:
    return f"plan/part-{number:05d}.parquet"


@contextmanager
def opened(store: RunStore, part: int) -> Iterator[PlanFile]:
    """A part of the plan. Raises Fatal where it cannot be read."""
    name = part_name(part)
    try:
        with Ranges(store.storage, name) as file:
            yield PlanFile(file)
    except (OSError, pa.ArrowException) as error:
        raise Fatal(f"cannot read {name} in {store.url}: {error}") from error


def shards_in(file: PlanFile, part: int) -> dict[int, PlannedShard]:
    """The shards of a part, by number."""
    table = file.columns("shard", "question.video_id", "error.kind")
    shards = table["shard"].to_numpy()
    firsts = np.flatnonzero(np.diff(shards, prepend=-1))
    attempts = np.diff(firsts, append=len(shards))
    usable = pc.is_null(table["error"]).to_numpy()
    videos = numbered(field_of(table, "video_id"))
    pairs = np.unique(np.stack((shards[usable], videos[usable])), axis=1)[0]
    begun, counts = np.unique(pairs, return_counts=True)
    n_videos = dict(zip(begun.tolist(), counts.tolist(), strict=True))
    return {
        shard: PlannedShard(part, first, count, n_videos.get(shard, 0))
        for shard, first, count in zip(shards[firsts].tolist(), firsts.tolist(), attempts.tolist(), strict=True)
    }


def field_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A field of the questions in a table."""
    return pc.struct_field(table["question"], name)


def numbered(texts: pa.ChunkedArray) -> Numbers:
    """A number for each text, the same for equal ones."""
    numbers: Numbers = pc.dictionary_encode(texts).combine_chunks().indices.to_numpy().astype(np.int64)
    return numbers


class ShardRows:
    """Hands out the planned rows of shards. For use by several threads."""

    def __init__(self, store: RunStore, shards: Mapping[int, PlannedShard]) -> None:
        self._store = store
        self._shards = shards
        self._groups: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._starts: dict[int, Numbers] = {}
        self._lock = Lock()

    def of(self, shard: int) -> pa.Table:
        """The rows of a shard. Raises Fatal where they cannot be read."""
        planned = self._shards[shard]
        with self._lock:
            if planned.part not in self._starts:
                with opened(self._store, planned.part) as file:
                    self._starts[planned.part] = file.starts
            starts = self._starts[planned.part]
            last = planned.first + planned.attempts - 1
            begin, end = np.searchsorted(starts, (planned.first, last), side="right") - 1
            groups = [self._group(planned.part, number) for number in range(begin, end + 1)]
        rows = pa.concat_tables(groups).slice(planned.first - starts[begin], planned.attempts)
        if pc.unique(rows["shard"]).to_pylist() != [shard]:
            raise Fatal(f"{part_name(planned.part)} in {self._store.url} has changed while the run was carried out")
        return rows

    def message(self, shard: int) -> bytes:
        """The same, to be sent to another process: see `unpacked`."""
        return packed(self.of(shard))

    def _group(self, part: int, number: int) -> pa.Table:
        place = part, number
        if place not in self._groups:
            with opened(self._store, part) as file:
                self._groups[place] = file.group(number)
            while len(self._groups) > _KEPT_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(place)
        return self._groups[place]


def packed(table: pa.Table) -> bytes:
    """A table as bytes: those of its rows alone, where it is a slice."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def unpacked(data: bytes) -> pa.Table:
    """The table of `packed`."""
    with pa.ipc.open_stream(data) as stream:
        return stream.read_all()
