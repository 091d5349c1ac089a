"""Durable model replies: one file per call, keyed by the hash of the exact request, written before anyone parses it."""

import json
import re
from typing import Any

from pipeline.models.call_index import CallIndex
from pipeline.storage import Storage, StoredFile

FOLDER = "calls"

_DIGITS = 64
_is_call = re.compile(rf"[0-9a-f]{{{_DIGITS}}}\.json").fullmatch

Document = dict[str, Any]
"""A kept call: {key, role, request (without images), response (raw)}."""


class CallStore:
    """`RUN/calls/ab/ab12….json`: a `Document`.

    Of two workers that race on one key the first keeps its reply, and the other takes that for its own.
    unreadable: keys whose file was found to be no such document (cut off, empty, foreign): their calls are made again.
    index: of what was put here.
    """

    def __init__(self, run_url: str) -> None:
        self.url = run_url
        self.storage = Storage(run_url)
        self.unreadable: set[str] = set()
        self.index = CallIndex(self.storage)

    @staticmethod
    def name(key: str) -> str:
        return f"{FOLDER}/{key[:2]}/{key}.json"

    def get(self, key: str) -> dict[str, Any] | None:
        """The raw response of an earlier identical request, or None. Raises Fatal where that cannot be found out."""
        document = self.document(key)
        return None if document is None else dict(document["response"])

    def document(self, key: str) -> Document | None:
        """All that is kept of a call, or None. Raises Fatal where that cannot be found out."""
        data = self.storage.read_or_none(self.name(key))
        if data is None:
            return None
        document = _document(data, key)
        if document is None:
            self.unreadable.add(key)
        return document

    def folders(self) -> list[str]:
        """The folders that hold calls, by the first two digits of their keys."""
        return self.storage.folders(FOLDER)

    def keys(self, folder: str) -> list[str]:
        """The keys whose calls such a folder holds."""
        names = self.storage.names(f"{FOLDER}/{folder}", ".json")
        return [name[:_DIGITS] for name in names if _is_call(name)]

    def files(self, folder: str) -> list[StoredFile]:
        """All files of such a folder: calls, and what writers that were killed have left."""
        return self.storage.files(f"{FOLDER}/{folder}")

    def remove(self, folder: str, name: str) -> None:
        """Removes a file of such a folder. Raises Fatal where it cannot."""
        self.storage.remove(f"{FOLDER}/{folder}/{name}")

    def put(self, key: str, role: str, request: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
        """Makes a response durable, and gives the one that stands: another worker's where it came first.

        Raises Fatal where it cannot be written.
        """
        document = {"key": key, "role": role, "request": request, "response": response}
        data = json.dumps(document).encode()
        if key not in self.unreadable:
            if self.storage.keep(self.name(key), data):
                self.index.add(document)
                return response
            if (standing := self.get(key)) is not None:
                return standing
        self.storage.write(self.name(key), data)
        self.index.add(document)
        return response


def _document(data: bytes, key: str) -> Document | None:
    """The document in a file, None where it is none of this key."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("key") != key:
        return None
    whole = isinstance(document.get("request"), dict) and isinstance(document.get("response"), dict)
    return document if whole else None
