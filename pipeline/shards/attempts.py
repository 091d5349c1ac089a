"""The kept attempts of a shard as records: no other row is made one, and what many attempts hold is made once."""

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.shards.building import builder, optional
from pipeline.store import RunStore
from schemas.arrow import arrow_schema, from_table
from schemas.trajectory import Overview, Trajectory


def kept_attempts(store: RunStore, shard: int, ids: Collection[str]) -> list[Trajectory]:
    """The attempts of a shard that have these ids, in the order of its rows; those that are not there are left out.

    A table with the very schema of the record is taken at its word, which is four times as quick as to validate each
    value again; any other, such as an earlier version's, is validated.
    Raises FileNotFoundError, and pydantic's ValidationError where the table is of another schema.
    """
    table = store.table("teach", shard)
    wanted = table.filter(pc.is_in(table["trajectory_id"], pa.array(list(ids), pa.string())))
    if not wanted.num_rows or not wanted.schema.equals(arrow_schema(Trajectory)):
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
