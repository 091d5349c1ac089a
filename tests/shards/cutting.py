"""Making a cut in a test, and reading it back without knowledge of its format."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from jobs import cut as job
from pipeline.shards.formats.known import known_format
from pipeline.shards.formats.layout import Kind
from pipeline.shards.order import Order
from pipeline.store import RunStore

ALL = "status = 'answered'"


def cut(
    url: str,
    name: str,
    preset: str | None,
    where: str | None,
    kind: Kind,
    rows_per_file: int | None = None,
    verifier: str = "",
    format: str = "native",
    thinning: dict[str, Any] | None = None,
    **order: Any,
) -> None:
    """Cuts as the command line does."""
    chosen = job.condition(preset, where, kind, thinning or {})
    job.cut(url, Order(name, kind, chosen, rows_per_file, format=known_format(format), **order), verifier)


def made(store: RunStore, name: str, kind: Kind, where: str = ALL, **export: Any) -> list[dict[str, Any]]:
    """The training rows of a cut, as a reader without knowledge of the format finds them."""
    cut(store.url, name, None, where, kind, **export)
    return rows_of(store, name, "train")


def rows_of(store: RunStore, name: str, split: str) -> list[dict[str, Any]]:
    folder = Path(store.storage.path(f"cuts/{name}"))
    if (listed := folder / f"{split}.json").exists():
        return json.loads(listed.read_text())
    if (lines := folder / f"{split}.jsonl").exists():
        return [json.loads(line) for line in lines.read_text().splitlines()]
    tables = [pq.read_table(path) for path in sorted(folder.glob(f"{split}-*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def pictures(store: RunStore, name: str, row: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each picture of a row that has its own."""
    for image in row["images"]:
        if isinstance(image, str):
            yield image, store.storage.read(f"cuts/{name}/{image}")
        elif "bytes" in image:
            yield image["path"], image["bytes"]


def digests(store: RunStore, name: str) -> dict[str, str]:
    folder = Path(store.storage.path(f"cuts/{name}"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def published_rows(store: RunStore, name: str, kind: Any, **export: Any) -> list[dict[str, Any]]:
    """The training rows of a cut, whose name says what it is of."""
    folder = f"{export.get('format', 'native')}-{kind}-{name}"
    cut(store.url, folder, None, "status = 'answered'", kind, **export)
    return rows_of(store, folder, "train")


def film(store: RunStore) -> str:
    return str(Path(store.storage.path("")).parent / "clip.mp4")
