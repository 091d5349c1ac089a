"""The base of every record, and identity by content."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
"""Version of all Arrow schemas together; written to the footer of every shard."""


class Record(BaseModel):
    """A frozen record. Unknown fields are errors; sequences are tuples, so that records can be shared freely."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text on every machine."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


_PIECE = 2047
"""Bytes that `hashlib` takes without giving up Python's lock."""


def content_id(value: Any, length: int = 64) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of a JSON-able value."""
    digest, data = hashlib.sha256(), memoryview(canonical_json(value).encode())
    # A larger piece would give up Python's lock, and wait for it longer than the hash takes.
    for start in range(0, len(data), _PIECE):
        digest.update(data[start : start + _PIECE])
    return digest.hexdigest()[:length]
