"""From the table `kept` to a cut's files: one shard with kept rows after the other, then everything in order."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby

import pyarrow as pa

from pipeline.shards.attempts import kept_attempts
from pipeline.shards.card import Tally
from pipeline.shards.export import Exporter, Made, Split
from pipeline.shards.files import Sizes, write_split
from pipeline.shards.order import Order
from pipeline.shards.packing import pack
from pipeline.shards.samples import Facts
from pipeline.shards.spill import PLACE, Spill
from pipeline.shards.table import Rows
from schemas.errors import Fatal

_BUCKET, _PICTURED_BUCKET = 10_000, 64
"""Samples that are put in order in memory at a time; fewer where each holds a hundred pictures."""

_ROWS_AT_A_TIME = 2_000
"""Kept rows whose facts are asked for at a time, at least."""

Show = Callable[[int, int], None]
"""Called with shards done and in all."""


def write_records(
    rows: Rows, order: Order, identity: dict[str, str], exporter: Exporter, folder: str, show: Show
) -> Tally:
    """Writes the records and what stands beside them. Raises Fatal where a kept row is not found again."""
    storage, layout = rows.store.storage, exporter.layout
    sizes = Sizes(order.most_rows, order.bytes_per_file)
    with ExitStack() as stack:
        bucket = _PICTURED_BUCKET if exporter.media == "embedded" else _BUCKET
        spills = {split: stack.enter_context(Spill(exporter.schema, bucket)) for split in order.splits}
        with _uncollected():
            _collect(rows, exporter, spills, show)
        done = {
            split: write_split(storage, folder, split, spill, layout, sizes, identity)
            for split, spill in spills.items()
        }
        counts: dict[str, int] = {split: spill.rows for split, spill in spills.items()}
    if order.format.beside is not None and layout.suffix != "parquet":
        for name, data in order.format.beside(order.name, layout.suffix, order.splits).items():
            storage.write(f"{folder}/{name}", data)
    return Tally(
        rows=counts,
        n_bytes={split: n_bytes for split, (_, n_bytes) in done.items()},
        files=sum(files for files, _ in done.values()),
        dropped=tuple(sorted(exporter.dropped.items(), key=lambda item: (-item[1], item[0]))),
    )


def _collect(rows: Rows, exporter: Exporter, spills: Mapping[Split, Spill], show: Show) -> None:
    (counted,) = rows.query("SELECT count(DISTINCT shard) AS n FROM kept")
    schema = pa.schema([*exporter.schema, *PLACE])
    for done, (shard, facts) in enumerate(_kept(rows)):
        show(done, counted["n"])
        found = kept_attempts(rows.store, shard, facts)
        if len(found) != len(facts):
            raise Fatal(f"shard {shard}: {len(facts)} rows are kept, {len(found)} were found again")
        made = exporter.records(found, facts)
        for some in made if exporter.media == "embedded" else [[r for records in made for r in records]]:
            for split, spill in spills.items():
                if mine := [record for record in some if record.split == split]:
                    spill.add(_table(mine, schema))
    show(counted["n"], counted["n"])


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's search for cycles: records hold none, and to look for them takes longer than to make them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _kept(rows: Rows) -> Iterator[tuple[int, dict[str, Facts]]]:
    """The shards with kept rows in order, each with what SQL knows of these, by id; asked for some at a time."""
    shards = rows.query("SELECT shard, count(*) AS n FROM kept GROUP BY 1 ORDER BY 1")
    while shards:
        first, n = int(shards[0]["shard"]), 0
        while shards and n < _ROWS_AT_A_TIME:
            last = shards.pop(0)
            n += last["n"]
        known = rows.query(
            f"SELECT * FROM kept WHERE shard BETWEEN {first} AND {int(last['shard'])} ORDER BY shard, rank"
        )
        for shard, facts in groupby(known, key=lambda row: row["shard"]):
            yield shard, {row["trajectory_id"]: row for row in facts}


def _table(records: Sequence[Made], schema: pa.Schema) -> pa.Table:
    """Records with the columns of their places."""
    rank, number = (field.name for field in PLACE)
    return pack([{**record.columns, rank: record.rank, number: record.number} for record in records], schema)
