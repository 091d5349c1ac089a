"""A measure that is NaN or infinite is unknown: it meets no bound and ranks behind every number."""

import math
from pathlib import Path

import pytest

from jobs.presets import preset
from pipeline.shards.choosing import choose
from pipeline.shards.condition import where
from pipeline.shards.funnel import funnel
from pipeline.shards.table import Rows
from pipeline.shards.thinning import Thinning
from tests.shards.runs import GOOD, begin, commit, question, trajectory, verdict
from tests.shards.test_presets import SOUND

WRONG = [math.nan, math.inf, -math.inf]


def judged(url: str, *found: dict[str, object]) -> Rows:
    """A run with an attempt for each of the findings."""
    store = begin(url, [question(0, "v0")], attempts=len(found))
    made = [trajectory(question(0, "v0"), n, turns=GOOD, final="C") for n in range(len(found))]
    commit(store, "teach", 0, made)
    commit(store, "replay", 0, [verdict(t, **columns) for t, columns in zip(made, found, strict=True)])
    return Rows(store)


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("name", ["evidence_gain", "p_gold_evidence", "grounding_iou", "claims_supported"])
def test_it_meets_no_bound(tmp_path: Path, name: str, value: float) -> None:
    rows = judged(str(tmp_path), {name: value})
    for bound in (f"{name} >= 0.8", f"{name} <= 0", f"{name} IS NOT NULL"):
        assert funnel(rows, where(bound)).kept == 0
    assert funnel(rows, where(f"{name} IS NULL")).kept == 1


@pytest.mark.parametrize("value", WRONG)
def test_a_list_with_one_is_unknown_as_a_whole(tmp_path: Path, value: float) -> None:
    rows = judged(str(tmp_path), {"p_gold_steps": (0.5, value)}, {"p_gold_steps": ()}, {"p_gold_steps": (0.5, 0.75)})
    found = rows.query("SELECT p_gold_steps FROM rows ORDER BY attempt")
    assert [row["p_gold_steps"] for row in found] == [None, [], [0.5, 0.75]]


@pytest.mark.parametrize("name", ["evidence_gain", "p_gold_blind", "p_gold_evidence", "gain_per_step"])
def test_strict_does_not_keep_it(tmp_path: Path, name: str) -> None:
    value = (math.nan,) if name == "gain_per_step" else math.nan
    assert funnel(judged(str(tmp_path), SOUND, SOUND | {name: value}), preset("strict")).kept == 1


@pytest.mark.parametrize("best_by", ["evidence_gain", "-evidence_gain", "cost_usd", "-cost_usd"])
def test_it_is_never_the_best(tmp_path: Path, best_by: str) -> None:
    rows = judged(str(tmp_path), *({"evidence_gain": value} for value in (0.25, *WRONG)))
    store = rows.store
    made = [
        trajectory(question(0, "v0"), n, turns=GOOD, final="C", cost_usd=cost) for n, cost in enumerate((0.25, *WRONG))
    ]
    commit(store, "teach", 0, made)
    condition = where("true")
    condition = type(condition)("", "", "", condition.clauses, Thinning(per_question=1, best_by=best_by))
    rows = Rows(store)
    assert choose(rows, condition, "sft", 0).kept == 1
    assert rows.query("SELECT trajectory_id FROM kept") == [{"trajectory_id": "q0@0"}]
