"""The kept attempts of a shard as records: no other row is made one, and what many attempts hold is made once."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.shards.building import build, values
from pipeline.store import RunStore
from schemas.arrow import arrow_schema, from_table
from schemas.trajectory import Overview, Trajectory

UNREAD = frozenset({"usage", "reasoning", "call_key", "finish_reason", "author"})
"""Fields of a trajectory, and of what it holds, that no row for a trainer tells of: a quarter of what can be read."""

_RAW = "raw"
"""What a turn's model wrote stands in a row only where it could not be parsed."""

_REPEATED = ["overview.frames.list.element.hash"]
"""Many attempts hold the same: their values are not laid out for each."""


def kept_attempts(store: RunStore, shard: int, ids: Collection[str]) -> list[Trajectory]:
    """The attempts of a shard that have these ids, in the order of its rows; those that are not there are left out.

    They lack the fields that are not read: to ask for one is an AttributeError. A file with the very schema of the
    record is taken at its word; any other, such as an earlier version's, is read whole and validated.
    Raises FileNotFoundError, and pydantic's ValidationError where the file is of another schema.
    """
    data = pa.BufferReader(store.storage.read(store.shard_name("teach", shard)))
    file = pq.ParquetFile(data, read_dictionary=_REPEATED)
    if not file.schema.to_arrow_schema().equals(arrow_schema(Trajectory)):
        return from_table(Trajectory, _having(pq.ParquetFile(data).read(use_threads=False), ids))
    wanted = _having(_read(file, UNREAD | {_RAW}), ids)
    if _holds_unparsed(wanted):
        wanted = _having(_read(file, UNREAD), ids)
    return _records(wanted) if wanted.num_rows else []


def _read(file: pq.ParquetFile, without: frozenset[str]) -> pa.Table:
    paths = [file.schema.column(number).path for number in range(len(file.schema))]
    read = [path for path in paths if not without.intersection(path.split("."))]
    return file.read(columns=read, use_threads=False)


def _having(table: pa.Table, ids: Collection[str]) -> pa.Table:
    return table.filter(pc.is_in(table["trajectory_id"], pa.array(list(ids), pa.string())))


def _holds_unparsed(table: pa.Table) -> bool:
    """Whether a turn has no action, for its text could not be parsed."""
    actions = pc.list_flatten(table["turns"]).combine_chunks().field("actions")
    return bool(pc.any(pc.equal(pc.list_value_length(actions), 0)).as_py())


def _records(table: pa.Table) -> list[Trajectory]:
    """One overview for all rows of a video that hold the same, as most of them do."""
    overviews, videos = table["overview"].combine_chunks(), table["video_id"].to_pylist()
    distinct, places = list[int](), list[int]()
    known: dict[str, list[int]] = {}
    for row, video in enumerate(videos):
        here, same = overviews.slice(row, 1), known.setdefault(video, [])
        place = next((place for place in same if overviews.slice(distinct[place], 1).equals(here)), len(distinct))
        if place == len(distinct):
            distinct.append(row)
            same.append(place)
        places.append(place)
    shared = values(overviews.take(distinct), Overview | None)
    columns = {name: table[name] for name in table.column_names if name != "overview"}
    return build(Trajectory, columns, {"overview": [shared[place] for place in places]})
