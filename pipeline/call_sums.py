"""Sums over entries of the call index, each call once, in some bytes of memory for each call."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.models.call_index import SCHEMA

Digests = npt.NDArray[np.uint64]
"""The last eight bytes of each key. Of a million calls two have the same ones once in forty million runs."""

KINDS = ["role", "model", "batched", "counted", "pictured"]
NUMBERS = ["prompt", "completion", "cached", "images"]
MOST = ["guessed", "limit"]

_SUMS = ["count_all", *NUMBERS, *MOST]


def digests(keys: pa.Array | pa.ChunkedArray) -> Digests:
    """Of keys, in their order."""
    whole = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
    if not len(whole):
        return np.zeros(0, np.uint64)
    words = np.frombuffer(whole.buffers()[1], np.uint64).reshape(-1, whole.type.byte_width // 8)
    return words[whole.offset : whole.offset + len(whole), -1].copy()


def repeated(sorted_digests: Digests) -> Digests:
    """Those that are there more than once."""
    return np.unique(sorted_digests[1:][sorted_digests[1:] == sorted_digests[:-1]])


def among(found: Digests, sorted_digests: Digests) -> npt.NDArray[np.bool_]:
    """Which of some are among others."""
    if not len(sorted_digests):
        return np.zeros(len(found), bool)
    places = np.minimum(np.searchsorted(sorted_digests, found), len(sorted_digests) - 1)
    same: npt.NDArray[np.bool_] = sorted_digests[places] == found
    return same


def once(entries: pa.Table) -> pa.Table:
    """One entry for each call, the larger: two workers may have noted it, or a crash left it in two files."""
    rest = SCHEMA.names[1:]
    largest = entries.group_by("key").aggregate([(name, "max") for name in rest])
    return largest.select(["key", *(f"{name}_max" for name in rest)]).rename_columns(SCHEMA.names).cast(SCHEMA)


def summed(entries: pa.Table) -> pa.Table:
    """Calls and tokens by role, model, way of answering, and whether a server counted them and they have pictures."""
    replies = entries.filter(entries["answered"])
    replies = replies.append_column("counted", pc.greater(replies["prompt"], 0))
    replies = replies.append_column("pictured", pc.greater(replies["pictures"], 0))
    return _by_kind(replies, [([], "count_all"), *((name, "sum") for name in NUMBERS + MOST)])


def together(sums: Iterable[pa.Table]) -> pa.Table:
    """Of several results of `summed` one."""
    return _by_kind(pa.concat_tables(sums), [(name, "sum") for name in _SUMS])


def without_repeats(entries: pa.Table) -> pa.Table:
    """What makes sums right that hold all these entries, though some are of the same call: to be summed with them."""
    twice = summed(entries)
    for at, name in enumerate(twice.column_names):
        if name in _SUMS:
            twice = twice.set_column(at, name, pc.negate(twice[name]))
    return together([twice, summed(once(entries))])


def _by_kind(table: pa.Table, what: list[Any]) -> pa.Table:
    sums = table.group_by(KINDS).aggregate(what)
    return sums.rename_columns([name.removesuffix("_sum") for name in sums.column_names]).select(KINDS + _SUMS)
