"""Two verifiers of one run: whose verdicts are looked at, and how far they agree."""

from pathlib import Path

import pytest

from jobs.presets import preset
from jobs.stats import stats
from pipeline.shards.agreement import agreement, agreements
from pipeline.shards.condition import where
from pipeline.shards.funnel import funnel
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.errors import UserError
from schemas.trajectory import Trajectory
from tests.shards.cutting import cut
from tests.shards.runs import GOOD, begin, commit, question, trajectory, tree, verdict


def judged_twice(url: str, hint_leak: tuple[bool, ...] = (False,) * 4) -> tuple[RunStore, RunStore]:
    """Four attempts: the first verifier keeps them all, the other two of them, unless a hint leaks."""
    asked = question(0, "v0")
    own = begin(url, [asked], attempts=4)
    made = [trajectory(asked, n, turns=GOOD, final="C") for n in range(4)]
    commit(own, "caption", 0, [tree("v0")])
    commit(own, "teach", 0, made)
    leaks = [{"hint_leak": leak} for leak in hint_leak]
    measured = zip(made, leaks, (0.9, 0.8, 0.7, 0.6), strict=True)
    commit(own, "replay", 0, [verdict(one, p_gold_evidence=p, **leak) for one, leak, p in measured])
    other = RunStore(url, "other")
    other.open_verifier((own.recorded_settings() or {})["replay"] | {"verifier.path": "other"})
    again = zip(made, leaks, (0.9, 0.8, 0.3, 0.2), strict=True)
    found = [verdict(one, p_gold_evidence=p, verifier="other", **leak) for one, leak, p in again]
    commit(other, "replay", 0, found)
    return own, other


def test_each_verifier_has_its_own_verdicts_of_the_same_trajectories(tmp_path: Path) -> None:
    own, other = judged_twice(str(tmp_path))
    assert (funnel(Rows(own), preset("default")).kept, funnel(Rows(other), preset("default")).kept) == (4, 2)
    assert own.verifiers() == ["other"]
    assert own.rows(Trajectory, "teach", 0) == other.rows(Trajectory, "teach", 0)
    assert Rows(own).fingerprints["teach"] == Rows(other).fingerprints["teach"]
    assert Rows(own).fingerprints["replay"] != Rows(other).fingerprints["replay"]


def test_agreement_is_counted_over_what_both_judged(tmp_path: Path) -> None:
    own, other = judged_twice(str(tmp_path))
    (found,) = agreements(own, preset("default"))
    assert (found.verifier, found.attempts, found.both, found.neither, found.agree) == ("other", 4, 2, 0, 2)
    assert found.kappa == pytest.approx(0.0)  # the first keeps all: chance alone would agree as often
    assert found.mean_difference == pytest.approx(0.2)
    assert found.correlation is not None and found.correlation > 0.9
    (back,) = agreements(other, preset("default"))
    assert (back.verifier, back.both) == ("", 2)


def test_what_no_verifier_has_a_part_in_is_no_agreement(tmp_path: Path) -> None:
    own, other = judged_twice(str(tmp_path), hint_leak=(False, True, False, True))
    (found,) = agreements(own, preset("default"))
    assert (found.attempts, found.both, found.neither) == (2, 1, 0)
    (measured,) = agreements(own, where("p_gold_evidence > 0.5"))
    assert (measured.attempts, measured.both, measured.neither) == (4, 2, 0)
    assert agreements(other, preset("default"))[0].attempts == 2


def test_kappa_and_correlation_are_unknown_where_nothing_varies() -> None:
    same = dict.fromkeys("abc", (True, 0.5))
    found = agreement("x", same, same)
    assert (found.agree, found.kappa, found.correlation, found.mean_difference) == (3, None, None, 0.0)
    none = agreement("x", same, {})
    assert (none.attempts, none.kappa, none.mean_difference) == (0, None, None)
    mixed = {"a": (True, 0.1), "b": (False, 0.9)}
    assert agreement("x", mixed, mixed).kappa == pytest.approx(1.0)


def test_stats_and_cut_look_at_the_verifier_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, _ = judged_twice(str(tmp_path))
    stats(own.url, None, as_json=False)
    said = capsys.readouterr().out
    assert "Agreement with further verifiers" in said and "other" in said
    cut(own.url, "all", None, None, "sft")
    cut(own.url, "agreed", None, None, "sft", verifier="other")
    said = capsys.readouterr().out
    assert "kept 4 of 4 attempts" in said and "kept 2 of 4 attempts" in said
    with pytest.raises(UserError, match="has no verdicts by third; there are those by other"):
        stats(own.url, None, as_json=False, verifier="third")


def test_a_name_stands_for_one_verifier(tmp_path: Path) -> None:
    own, other = judged_twice(str(tmp_path))
    with pytest.raises(UserError, match=r"verifier\.path: 'other' -> 'third'\. Choose another --name"):
        other.open_verifier((own.recorded_settings() or {})["replay"] | {"verifier.path": "third"})
