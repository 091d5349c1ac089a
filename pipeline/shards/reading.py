"""Reading a run's shards: only the columns that are asked for, a few files ahead, footers along the way."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.store import RunStore
from schemas.errors import Fatal, UserError
from schemas.record import SCHEMA_VERSION

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 8
"""Files read at a time: an object store answers slowly, and a shard's turns are held only while it is read."""


@dataclass(frozen=True)
class ShardFile:
    """What a committed file says of itself. size: bytes of the file; footer: fingerprint, statuses, usage, seconds."""

    stage: str
    shard: int
    rows: int
    size: int
    footer: dict[str, Any]


def read_stage(store: RunStore, stage: str, columns: Sequence[str]) -> Iterator[tuple[ShardFile, pa.Table]]:
    """The committed shards of a stage in order, each with the given columns (`usage.calls` names a nested one).

    Raises UserError for a file of another version, Fatal for one that is not readable.
    """

    def read(shard: int) -> tuple[ShardFile, pa.Table]:
        name = store.shard_name(stage, shard)
        table, size, footer = read_columns(store, name, columns)
        return ShardFile(stage, shard, table.num_rows, size, footer), table

    yield from _ahead(read, sorted(store.finished(stage)))


def read_columns(store: RunStore, name: str, columns: Sequence[str]) -> tuple[pa.Table, int, dict[str, Any]]:
    """Columns of a Parquet file of the run, its size in bytes and its footer. Raises as `read_stage`."""
    try:
        with store.storage.fs.open(store.storage.path(name)) as file:
            parquet = pq.ParquetFile(file)
            footer = json.loads((parquet.metadata.metadata or {}).get(b"zoomtrail", b"{}"))
            if footer.get("schema_version") != SCHEMA_VERSION:
                raise UserError(
                    f"{store.url}/{name} has rows of version {footer.get('schema_version')}, this Zoomtrail reads "
                    f"version {SCHEMA_VERSION}: use the Zoomtrail that wrote the run"
                )
            table = parquet.read(columns=list(columns))
            return table, int(file.seek(0, 2)), footer
    except (pa.ArrowInvalid, OSError) as error:
        raise Fatal(f"{store.url}/{name} is not a readable Parquet file: {error}") from error


def _ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map` in threads, in order, with a bounded number of results waiting."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(_AHEAD) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
