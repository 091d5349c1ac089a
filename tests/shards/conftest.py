"""A small run to change, and one as SQL rows to look at."""

from pathlib import Path

import pytest

from pipeline.shards.table import Rows
from pipeline.store import RunStore
from tests.shards.runs import whole_run


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return whole_run(str(tmp_path / "run"))


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return Rows(whole_run(str(tmp_path_factory.mktemp("run"))))
