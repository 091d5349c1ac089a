"""A small run to change, and one as SQL rows to look at."""

from pathlib import Path

import pytest

from pipeline.shards.table import Rows
from pipeline.store import RunStore
from tests.shards.films import film_run
from tests.shards.published import Runs, published_run
from tests.shards.runs import walk_run, whole_run


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return whole_run(str(tmp_path / "run"))


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return Rows(whole_run(str(tmp_path_factory.mktemp("run"))))


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return film_run(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="session")
def walks(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run of `longvideo_r1`: captions, no pictures."""
    return walk_run(str(tmp_path_factory.mktemp("walks")))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The run of a protocol, made once."""
    made: dict[str, RunStore] = {}

    def of(name: str) -> RunStore:
        if name not in made:
            made[name] = published_run(tmp_path_factory.mktemp(name), name)
        return made[name]

    return of
