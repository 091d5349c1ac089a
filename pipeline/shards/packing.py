"""Records as Arrow tables. A frame that many records share is packed once and then referred to."""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import pyarrow as pa

from schemas.arrow import arrow_schema
from schemas.samples import SftSample
from schemas.video import Frame

_FRAMES: pa.DataType = arrow_schema(SftSample).field("images").type
_FRAME: pa.DataType = _FRAMES.value_type


def pack(records: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """A table of records under a schema. Frames stand in them as records, all else as plain values."""
    columns = []
    for field in schema:
        values = [record[field.name] for record in records]
        columns.append(_frames(values) if field.type == _FRAMES else pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _frames(rows: Iterable[Sequence[Frame]]) -> pa.Array:
    """A list of frames for each row. Those that are one object are told apart from equal ones by nothing else."""
    places: dict[int, int] = {}
    distinct, taken, ends = list[Frame](), list[int](), [0]
    for frames in rows:
        for frame in frames:
            place = places.setdefault(id(frame), len(distinct))
            if place == len(distinct):
                distinct.append(frame)
            taken.append(place)
        ends.append(len(taken))
    fields = list(_FRAME)
    columns = [pa.array(list(map(attrgetter(field.name), distinct)), field.type) for field in fields]
    packed = pa.StructArray.from_arrays(columns, fields=fields).take(pa.array(taken, pa.int64()))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), packed, type=_FRAMES)
