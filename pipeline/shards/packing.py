"""Records as Arrow tables. A picture reference that many records share is packed once and then referred to."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from schemas.arrow import arrow_schema
from schemas.samples import MediaReference, SftSample

_REFERENCES: pa.DataType = arrow_schema(SftSample).field("images").type
_REFERENCE: pa.DataType = _REFERENCES.value_type


def pack(records: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """A table of records under a schema. Picture references stand in them as records, all else as plain values."""
    columns = []
    for field in schema:
        values = [record[field.name] for record in records]
        columns.append(_references(values) if field.type == _REFERENCES else pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _references(rows: Iterable[Sequence[MediaReference]]) -> pa.Array:
    """A list of references for each row. Those that are one object are told apart from equal ones by nothing else."""
    places: dict[int, int] = {}
    distinct, taken, ends = list[MediaReference](), list[int](), [0]
    for references in rows:
        for reference in references:
            place = places.setdefault(id(reference), len(distinct))
            if place == len(distinct):
                distinct.append(reference)
            taken.append(place)
        ends.append(len(taken))
    fields = list(_REFERENCE)
    columns = [pa.array([getattr(item, field.name) for item in distinct], field.type) for field in fields]
    packed = pa.StructArray.from_arrays(columns, fields=fields).take(pa.array(taken, pa.int64()))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), packed, type=_REFERENCES)
