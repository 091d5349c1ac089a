"""Rows for supervised training that are rendered once, beside what is rolled up: a cut then picks them out.

To render a row takes a hundred times as long as to copy it, and runs are cut again and again. What a verdict, a
condition or a regeneration says of a row is filled in by the cut. An attempt that cannot be rendered is left out, and
the cut that keeps it says why.
"""

import io
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.ranges import Ranges
from pipeline.shards import rollup
from pipeline.shards.attempts import kept_attempts
from pipeline.shards.building import uncollected
from pipeline.shards.formats.layout import Layout
from pipeline.shards.formats.native import NATIVE
from pipeline.shards.packing import pack
from pipeline.shards.samples import Facts, sft_samples
from pipeline.store import RunStore
from schemas.arrow import arrow_schema
from schemas.errors import Fatal, UserError
from schemas.record import content_id
from schemas.samples import SftSample
from schemas.trajectory import Trajectory

LAYOUT: Layout = NATIVE.layout("sft", "reference")[1]
"""The only rows that are rendered ahead: what a training script loads where nothing else is asked for."""

_SCHEMA = arrow_schema(SftSample)
_VERSION = content_id([str(_SCHEMA), version("zoomtrail")])
_FILLED = ("verifier", "evidence_gain", "p_gold_evidence", "grounding_iou", "run_fingerprint")
"""Of a row's provenance what the cut fills in by its facts; `kept_by`, too."""

_BEGINS = "rollup/samples-"

_REPEATED = ["images.list.element.hash", "messages.list.element.content"]
"""Columns that are most of a file, and are spelled out for the rows that are picked alone."""

_AHEAD_BYTES = 4 << 20
"""Of a file on an object store: some row groups at a time."""

_NOTHING: Facts = dict.fromkeys(_FILLED)
_ORIGIN = {"run_fingerprint": "", "kept_by": ""}


def name_of(shard: int) -> str:
    """The file that holds a shard's rows, where there is one."""
    return f"{_BEGINS}{shard // rollup.SHARDS:05d}.parquet"


def due(store: RunStore) -> list[range]:
    """The shards of each file that is not there as this version writes it, and could be."""
    there = rollup.of_version(store, _BEGINS, _VERSION)
    return [span for span in rollup.whole(store.finished("replay")) if name_of(span.start) not in there]


def render(store: RunStore, span: range) -> None:
    """Writes the rows of some shards, a row group for each. Raises FileNotFoundError, Fatal."""
    buffer = io.BytesIO()
    sizes = {str(shard): store.storage.size(store.shard_name("teach", shard)) for shard in span}
    told = json.dumps({"version": _VERSION, "sizes": sizes}).encode()
    with pq.ParquetWriter(buffer, _SCHEMA.with_metadata({b"zoomtrail": told}), compression="zstd") as writer:
        for shard in span:
            table = _rendered(store, shard)
            writer.write_table(table, row_group_size=max(len(table), 1))
    store.storage.write(name_of(span.start), buffer.getvalue())


def there(store: RunStore, sizes: Mapping[int, int]) -> frozenset[int]:
    """The shards whose rows are rendered from the very files that there are. sizes: in bytes, of trajectories."""
    files = rollup.of_version(store, _BEGINS, _VERSION).values()
    return frozenset(int(n) for told in files for n, size in told["sizes"].items() if sizes.get(int(n)) == size)


def picked(store: RunStore, shard: int, facts: Mapping[str, Facts], kept_by: str) -> pa.Table:
    """The rows of a shard's attempts that are kept, as a cut writes them. facts: by trajectory."""
    file = _opened(store, name_of(shard))
    table = file.read_row_group(shard % rollup.SHARDS, use_threads=False)
    ids = pc.struct_field(table["provenance"], "trajectory_id")
    table = table.filter(pc.is_in(ids, pa.array(list(facts), pa.string()))).cast(_SCHEMA)
    provenance = table["provenance"].combine_chunks()
    names = provenance.field("trajectory_id").to_pylist()
    known = {name: [facts[one][name] for one in names] for name in _FILLED} | {"kept_by": [kept_by] * len(names)}
    fields = list(provenance.type)
    parts = [
        pa.array(known[field.name], field.type) if field.name in known else provenance.field(place)
        for place, field in enumerate(fields)
    ]
    place = table.column_names.index("provenance")
    return table.set_column(place, table.schema.field(place), pa.StructArray.from_arrays(parts, fields=fields))


def _rendered(store: RunStore, shard: int) -> pa.Table:
    ids = store.table("teach", shard, ["trajectory_id"])["trajectory_id"].to_pylist()
    with uncollected():
        rows = [row for attempt in kept_attempts(store, shard, ids) for row in _rows(attempt)]
        return pack(rows, _SCHEMA)


def _rows(attempt: Trajectory) -> list[dict[str, Any]]:
    """Those of one attempt; none where it teaches nothing, or cannot be rendered."""
    if attempt.status == "failed":
        return []
    try:
        samples = sft_samples(attempt, _NOTHING, _ORIGIN)
    except (Fatal, UserError, ValueError):
        return []
    return [
        sample.model_dump(exclude={"images"}) | {"images": sample.images}
        for sample in samples
        if any(message.train for message in sample.messages)
    ]


@lru_cache(maxsize=2)
def _file(url: str, name: str, size: int) -> pq.ParquetFile:
    storage = RunStore(url).storage
    source = storage.path(name) if storage.is_local else pa.PythonFile(Ranges(storage, name, _AHEAD_BYTES), mode="r")
    return pq.ParquetFile(source, pre_buffer=False, read_dictionary=_REPEATED)


def _opened(store: RunStore, name: str) -> pq.ParquetFile:
    return _file(store.url, name, store.storage.size(name))
