"""What the earlier sessions of a run have used: the sum of all replies that it has kept."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.leases import Need, Used
from pipeline.models.call_index import KEY, SCHEMA, CallIndex, entry_of, table_of
from pipeline.models.calls import CallStore
from pipeline.models.replies import Tokens
from pipeline.prices import Prices
from pipeline.reserve import most
from pipeline.store import RunStore
from schemas.config import Endpoint, Price

_READERS = 32
"""Files read at once: on an object store each takes some ten milliseconds."""

_MANY = 64
"""Files of the index from which on they are made one."""

_AT_ONCE = 10_000
"""Calls that the index lacks and that are read and noted together."""

_KINDS = ["role", "model", "batched", "counted", "pictured"]
_NUMBERS = ["prompt", "completion", "cached", "images"]
_MOST = ["guessed", "limit"]


def used_before(run_url: str, endpoints: Mapping[str, Endpoint]) -> dict[str, Used]:
    """By role, at the price that is named now for each model.

    Every reply that was paid for is a file before anything else is done with it, so their names tell exactly which
    there are. What each used is in the index (see `CallIndex`), and of the few that it lacks in their files: seconds
    for a million. Replies that no server counted are taken at the most that they could use, as in the session that got
    them. A call that was removed since still counts. endpoints: those of this session, by role; what others of
    the run used counts as well (a regeneration may have had another teacher). Models in a worker cost nothing.
    """
    models = Prices(RunStore(run_url)).endpoints | {(role, e.model): e.price for role, e in endpoints.items()}
    totals = {role: Used() for role in {role for role, _ in models}}
    calls = CallStore(run_url)
    with ThreadPoolExecutor(_READERS) as threads:
        kinds = _summed(_indexed(calls, threads)).to_pylist()
    pa.default_memory_pool().release_unused()
    for kind in sorted(kinds, key=lambda kind: not kind["counted"]):  # these tell how prompts are counted
        role, model = kind["role"], kind["model"]
        if role in endpoints or (role, model) in models:
            price = models[role, model] if (role, model) in models else endpoints[role].price
            _add(totals[role], kind, price)
    return totals


def _indexed(calls: CallStore, threads: ThreadPoolExecutor) -> pa.Table:
    """An entry for each call. What the index lacked it has from now on."""
    index = CallIndex(calls.storage)
    names = index.names()
    tables = [SCHEMA.empty_table(), *index.tables(names, threads)]
    noted = pa.concat_tables(tables)["key"]
    keys = pa.chunked_array(threads.map(lambda folder: _keys(calls, folder), calls.folders()), KEY)
    unknown = keys.filter(pc.invert(pc.is_in(keys, value_set=noted)))
    for begin in range(0, len(unknown), _AT_ONCE):
        some = unknown.slice(begin, _AT_ONCE).to_pylist()
        documents = threads.map(lambda key: calls.document(key.hex()), some)
        tables.append(table_of(entry_of(document) for document in documents if document))
        names.append(index.put(tables[-1]))
    whole = _once(pa.concat_tables(tables))
    if len(names) > _MANY:
        kept = index.put(whole)
        index.remove([name for name in names if name != kept], threads)
    return whole


def _keys(calls: CallStore, folder: str) -> pa.Array:
    """The keys of the calls in a folder."""
    data = bytes.fromhex("".join(calls.keys(folder)))
    return pa.Array.from_buffers(KEY, len(data) // KEY.byte_width, [None, pa.py_buffer(data)])


def _once(entries: pa.Table) -> pa.Table:
    """One entry for each call, the larger: two workers may have noted it, or a crash left it in two files."""
    numbers = pc.dictionary_encode(entries["key"]).combine_chunks().indices
    again = np.bincount(numbers)[numbers] > 1 if len(numbers) else np.zeros(0, bool)
    if not again.any():
        return entries
    rest = SCHEMA.names[1:]
    largest = entries.filter(pa.array(again)).group_by("key").aggregate([(name, "max") for name in rest])
    largest = largest.select(["key", *(f"{name}_max" for name in rest)]).rename_columns(SCHEMA.names).cast(SCHEMA)
    return pa.concat_tables([entries.filter(pa.array(~again)), largest])


def _summed(entries: pa.Table) -> pa.Table:
    """Calls and tokens by role, model, way of answering, and whether a server counted them and they have pictures."""
    replies = entries.filter(entries["answered"])
    replies = replies.append_column("counted", pc.greater(replies["prompt"], 0))
    replies = replies.append_column("pictured", pc.greater(replies["pictures"], 0))
    sums = replies.group_by(_KINDS).aggregate([([], "count_all"), *((name, "sum") for name in _NUMBERS + _MOST)])
    return sums.rename_columns([name.removesuffix("_sum") for name in sums.column_names])


def _add(total: Used, kind: Mapping[str, int], price: Price | None) -> None:
    dollars = Tokens(bool(kind["batched"]), *(kind[name] for name in _NUMBERS)).dollars(price)
    total.answered += kind["count_all"]
    total.prompt += kind["prompt"]
    total.completion += kind["completion"]
    total.cached += kind["cached"]
    total.dollars += dollars or 0.0
    total.unpriced += kind["count_all"] if dollars is None else 0
    if kind["counted"]:
        total.measured += kind["count_all"]
        total.guessed += kind["guessed"]
        total.pictured += kind["prompt"] if kind["pictured"] else 0
        total.pictured_guessed += kind["guessed"] if kind["pictured"] else 0
    else:
        need = Need(kind["guessed"], kind["limit"], batch=bool(kind["batched"]), images=int(kind["pictured"]))
        tokens, assumed = most(need, total, price)
        total.assumed_tokens += tokens
        total.assumed_dollars += assumed
