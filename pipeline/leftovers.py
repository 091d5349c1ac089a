"""What a crash left in a run: files under temporary names, uploads that were never completed, torn calls."""

import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.kept_calls import KeptCalls
from pipeline.models.calls import FOLDER as CALLS
from pipeline.remote import patiently, reason
from pipeline.storage import Storage
from pipeline.store import RunStore
from schemas.errors import Fatal

_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")
"""Names that `Storage` writes under before the final one."""

_KINDS = {"leftover": "temporary file", "damaged": "torn call"}
"""By what `KeptCalls` says of a file."""

_THREADS = 16


@dataclass(frozen=True)
class Leftover:
    """kind: `temporary file`, `torn call` or `unfinished upload`; name: within the run; bytes: as far as it came.

    changed_at: Unix seconds, None where the file system does not tell. upload: the store's id for an upload.
    """

    kind: str
    name: str
    bytes: int
    changed_at: float | None
    upload: str = ""

    def untouched(self, seconds: float) -> bool:
        """Whether it has not changed for so long that no process can be writing it."""
        return self.changed_at is not None and time.time() - self.changed_at >= seconds


def leftovers(run: RunStore) -> Iterator[Leftover]:
    """All of a run. Raises Fatal.

    Every kept call of a local run is read, since a torn one has a whole one's name. In an object store none can be
    torn, and is only listed.
    """
    yield from _temporary(run.storage, "", run.storage.is_local)
    if run.storage.is_local:
        for file in KeptCalls(run).each():
            if file.kind in _KINDS:
                yield Leftover(_KINDS[file.kind], f"{CALLS}/{file.folder}/{file.name}", file.bytes, file.changed_at)
    yield from _uploads(run.storage)


def remove(run: RunStore, found: Iterable[Leftover]) -> None:
    """Removes leftovers. Raises Fatal where one cannot be removed."""

    def one(left: Leftover) -> None:
        if left.upload:
            bucket, key, _ = run.storage.fs.split_path(run.storage.path(left.name))
            _asked(run.storage, "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=left.upload)
        else:
            run.storage.remove(left.name)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(one, found))


def _temporary(storage: Storage, folder: str, but_calls: bool) -> Iterator[Leftover]:
    """In a folder and all below it."""
    folders, files = storage.entries(folder)
    for file in files:
        if _TEMPORARY.fullmatch(file.name):
            yield Leftover("temporary file", f"{folder}/{file.name}".lstrip("/"), file.bytes, file.changed_at)
    for name in folders:
        below = f"{folder}/{name}".lstrip("/")
        if not (but_calls and below == CALLS):
            yield from _temporary(storage, below, but_calls)


def _uploads(storage: Storage) -> Iterator[Leftover]:
    """Uploads in parts that nobody completed: S3 keeps and charges them for ever; other stores drop them in a week."""
    if storage.is_local or "s3" not in storage.fs.protocol:
        return
    bucket, prefix, _ = storage.fs.split_path(storage.path(""))
    uploads = _listed(storage, "list_multipart_uploads", "Uploads", Bucket=bucket, Prefix=f"{prefix}/")
    for upload in uploads:
        key, number = upload["Key"], upload["UploadId"]
        parts = list(_listed(storage, "list_parts", "Parts", Bucket=bucket, Key=key, UploadId=number))
        changed_at = max(time.timestamp() for time in [upload["Initiated"], *(part["LastModified"] for part in parts)])
        size = sum(part["Size"] for part in parts)
        yield Leftover("unfinished upload", key.removeprefix(f"{prefix}/"), size, changed_at, number)


def _listed(storage: Storage, request: str, what: str, **arguments: str) -> Iterator[dict[str, Any]]:
    """All entries of a listing, page by page."""
    mark: dict[str, Any] = {}
    while True:
        page = _asked(storage, request, **arguments, **mark)
        yield from page.get(what, [])
        if not page.get("IsTruncated"):
            return
        mark = {name.removeprefix("Next"): page[name] for name in page if name.startswith("Next")}


def _asked(storage: Storage, request: str, **arguments: Any) -> Any:
    try:
        return patiently(lambda: storage.fs.call_s3(request, **arguments))
    except Exception as error:  # the client has errors of its own
        raise Fatal(f"cannot look for uploads in {storage.url}: {reason(error)}") from error
