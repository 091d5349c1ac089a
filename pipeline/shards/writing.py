"""A cut's records, put in order and written as the files of its splits, with what its loader needs beside them."""

from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack

from pipeline.shards.card import Tally
from pipeline.shards.collecting import Show, collect
from pipeline.shards.export import Exporter
from pipeline.shards.files import Sizes, write_split
from pipeline.shards.order import Order
from pipeline.shards.spill import Spill
from pipeline.shards.table import Rows

_BUCKET, _PICTURED_BUCKET = 5_000, 64
"""Samples that are put in order in memory at a time; fewer where each holds a hundred pictures."""


def write_records(
    rows: Rows,
    order: Order,
    identity: dict[str, str],
    exporter: Exporter,
    folder: str,
    show: Show,
    pool: ProcessPoolExecutor | None,
) -> Tally:
    """Writes the records and what stands beside them. pool: see `helpers`.

    Raises Fatal where a kept row is not found again.
    """
    storage, layout = rows.store.storage, exporter.layout
    sizes = Sizes(order.most_rows, order.bytes_per_file)
    with ExitStack() as stack:
        bucket = _PICTURED_BUCKET if exporter.media == "embedded" else _BUCKET
        spills = {split: stack.enter_context(Spill(exporter.schema, bucket)) for split in order.splits}
        dropped = collect(rows, exporter, spills, show, pool)
        done = {
            split: write_split(storage, folder, split, spill, layout, sizes, identity, pool)
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
        dropped=tuple(sorted(dropped.items(), key=lambda item: (-item[1], item[0]))),
    )
