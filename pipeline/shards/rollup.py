"""The rows of many finished shards together, in a few files beside them: a million are then read in a second.

A shard is small so that little is lost with a worker; a million rows lie in thousands of files, and to open each takes
longer than to read it, on an object store much longer. What is rolled up is derived: whoever finds it not to be of the
very shards that are there, or of another version's columns, reads the shards.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ranges import Ranges
from pipeline.shards.columns import CAPTIONED, COLUMNS, USAGE, selected
from pipeline.shards.conservation import Counted
from pipeline.shards.reading import Database
from pipeline.store import RunStore, footer_of
from schemas.config import STAGES
from schemas.errors import Fatal
from schemas.record import SCHEMA_VERSION, content_id

SHARDS = 64
"""Shards of a part: those from n * SHARDS on, where all are finished."""

_FOLDER = "rollup"
_VIDEOS = selected((*CAPTIONED, *USAGE))
_VERSION = content_id([selected(COLUMNS), _VIDEOS, SCHEMA_VERSION, duckdb.__version__])
"""What the values of a part hang on besides its shards; the database's version, for its hashes of ids are kept."""


@dataclass(frozen=True)
class Known:
    """What is known of a committed file. size: in bytes; counted: its rows, for captions the rows alone."""

    size: int
    footer: dict[str, Any]
    counted: Counted


@dataclass(frozen=True)
class Part:
    """Rolled-up shards. rows, videos: names of the files; shards: by stage and number."""

    rows: str
    videos: str
    shards: dict[str, dict[int, Known]]


def parts(data: Database, store: RunStore, sizes: Mapping[str, Mapping[int, int]]) -> list[Part]:
    """The parts that are of the very files of these sizes, by stage and shard."""
    folder = _folder(store)
    names = [f"{folder}/{name}" for name in store.storage.names(folder, ".parquet") if name.startswith("rows-")]
    found = list[Part]()
    for name, told in zip(names, data.footers(names), strict=True):
        if told.get("version") == _VERSION:
            part = Part(name, name.replace("/rows-", "/videos-"), _known(told["shards"]))
            if all(sizes[stage].get(shard) == known.size for stage, shard, known in _each(part)):
                found.append(part)
    return found


def due(store: RunStore) -> list[range]:
    """The shards of each part that is not there as this version writes it, and could be."""
    there = of_version(store, f"{_folder(store)}/rows-", _VERSION)
    return [span for span in whole(store.finished("replay")) if f"{_folder(store)}/rows-{_name(span)}" not in there]


def of_version(store: RunStore, begins: str, version: str) -> dict[str, dict[str, Any]]:
    """What the footers of rolled-up files say whose names begin so, of those of a version. Broken files are none."""
    folder, _, prefix = begins.rpartition("/")
    found = dict[str, dict[str, Any]]()
    for name in store.storage.names(folder, ".parquet"):
        if name.startswith(prefix):
            with suppress(Fatal, FileNotFoundError, KeyError, pa.ArrowException):
                with Ranges(store.storage, f"{folder}/{name}") as file:
                    told = footer_of(pq.read_metadata(file))
                if told.get("version") == version:
                    found[f"{folder}/{name}"] = told
    return found


def whole(shards: Iterable[int]) -> list[range]:
    """The shards of each part of which all are among these."""
    numbers = set(shards)
    spans = [range(first, first + SHARDS) for first in sorted(numbers) if first % SHARDS == 0]
    return [span for span in spans if numbers.issuperset(span)]


def write(store: RunStore, span: range, rows: Any, videos: Any, shards: Mapping[str, Mapping[int, Known]]) -> None:
    """Writes a part. rows, videos: Arrow tables. The file of the rows comes last: with it the part is there."""
    folder, name = _folder(store), _name(span)
    told = {
        stage: {
            str(shard): [known.size, known.counted.rows, known.counted.told, str(known.counted.mark), known.footer]
            for shard, known in of.items()
        }
        for stage, of in shards.items()
    }
    store.storage.write(f"{folder}/videos-{name}", _bytes(videos, {}))
    store.storage.write(f"{folder}/rows-{name}", _bytes(rows, {"version": _VERSION, "shards": told}))


def _name(span: range) -> str:
    return f"{span.start // SHARDS:05d}.parquet"


def _bytes(table: Any, footer: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    marked = table.replace_schema_metadata(
        {b"zoomtrail": json.dumps({"schema_version": SCHEMA_VERSION, **footer}).encode()}
    )
    pq.write_table(marked, buffer, compression="zstd", row_group_size=max(len(table), 1))
    return buffer.getvalue()


def _known(told: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, dict[int, Known]]:
    return {
        stage: {
            int(shard): Known(size, footer, Counted(rows, told_rows, int(mark)))
            for shard, (size, rows, told_rows, mark, footer) in told[stage].items()
        }
        for stage in STAGES
    }


def _each(part: Part) -> Iterable[tuple[str, int, Known]]:
    return ((stage, shard, known) for stage, of in part.shards.items() for shard, known in of.items())


def _folder(store: RunStore) -> str:
    """A further verifier's rows are others."""
    return f"{_FOLDER}-{store.verifier}" if store.verifier else _FOLDER
