"""A run that has grown by a regeneration: its rows, its cuts and their lineage."""

from pathlib import Path

import pytest

from jobs.verify import Another, plan_verification
from pipeline.plan import Plan
from pipeline.shards.questions import questions_where
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.config import EndpointVerifier, Verifier, fingerprint
from schemas.errors import UserError
from schemas.generation import Generation, StageSettings
from tests.shards.cutting import digests, made
from tests.shards.runs import GOOD, answer_turn, begin, commit, question, trajectory, tree, verdict


def run_of_two_questions(url: str) -> RunStore:
    """Two videos; of one question both attempts are right, of the other the second is wrong."""
    asked = [question(n, f"v{n}") for n in range(2)]
    store = begin(url, asked, attempts=2)
    for shard, wrong in ((0, False), (1, True)):
        rows = [
            trajectory(asked[shard], 0, turns=GOOD, final="C"),
            trajectory(asked[shard], 1, turns=(GOOD[0], answer_turn("A")) if wrong else GOOD, final="CA"[wrong]),
        ]
        commit(store, "caption", shard, [tree(f"v{shard}")])
        commit(store, "teach", shard, rows)
        commit(store, "replay", shard, [verdict(row) for row in rows])
    return store


ZOOMS = {"view.zoom_frames": 4}


def settings_of_another_teacher(store: RunStore) -> StageSettings:
    own = store.recorded_settings() or {}
    return own | {stage: own[stage] | {"teacher.model": "teacher-2"} for stage in ("teach", "replay")}


def grown(store: RunStore) -> StageSettings:
    """One new attempt at the second question, by another teacher, taught and judged. Gives its settings."""
    settings = settings_of_another_teacher(store)
    ordered = Generation(
        number=1, where="x", all_attempts=False, limit=None, attempts=1, changes=ZOOMS, settings=settings
    )
    Plan(store).regenerate([question(1, "v1")], ordered, 1)
    new = trajectory(question(1, "v1"), 2, turns=GOOD, final="C").model_copy(update={"teacher": "teacher-2"})
    commit(store, "caption", 2, [tree("v1")])
    commit(store, "teach", 2, [new])
    commit(store, "replay", 2, [verdict(new)])
    return settings


def test_questions_are_chosen_by_any_of_their_rows_or_by_all(tmp_path: Path) -> None:
    store = run_of_two_questions(str(tmp_path))
    rows = Rows(store)
    assert questions_where(rows, "NOT answer_correct", False) == {"q1"}
    assert questions_where(rows, "answer_correct", False) == {"q0", "q1"}
    assert questions_where(rows, "answer_correct", True) == {"q0"}
    with pytest.raises(UserError, match="no column answer"):
        questions_where(rows, "answer", False)


def test_a_row_that_is_not_there_yet_chooses_no_question(tmp_path: Path) -> None:
    store = begin(str(tmp_path), [question(0, "v0")], attempts=1)
    rows = Rows(store)
    for condition in ("status = 'not_run'", "answer_correct IS NULL"):
        assert questions_where(rows, condition, False) == questions_where(rows, condition, True) == set()


def test_rows_tell_their_generation_and_each_has_the_fingerprint_of_its_settings(tmp_path: Path) -> None:
    store = run_of_two_questions(str(tmp_path))
    before = made(store, "before", "sft")
    settings = grown(store)
    rows = Rows(store)
    assert rows.query("SELECT generation, count(*) AS n FROM rows GROUP BY 1 ORDER BY 1") == [
        {"generation": 0, "n": 4},
        {"generation": 1, "n": 1},
    ]
    own, new = rows.fingerprints, {stage: fingerprint(of) for stage, of in settings.items()}
    assert (rows.fingerprints_of(0), rows.fingerprints_of(2)) == (own, new)
    after = made(store, "after", "sft")
    found = {row["provenance"]["trajectory_id"]: row["provenance"] for row in after}
    assert {id_: (p["run_fingerprint"], p["teacher"]) for id_, p in found.items()} == {
        "q0@0": (own["replay"], "teacher-1"),
        "q0@1": (own["replay"], "teacher-1"),
        "q1@0": (own["replay"], "teacher-1"),
        "q1@1": (own["replay"], "teacher-1"),
        "q1@2": (new["replay"], "teacher-2"),
    }
    assert [row for row in after if row["provenance"]["attempt"] < 2] == before


