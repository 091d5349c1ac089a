"""Columns of a run's Parquet files, and no more of them than is asked for."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ranges import AHEAD_BYTES, Ranges
from pipeline.store import RunStore
from schemas.errors import Fatal


def read_columns(store: RunStore, name: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a file (`usage.calls` names a nested one). Raises Fatal where it is not readable."""
    try:
        with Ranges(store.storage, name, AHEAD_BYTES) as file:
            return pq.ParquetFile(file).read(columns=list(columns), use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise Fatal(f"{store.url}/{name} cannot be read: {error}") from error
