"""Cuts of a protocol without memory: a row for each step, and no row lost or doubled between files."""

from pathlib import Path
from typing import Any

import datasets
import pytest

from pipeline.store import RunStore
from schemas.trajectory import Action, Observation, Trajectory, Turn
from tests.prompts.examples import answer, turn
from tests.shards.cutting import cut
from tests.shards.runs import begin, commit, frames, question, trajectory, tree, verdict


def zoom(number: int, start: float) -> Turn:
    call = f"{number}.0"
    action = Action(call_id=call, kind="zoom", start_s=start, end_s=start + 4)
    return turn(f"Look {number}.", action, Observation(call_id=call, kind="frames", text="", frames=frames(3, start)))


INVALID = turn(
    raw="no box", error="no_box", observation=Observation(call_id="0.0", kind="error", text="There is none.")
)


def made(number: int, attempt: int, *turns: Turn) -> Trajectory:
    asked = question(number, f"v{number}")
    return trajectory(asked, attempt, turns=(*turns, turn("Blue.", answer("C"))), final="C", protocol="love_r1")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Two questions, two attempts each: with two zooms, none, one, and one after an invalid turn."""
    store = begin(str(tmp_path / "run"), [question(n, f"v{n}") for n in range(2)], attempts=2, protocol="love_r1")
    rolled = [
        [made(0, 0, zoom(0, 2.0), zoom(1, 20.0)), made(0, 1)],
        [made(1, 0, zoom(0, 2.0)), made(1, 1, INVALID, zoom(1, 8.0))],
    ]
    for shard, rows in enumerate(rolled):
        commit(store, "caption", shard, [tree(f"v{shard}")])
        commit(store, "teach", shard, rows)
        commit(store, "replay", shard, [verdict(row) for row in rows])
    return store


def rows(store: RunStore, name: str, cache: Path) -> list[dict[str, Any]]:
    files = sorted(store.storage.path(f"cuts/{name}/{n}") for n in store.storage.names(f"cuts/{name}", ".parquet"))
    return list(datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(cache)))


@pytest.mark.parametrize("rows_per_file", [1, 3, 100])
def test_each_valid_step_is_a_row_of_its_own(store: RunStore, tmp_path: Path, rows_per_file: int) -> None:
    cut(store.url, "steps", None, "true", "sft", rows_per_file)
    loaded = rows(store, "steps", tmp_path / "cache")
    assert len(list(store.storage.names("cuts/steps", ".parquet"))) == -(-8 // rows_per_file)
    assert [(r["provenance"]["trajectory_id"], r["provenance"]["step"]) for r in loaded] == [
        ("q0@0", 0),
        ("q0@0", 1),
        ("q0@0", 2),
        ("q0@1", 0),
        ("q1@0", 0),
        ("q1@0", 1),
        ("q1@1", 1),
        ("q1@1", 2),
    ]
    for row in loaded:
        assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"]
        assert [m["train"] for m in row["messages"]] == [False, False, True]
        assert sum(m["content"].count("<image>") for m in row["messages"]) == len(row["images"])
    assert [len(row["images"]) for row in loaded] == [2, 5, 8, 2, 2, 5, 2, 5]
    assert loaded[1]["messages"][2]["content"] == "I need to zoom in on the video.\n\nLook 1. \\boxed{[20, 24]}"


def test_rl_rows_stay_one_a_question(store: RunStore, tmp_path: Path) -> None:
    cut(store.url, "rl", None, "true", "rl")
    loaded = rows(store, "rl", tmp_path / "cache")
    assert [row["provenance"]["question_id"] for row in loaded] == ["q0", "q1"]
    assert [m["role"] for m in loaded[0]["prompt"]] == ["system", "user"]
    assert loaded[0]["provenance"]["step"] is None
