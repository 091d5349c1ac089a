"""What kept calls have used, a thousand to a file: whoever sums them up need not read a million replies.

It says again what the calls' own files say, and may lack any of them: a crash takes along what was not written yet.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

import pyarrow as pa

from pipeline.models.replies import tokens_of
from pipeline.reserve import need_of_kept
from pipeline.storage import Storage
from pipeline.store import parquet_of, read_parquet

FOLDER = "ledger"

_FULL = 1000
"""Calls after which a file is written. So many at most, of each writer, are to be read one by one after a crash."""

KEY = pa.binary(32)

SCHEMA = pa.schema(
    [
        pa.field("key", KEY, nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("role", "model")),
        pa.field("answered", pa.bool_(), nullable=False),
        pa.field("batched", pa.bool_(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("prompt", "completion", "cached", "images")),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("guessed", "limit", "pictures")),
    ]
)


@dataclass(frozen=True)
class Entry:
    """What one call has used, as `Tokens` has it. key: its 32 bytes; answered: whether it is a reply.

    guessed, limit, pictures: what it could use at most, as the prompt, completion and images of its `Need` say.
    """

    key: bytes
    role: str
    model: str
    answered: bool
    batched: bool
    prompt: int
    completion: int
    cached: int
    images: int
    guessed: int
    limit: int
    pictures: int


def entry_of(document: dict[str, Any]) -> Entry:
    """The entry of a kept call. Tokens are 0 where the server counted nonsense: then its cost is not known."""
    request, response = document["request"], document["response"]
    answered = "choices" in response
    try:
        tokens = tokens_of(response if answered else {})
    except (TypeError, ValueError, AttributeError):
        tokens = tokens_of({})
    role, model = str(document.get("role", "")), str(request.get("model", ""))
    need = need_of_kept(request)
    return Entry(
        key=bytes.fromhex(document["key"]),
        role=role,
        model=model,
        answered=answered,
        guessed=need.prompt,
        limit=need.completion,
        pictures=need.images,
        **asdict(tokens),
    )


def table_of(entries: Iterable[Entry]) -> pa.Table:
    """Entries as columns."""
    return pa.Table.from_pylist([asdict(entry) for entry in entries], schema=SCHEMA)


class CallIndex:
    """`RUN/ledger/DIGEST.parquet`. For use by several threads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._entries: list[Entry] = []
        self._lock = Lock()

    def add(self, document: dict[str, Any]) -> None:
        """Notes a call that is durable. Raises Fatal where the storage cannot be written."""
        entry = entry_of(document)
        with self._lock:
            self._entries.append(entry)
        self.write(at_least=_FULL)

    def write(self, at_least: int = 1) -> None:
        """Writes what was noted, where it is so much. Raises Fatal where it cannot."""
        with self._lock:
            if len(self._entries) < at_least:
                return
            entries, self._entries = self._entries, []
        self.put(table_of(entries))

    def put(self, table: pa.Table) -> str:
        """Writes entries as a file of their own, and gives its name."""
        data = parquet_of(SCHEMA, [table], {"rows": len(table)})
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.parquet"
        self._storage.write(f"{FOLDER}/{name}", data)
        return name

    def files(self) -> dict[str, int]:
        """The files that there are, and the bytes of each."""
        return {file.name: file.bytes for file in self._storage.files(FOLDER) if file.name.endswith(".parquet")}

    def remove(self, names: Iterable[str], threads: Executor) -> None:
        """Removes files."""
        list(threads.map(lambda name: self._storage.remove(f"{FOLDER}/{name}"), names))

    def table(self, name: str) -> pa.Table:
        """The entries of a file; none of one that is damaged."""
        try:
            return read_parquet(self._storage.read(f"{FOLDER}/{name}")).cast(SCHEMA)
        except (FileNotFoundError, pa.ArrowException, ValueError):
            return SCHEMA.empty_table()