def test_a_cut_from_before_is_neither_changed_nor_taken_for_one_of_now(tmp_path: Path) -> None:
    store = run_of_two_questions(str(tmp_path))
    made(store, "mine", "sft")
    there = digests(store, "mine")
    grown(store)
    with pytest.raises(UserError, match="was cut before the run grew"):
        made(store, "mine", "sft")
    assert digests(store, "mine") == there
    again = made(store, "of-then", "sft", where="status = 'answered' AND generation = 0")
    assert [row["messages"] for row in again] == [row["messages"] for row in made(store, "all", "sft")][:4]


def test_cuts_differ_where_only_the_settings_of_a_regeneration_do(tmp_path: Path) -> None:
    """Two runs with shards of the same sizes: what made the rows is part of a cut's identity."""
    identities = []
    for teacher in ("teacher-2", "teacher-3"):
        store = run_of_two_questions(str(tmp_path / teacher))
        settings = settings_of_another_teacher(store)
        settings["replay"] = settings["replay"] | {"teacher.model": teacher}
        ordered = Generation(
            number=1, where="x", all_attempts=False, limit=None, attempts=1, changes={}, settings=settings
        )
        Plan(store).regenerate([question(1, "v1")], ordered, 1)
        new = trajectory(question(1, "v1"), 2, turns=GOOD, final="C")
        commit(store, "teach", 2, [new])
        made(store, "cut", "sft")
        card = store.storage.read("cuts/cut/README.md").decode()
        identities.append(next(line for line in card.splitlines() if "inputs:" in line))
    assert identities[0] != identities[1]


def test_a_further_verifiers_fingerprints_are_of_each_generations_attempts(tmp_path: Path) -> None:
    store = run_of_two_questions(str(tmp_path))
    settings = grown(store)
    other = RunStore(str(tmp_path), "other")
    replay = (store.recorded_settings() or {})["teach"] | {"verifier.path": "other"}
    other.open_verifier(replay)
    rows = Rows(other)
    assert rows.fingerprints_of(0)["replay"] == fingerprint(replay)
    assert rows.fingerprints_of(2)["replay"] == fingerprint(settings["teach"] | {"verifier.path": "other"})


def test_a_further_verifier_looks_at_each_generation_as_it_was_made(tmp_path: Path) -> None:
    store = run_of_two_questions(str(tmp_path))
    assert [sorted(run.shards) for run in plan_verification(store.url, Another("demo"))] == [[0, 1]]
    settings = grown(store)
    own, new = plan_verification(store.url, Another("demo"))
    assert (sorted(own.shards), sorted(new.shards)) == ([0, 1], [2])
    assert (own.config.view.zoom_frames, new.config.view.zoom_frames) == (None, 4)
    assert new.fingerprints["teach"] == fingerprint(settings["teach"])
    assert new.fingerprints["replay"] == Rows(RunStore(store.url, "demo")).fingerprints_of(2)["replay"]
    assert own.fingerprints["replay"] == Rows(RunStore(store.url, "demo")).fingerprints["replay"]


def test_a_further_verifier_takes_settings_of_its_own_and_of_nothing_else() -> None:
    changes = (
        "verifier.samples=4",
        "verifier.structured=true",
        "verifier.api_key_env=OTHER_KEY",
        "verifier.rollouts=2",
    )
    served = Another("m", base_url="http://localhost:1/v1", changes=changes).config()
    assert isinstance(served, EndpointVerifier)
    assert (served.samples, served.structured, served.rollouts) == (4, True, 2)
    assert served.api_key_env == "OTHER_KEY"
    local = Another("a/model", changes=("verifier.per_token=true", "verifier.dtype=float32")).config()
    assert isinstance(local, Verifier) and (local.per_token, local.dtype) == (True, "float32")
    for name, said in (("view.zoom_frames", "only settings of the verifier"), ("verifier.path", "say it by --model")):
        with pytest.raises(UserError, match=said):
            Another("a/model", changes=(f"{name}=3",)).config()
    with pytest.raises(UserError, match="samples"):
        Another("a/model", changes=("verifier.samples=3",)).config()
