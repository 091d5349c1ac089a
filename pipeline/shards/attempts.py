"""The kept attempts of a shard as records: no other row is made one, and what many attempts hold is made once."""

import io
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.shards.building import builder, optional
from pipeline.store import RunStore
from schemas.arrow import arrow_schema, from_table
from schemas.trajectory import Overview, Trajectory

UNREAD = frozenset({"usage", "reasoning", "call_key", "finish_reason", "author"})
"""Fields of a trajectory, and of what it holds, that no row for a trainer tells of: a quarter of what can be read."""


def kept_attempts(store: RunStore, shard: int, ids: Collection[str]) -> list[Trajectory]:
    """The attempts of a shard that have these ids, in the order of its rows; those that are not there are left out.

    They lack the fields that are not read: to ask for one is an AttributeError. A file with the very schema of the
    record is taken at its word; any other, such as an earlier version's, is read whole and validated.
    Raises FileNotFoundError, and pydantic's ValidationError where the file is of another schema.
    """
    file = pq.ParquetFile(io.BytesIO(store.storage.read(store.shard_name("teach", shard))))
    ours = file.schema_arrow.equals(arrow_schema(Trajectory))
    paths = [file.schema.column(number).path for number in range(len(file.schema))]
    read = [path for path in paths if not (ours and UNREAD.intersection(path.split(".")))]
    table = file.read(columns=read, use_threads=False)
    wanted = table.filter(pc.is_in(table["trajectory_id"], pa.array(list(ids), pa.string())))
    if not ours or not wanted.num_rows:
        return from_table(Trajectory, wanted)
    overviews = _shared_overviews(wanted)
    place = wanted.column_names.index("overview")
    empty = pa.nulls(wanted.num_rows, wanted.schema.field(place).type)
    rows = wanted.set_column(place, "overview", empty).to_pylist()
    build = builder(Trajectory)
    return [build(row | {"overview": overview}) for row, overview in zip(rows, overviews, strict=True)]


def _shared_overviews(table: pa.Table) -> list[Overview | None]:
    """The overview of each row: one record for all rows of a video that hold the same, as most of them do."""
    column, videos = table["overview"].combine_chunks(), table["video_id"].to_pylist()
    known: dict[str, list[tuple[pa.Array, Overview | None]]] = {}
    found = list[Overview | None]()
    for row, video in enumerate(videos):
        here = column.slice(row, 1)
        same = known.setdefault(video, [])
        overview = next((made for there, made in same if there.equals(here)), _NEW)
        if overview is _NEW:
            overview = optional(builder(Overview))(here[0].as_py())
            same.append((here, overview))
        found.append(overview)
    return found


_NEW: Any = object()
