"""Durable model replies: one file per call, keyed by the hash of the exact request, written before anyone parses it."""

import json
from typing import Any

from pipeline.storage import Storage


class CallStore:
    """`RUN/calls/ab/ab12….json`: {key, role, request (without images), response (raw)}.

    Two workers that race on one key write the same name atomically; either content is a true reply to that request.
    """

    def __init__(self, run_url: str) -> None:
        self._storage = Storage(run_url)

    @staticmethod
    def name(key: str) -> str:
        return f"calls/{key[:2]}/{key}.json"

    def get(self, key: str) -> dict[str, Any] | None:
        """The raw response of an earlier identical request, or None."""
        data = self._storage.read_or_none(self.name(key))
        return None if data is None else dict(json.loads(data)["response"])

    def put(self, key: str, role: str, request: dict[str, Any], response: dict[str, Any]) -> None:
        """Makes a response durable. Raises Fatal where it cannot be written."""
        document = {"key": key, "role": role, "request": request, "response": response}
        self._storage.write(self.name(key), json.dumps(document).encode())
