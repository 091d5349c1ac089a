"""The run directory: its config, its plan, and the shards of each stage with their footers."""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.ranges import Ranges
from pipeline.storage import Storage
from schemas.arrow import arrow_schema, from_table, to_table
from schemas.captions import CaptionTree
from schemas.config import DIRECTORIES, RunConfig, changed, fingerprint
from schemas.errors import UserError
from schemas.record import SCHEMA_VERSION, Record
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict

ROWS: dict[str, type[Record]] = {"caption": CaptionTree, "teach": Trajectory, "replay": Verdict}
"""The record of each stage's rows."""

R = TypeVar("R", bound=Record)
_FOOTER = b"zoomtrail"


def to_parquet(record: type[Record], rows: Sequence[Record], footer: dict[str, Any]) -> bytes:
    """A Parquet file of rows under the record's schema, with `footer` as JSON among its metadata."""
    return parquet_of(arrow_schema(record), [to_table(record, rows)], footer)


def parquet_of(schema: pa.Schema, tables: Iterable[pa.Table], footer: dict[str, Any]) -> bytes:
    """The same of tables: each is a row group."""
    metadata = {_FOOTER: json.dumps({"schema_version": SCHEMA_VERSION, **footer}).encode()}
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema.with_metadata(metadata), compression="zstd") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(len(table), 1))
    return buffer.getvalue()


def read_parquet(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table in a Parquet file's bytes (`pq.read_table` would import pandas for it; small files need no threads)."""
    return parquet_file(data).read(columns=columns, use_threads=False)


def parquet_file(data: bytes) -> pq.ParquetFile:
    """A Parquet file's bytes, opened. From a Python file Arrow's threads would read, too, and now and then abort the
    process at its exit, when Python is gone (apache/arrow#34314)."""
    return pq.ParquetFile(pa.BufferReader(data))


def footer_of(metadata: pq.FileMetaData) -> dict[str, Any]:
    """What `to_parquet` wrote as footer."""
    return dict(json.loads((metadata.metadata or {})[_FOOTER]))


class RunStore:
    """A run directory. Every file in it is complete; resuming means asking which files exist."""

    def __init__(self, url: str, verifier: str = "") -> None:
        """verifier: the name of a further verifier, whose verdicts stand for the run's own here."""
        self.url = url
        self.verifier = verifier
        self.storage = Storage(url)

    def folder(self, stage: str) -> str:
        """Of the run's folders the one that holds a stage's shards."""
        further = f"-{self.verifier}" if self.verifier and stage == "replay" else ""
        return DIRECTORIES[stage] + further

    def shard_name(self, stage: str, shard: int) -> str:
        return f"{self.folder(stage)}/shard-{shard:05d}.parquet"

    def open_for(self, config: RunConfig, settings: dict[str, dict[str, Any]], folder: str = "") -> None:
        """Begins the run, or continues one of the same settings.

        folder: where the config's relative paths begin, itself relative to the run where that is local.
        Raises UserError with the differences where the run was begun with other settings.
        """
        known = self.recorded_settings()
        if known is not None:
            differences = changed(known["replay"], settings["replay"])
            if differences:
                raise UserError(
                    f"{self.url} was begun with other settings: {'; '.join(differences)}. "
                    "Choose a new directory with --out (captions.reuse_from: "
                    f"{self.url} takes over its captions), or restore the settings."
                )
        document = {
            "config": config.model_dump(mode="json"),
            "fingerprints": {stage: fingerprint(s) for stage, s in settings.items()},
            "settings": settings,
            **({"job_folder": folder} if folder else {}),
        }
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        if self.storage.read_or_none("run.yaml") != text.encode():
            self.storage.write("run.yaml", text.encode())

    def recorded_settings(self) -> dict[str, dict[str, Any]] | None:
        """The settings that the run was begun with, by stage; None before it was begun."""
        document = self._document()
        if document is None:
            return None
        settings: dict[str, dict[str, Any]] = document["settings"]
        if self.verifier:
            further = self.storage.read_or_none(self._verifier_file())
            if further is None:
                raise UserError(f"{self.url} has no verdicts by {self.verifier}; there are {self._named()}")
            settings["replay"] = yaml.safe_load(further)
        return settings

    def recorded_config(self) -> dict[str, Any]:
        """The config that the run was last carried out with, as this or an earlier version wrote it; {} before that."""
        return (self._document() or {}).get("config") or {}

    def recorded_folder(self) -> Path | None:
        """Where the recorded config's relative paths begin; None where the run does not tell."""
        folder = (self._document() or {}).get("job_folder")
        if not folder:
            return None
        return Path(self.storage.root, folder).resolve() if self.storage.is_local else Path(folder)

    def _document(self) -> dict[str, Any] | None:
        data = self.storage.read_or_none("run.yaml")
        return None if data is None else yaml.safe_load(data)

    def open_verifier(self, settings: dict[str, Any]) -> None:
        """Begins the verdicts of a further verifier, or continues them. settings: of the replay stage.

        Raises UserError where its name stands for other settings here.
        """
        known = self.storage.read_or_none(self._verifier_file())
        if known is not None and (differences := changed(yaml.safe_load(known), settings)):
            raise UserError(
                f"{self.url} has verdicts by {self.verifier} with other settings: {'; '.join(differences)}. "
                "Choose another --name."
            )
        if known is None:
            self.storage.write(self._verifier_file(), yaml.safe_dump(settings, sort_keys=False).encode())

    def verifiers(self) -> list[str]:
        """The names of the further verifiers, sorted."""
        prefix = f"{DIRECTORIES['replay']}-"
        return sorted(name.removeprefix(prefix) for name in self.storage.names("", "") if name.startswith(prefix))

    def _verifier_file(self) -> str:
        return f"{self.folder('replay')}/verifier.yaml"

    def _named(self) -> str:
        return f"those by {', '.join(self.verifiers())}" if self.verifiers() else "the run's own alone"

    def require(self) -> "RunStore":
        """This store, if a run was begun in it. Raises UserError otherwise."""
        if self.recorded_settings() is None:
            raise UserError(f"{self.url} is not a run directory (it has no run.yaml)")
        return self

    def finished(self, stage: str) -> set[int]:
        """Numbers of the shards that a stage has committed."""
        names = self.storage.names(self.folder(stage), ".parquet")
        return {int(n.removeprefix("shard-").removesuffix(".parquet")) for n in names if n.startswith("shard-")}

    def commit(self, stage: str, shard: int, rows: Sequence[Record], footer: dict[str, Any]) -> bool:
        """Writes a stage's shard with its footer: fingerprint, counts, tokens, cost, seconds.

        False where another worker has committed it just now: the first stands.
        """
        return self.storage.create(self.shard_name(stage, shard), to_parquet(ROWS[stage], rows, footer))

    def rows(self, record: type[R], stage: str, shard: int) -> list[R]:
        """The rows of a committed shard. Raises FileNotFoundError."""
        return from_table(record, self.table(stage, shard))

    def table(self, stage: str, shard: int, columns: list[str] | None = None) -> pa.Table:
        """A committed shard as a table. Raises FileNotFoundError."""
        return read_parquet(self.storage.read(self.shard_name(stage, shard)), columns)

    def footer(self, stage: str, shard: int) -> dict[str, Any]:
        """What the shard's footer says. Raises FileNotFoundError."""
        with Ranges(self.storage, self.shard_name(stage, shard)) as file:
            return footer_of(pq.read_metadata(file))
