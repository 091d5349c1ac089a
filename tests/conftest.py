"""An object store for tests of any floor: one server for the session, one empty bucket for each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.object_store import ObjectStore


@pytest.fixture(scope="session")
def s3_server() -> "Iterator[ObjectStore]":
    from tests.object_store import object_store

    with object_store() as store:
        yield store


@pytest.fixture
def s3(s3_server: "ObjectStore", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[ObjectStore]":
    """The store, which this process and its children reach by the standard variables, with an empty bucket.

    Videos from there are fetched into `tmp_path/cache`.
    """
    from tests.object_store import reached

    monkeypatch.setenv("ZOOMTRAIL_VIDEO_CACHE", str(tmp_path / "cache"))
    with reached(s3_server) as store:
        yield store
