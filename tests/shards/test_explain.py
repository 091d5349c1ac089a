"""`--explain`: what each clause drops, in its turn, by itself and alone of all; nothing is written."""

from pathlib import Path

import pytest

from jobs import cut as job
from jobs.presets import preset, preset_names
from pipeline.shards.condition import Clause, Condition
from pipeline.shards.explain import explain
from pipeline.shards.order import Order
from pipeline.shards.table import Rows
from pipeline.shards.thinning import Thinning
from pipeline.store import RunStore
from tests.shards.crowded import crowded_run


def test_each_clause_in_order_alone_and_what_only_it_drops(tmp_path: Path) -> None:
    rows = Rows(crowded_run(str(tmp_path)))
    clauses = (
        Clause("wrong", "answer_correct"),  # drops 3 attempts, whose number is 2
        Clause("late", "attempt < 2"),  # drops 12, those 3 among them
        Clause("video", "video_id != 'v0'"),  # drops 12, of which 4 are late
        Clause("never", "true"),
    )
    found = explain(rows, Condition("x", "", "", clauses, Thinning(per_question=1, per_video=3)), "sft", 0)
    assert [(d.reason, d.in_order, d.alone, d.only) for d in found.drops] == [
        ("wrong", 3, 3, 0),
        ("late", 9, 12, 6),
        ("video", 8, 12, 8),
        ("never", 0, 0, 0),
        ("nothing to learn", 0, 0, 0),
        ("more than 1 per question", 8, 8, None),
        ("more than 3 per video", 2, 10, None),
    ]
    assert found.judged == 36 and found.funnel.kept == 6


@pytest.mark.parametrize("name", preset_names())
def test_the_explanation_is_the_funnel_of_the_cut(rows: Rows, name: str) -> None:
    found = explain(rows, preset(name), "sft", 0)
    lost = {loss.reason: loss.rows for loss in found.funnel.losses if loss.level == "kept"}
    assert {drop.reason: drop.in_order for drop in found.drops if drop.in_order} == lost
    assert found.judged == found.funnel.reached["verified"] == found.funnel.kept + sum(lost.values())
    assert all(drop.in_order <= drop.alone and (drop.only or 0) <= drop.alone for drop in found.drops)


def test_it_is_printed_and_nothing_is_written(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(store.storage.fs.find(store.storage.path("")))
    job.explain(store.url, Order("", "sft", job.condition("default", None, "sft", {"per_video": 1})))
    said = capsys.readouterr().out
    assert "12 attempts planned; 9 lost before the condition, 3 judged" in said
    row = next(line for line in said.splitlines() if line.startswith("wrong answer"))
    assert row.split()[2:5] == ["1", "1", "1"] and row.endswith("answer_correct")
    assert "more than 1 per video" in said and "kept 1; nothing was written" in said
    assert sorted(store.storage.fs.find(store.storage.path(""))) == before
