"""Records of columns known to be of their types: far quicker than to validate each value of each row."""

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin

import pyarrow as pa

from schemas.record import Record

_set = object.__setattr__


def build(
    record: type[Record], columns: Mapping[str, pa.ChunkedArray], ready: Mapping[str, Sequence[Any]]
) -> list[Any]:
    """Records of columns under their schema, without a look at their values.

    It is what pydantic's `model_construct` does, for nested records, too; but column by column. A field for which there
    is no column the records lack, too. ready: columns whose values are those of the fields already.
    """
    types = _fields(record)
    made = {name: values(column.combine_chunks(), types[name]) for name, column in columns.items()}
    return _records(record, [*made, *ready], [*made.values(), *ready.values()])


def _records(record: type[Record], names: Sequence[str], columns: Sequence[Sequence[Any]]) -> list[Any]:
    """columns: the values of each field, by row; at least one."""
    whole, new, made = set(names), record.__new__, list[Any]()
    for row in zip(*columns, strict=True):
        one = new(record)
        _set(one, "__dict__", dict(zip(names, row)))  # noqa: B905  # as long by the outer `zip`, and the hottest line
        _set(one, "__pydantic_fields_set__", whole)
        _set(one, "__pydantic_extra__", None)
        _set(one, "__pydantic_private__", None)
        made.append(one)
    return made


def values(array: pa.Array, annotation: Any) -> Sequence[Any]:
    """A column's values as a field of this type has them: lists as tuples, structs as records."""
    kind = array.type
    if pa.types.is_struct(kind):
        return _structs(array, annotation)
    if pa.types.is_list(kind):
        return _lists(array, annotation)
    if pa.types.is_dictionary(kind):
        known = [*values(array.dictionary, annotation), None]
        return [known[place] for place in array.indices.fill_null(len(known) - 1).to_numpy().tolist()]
    if pa.types.is_string(kind) or not array.null_count:
        return list(array.to_numpy(zero_copy_only=False).tolist())
    return list(array.to_pylist())


def _structs(array: pa.StructArray, annotation: Any) -> Sequence[Any]:
    record = _record_in(annotation)
    types, names = _fields(record), [field.name for field in array.type]
    parts = [values(part, types[name]) for name, part in zip(names, array.flatten(), strict=True)]
    made = _records(record, names, parts)
    return _where(array, made) if array.null_count else made


def _lists(array: pa.ListArray, annotation: Any) -> Sequence[Any]:
    inner = values(array.flatten(), _item(annotation))
    found, start = list[tuple[Any, ...]](), 0
    for length in array.value_lengths().fill_null(0).to_numpy().tolist():
        found.append(tuple(inner[start : start + length]))
        start += length
    return _where(array, found) if array.null_count else found


def _where(array: pa.Array, made: Iterable[Any]) -> list[Any]:
    """What was made of an array, and None where it is null."""
    there = array.is_valid().to_numpy(zero_copy_only=False).tolist()
    return [value if known else None for value, known in zip(made, there, strict=True)]


@cache
def _fields(record: type[Record]) -> dict[str, Any]:
    return {name: field.annotation for name, field in record.model_fields.items()}


@cache
def _record_in(annotation: Any) -> type[Record]:
    """The record of a field that may be None."""
    return next(one for one in (annotation, *get_args(annotation)) if isinstance(one, type) and issubclass(one, Record))


@cache
def _item(annotation: Any) -> Any:
    """What a field's tuple holds; the tuple may be None instead."""
    if get_origin(annotation) is tuple:
        return get_args(annotation)[0]
    return next(_item(one) for one in get_args(annotation) if one is not NoneType)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's search for cycles: records hold none, and to look for them takes longer than to make them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
