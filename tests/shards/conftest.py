"""A small run to change, and one as SQL rows to look at."""

from pathlib import Path

import pytest

from pipeline.shards.table import Rows
from pipeline.store import RunStore
from tests.shards.films import film_run
from tests.shards.published import Runs, published_run
from tests.shards.runs import answer_turn, begin, caption_turn, commit, question, trajectory, tree, verdict, whole_run


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
    store = begin(str(tmp_path_factory.mktemp("walks")), [question(0, "cg/v0.mp4")], 1, "longvideo_r1")
    turns = (caption_turn(), answer_turn("C"))
    made = trajectory(question(0, "cg/v0.mp4"), 0, turns=turns, final="C", protocol="longvideo_r1")
    commit(store, "caption", 0, [tree("cg/v0.mp4")])
    commit(store, "teach", 0, [made])
    commit(store, "replay", 0, [verdict(made, p_gold_steps=(0.5, 0.75))])
    return store


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The run of a protocol, made once."""
    made: dict[str, RunStore] = {}

    def of(name: str) -> RunStore:
        if name not in made:
            made[name] = published_run(tmp_path_factory.mktemp(name), name)
        return made[name]

    return of
