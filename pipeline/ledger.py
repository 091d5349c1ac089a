"""What the earlier sessions of a run have used: the sum of all replies that it has kept."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.call_sums import NUMBERS, Digests, among, digests, once, repeated, summed, together, without_repeats
from pipeline.leases import Need, Used
from pipeline.models.call_index import KEY, SCHEMA, CallIndex, Entry, entry_of, table_of
from pipeline.models.calls import CallStore
from pipeline.models.replies import Tokens
from pipeline.prices import Prices
from pipeline.reserve import most
from pipeline.store import RunStore
from schemas.config import Endpoint, Price

_READERS = 32
"""Files read at once: on an object store each takes some ten milliseconds."""

_MANY = 64
"""Small files of the index above which they are made large ones."""

_FULL = 10_000
"""Calls of a large file: so many are in memory at once, for each reader."""

_SMALL_BYTES = 32 * _FULL // 2
"""Bytes below which a file of the index has fewer than half as many: keys take 32 each, and cannot be compressed."""

_NONE: Digests = np.zeros(0, np.uint64)


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
        kinds = _kinds(calls, threads)
    pa.default_memory_pool().release_unused()
    for kind in sorted(kinds, key=lambda kind: not kind["counted"]):  # these tell how prompts are counted
        role, model = kind["role"], kind["model"]
        if role in endpoints or (role, model) in models:
            price = models[role, model] if (role, model) in models else endpoints[role].price
            _add(totals[role], kind, price)
    return totals


def _kinds(calls: CallStore, threads: ThreadPoolExecutor) -> list[dict[str, Any]]:
    """The sums of all calls by kind. What the index lacked it has from now on.

    No more than eight bytes of each key stay in memory, and the entries of calls that were noted twice.
    """
    index = CallIndex(calls.storage)
    files = index.files()
    read = list(threads.map(lambda name: _figures(index.table(name)), files))
    noted = np.sort(np.concatenate([_NONE, *(found for found, _ in read)]))
    sums = [summed(SCHEMA.empty_table()), *(of for _, of in read)]
    again = repeated(noted)
    if len(again):
        entries = threads.map(lambda name: _of(index.table(name), again), files)
        sums.append(without_repeats(pa.concat_tables(entries)))
    for entries in _unknown(calls, noted, threads):
        index.put(entries)
        sums.append(summed(entries))
    kinds: list[dict[str, Any]] = together(sums).to_pylist()
    return kinds


def _figures(entries: pa.Table) -> tuple[Digests, pa.Table]:
    return digests(entries["key"]), summed(entries)


def _of(entries: pa.Table, wanted: Digests) -> pa.Table:
    """The entries of some calls."""
    return entries.filter(pa.array(among(digests(entries["key"]), wanted)))


def _unknown(calls: CallStore, noted: Digests, threads: ThreadPoolExecutor) -> Iterator[pa.Table]:
    """The entries of the calls that are not noted, from their own files."""

    def keys(folder: str) -> pa.Array:
        found = _keys(calls, folder)
        return found.filter(pa.array(~among(digests(found), noted)))

    def entry(key: bytes) -> Entry | None:
        document = calls.document(key.hex())
        return None if document is None else entry_of(document)

    unknown = pa.chunked_array(threads.map(keys, calls.folders()), KEY)
    for begin in range(0, len(unknown), _FULL):
        found = threads.map(entry, unknown.slice(begin, _FULL).to_pylist())
        yield table_of(filter(None, found))


def merge(run_url: str) -> None:
    """Makes large files of the index's many small ones, for later sessions. Raises Fatal where it cannot write."""
    with ThreadPoolExecutor(_READERS) as threads:
        _merge(CallIndex(CallStore(run_url).storage), threads)


def _merge(index: CallIndex, threads: ThreadPoolExecutor) -> None:
    """A crash between leaves entries twice, which count once."""
    small = [name for name, size in index.files().items() if size < _SMALL_BYTES]
    if len(small) <= _MANY:
        return
    gathered, tables = list[str](), list[pa.Table]()
    for name in small:
        gathered.append(name)
        tables.append(index.table(name))
        if sum(map(len, tables)) >= _FULL or name == small[-1]:
            kept = index.put(once(pa.concat_tables(tables)))
            index.remove([other for other in gathered if other != kept], threads)
            gathered, tables = [], []


def _keys(calls: CallStore, folder: str) -> pa.Array:
    """The keys of the calls in a folder."""
    data = bytes.fromhex("".join(calls.keys(folder)))
    return pa.Array.from_buffers(KEY, len(data) // KEY.byte_width, [None, pa.py_buffer(data)])


def _add(total: Used, kind: Mapping[str, int], price: Price | None) -> None:
    dollars = Tokens(bool(kind["batched"]), *(kind[name] for name in NUMBERS)).dollars(price)
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
