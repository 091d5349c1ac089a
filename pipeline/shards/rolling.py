"""Rolling up a run: what is finished and not rolled up yet, a part at a time."""

from collections.abc import Iterator

from pipeline.shards.rollup import whole, write
from pipeline.shards.table import Rows
from pipeline.store import RunStore


def roll_up(store: RunStore) -> Iterator[range]:
    """Writes each part whose shards are all finished, and gives the shards that it holds. Raises as `Rows`."""
    rows = Rows(store)
    for span in whole(set(rows.told).intersection(rows.known["caption"])):
        known = {stage: {shard: shards[shard] for shard in span} for stage, shards in rows.known.items()}
        write(store, span, *rows.rolled_up(span), known)
        yield span
