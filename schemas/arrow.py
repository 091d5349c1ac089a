"""Arrow schemas of the records, drawn from the records' own types so that the two cannot differ.

The result is pinned as text by a test: a change of any column is a change of that test and of `SCHEMA_VERSION`.
"""

import types
from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import pyarrow as pa

from schemas.record import Record

R = TypeVar("R", bound=Record)

_SCALARS: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
}


def _arrow_type(annotation: Any) -> pa.DataType:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if origin is Literal:
        return pa.string()
    if origin in (Union, types.UnionType):
        (inner,) = [a for a in arguments if a is not types.NoneType]
        return _arrow_type(inner)
    if origin is tuple:
        if len(set(arguments) - {Ellipsis}) != 1:
            raise TypeError(f"{annotation}: a column holds one type")
        return pa.list_(_arrow_type(arguments[0]))
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return pa.struct(list(_fields(annotation)))
    raise TypeError(f"no Arrow type for {annotation}")


def _fields(record: type[Record]) -> Iterable[pa.Field]:
    for name, field in record.model_fields.items():
        optional = types.NoneType in get_args(field.annotation)
        yield pa.field(name, _arrow_type(field.annotation), nullable=optional)


@cache
def arrow_schema(record: type[Record]) -> pa.Schema:
    """The explicit Arrow schema of a record: the same in every shard, empty or not; only `X | None` is nullable."""
    return pa.schema(list(_fields(record)))


def to_table(record: type[Record], rows: Iterable[Record]) -> pa.Table:
    """A table of rows under the record's schema."""
    return pa.Table.from_pylist([row.model_dump() for row in rows], schema=arrow_schema(record))


def from_table(record: type[R], table: pa.Table) -> list[R]:
    """The rows of a table as records. Raises pydantic's ValidationError where the table is of another schema."""
    return [record.model_validate(row) for row in table.to_pylist()]
