"""An object store for tests of any floor: one server for the session, one empty bucket for each test."""

from collections.abc import Iterator
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
def s3(s3_server: "ObjectStore") -> "Iterator[ObjectStore]":
    """The store, which this process and its children reach by the standard variables, with an empty bucket."""
    from tests.object_store import reached

    with reached(s3_server) as store:
        yield store
