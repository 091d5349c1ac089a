"""Presets: where each comes from, what each keeps, and a user's own."""

from pathlib import Path
from typing import Any

import pytest

from jobs.presets import preset, preset_names, preset_text
from jobs.presets.listing import presets
from pipeline.shards.columns import COLUMNS
from pipeline.shards.funnel import funnel
from pipeline.shards.table import Rows
from pipeline.shards.thinning import NOT_THINNED, Thinning
from prompts.protocols import PROTOCOLS
from schemas.errors import UserError
from tests.shards.cutting import cut, rows_of
from tests.shards.runs import GOOD, answer_turn, begin, commit, question, trajectory, verdict

PUBLISHED = ("longvideo_r1", "love_r1", "videozoomer", "framethinker", "timesearch_r", "longvt")


def reasons(folder: Path, name: str, **found: Any) -> list[str]:
    """Why a preset drops an attempt of which this was found; [] where it keeps it."""
    store = begin(str(folder / "run"), [question(0, "v0")], attempts=1)
    made = trajectory(question(0, "v0"), 0, turns=GOOD, final="C")
    commit(store, "teach", 0, [made])
    commit(store, "replay", 0, [verdict(made, **found)])
    return [loss.reason for loss in funnel(Rows(store), preset(name)).losses]


SOUND = {
    "p_gold_blind": 0.25,
    "p_gold_overview": 0.25,
    "p_gold_evidence": 0.875,
    "p_gold_zooms_only": 0.75,
    "p_gold_four_frames": 0.25,
    "evidence_gain": 0.625,
    "gain_per_step": (0.625,),
    "zooms_mentioned": 1.0,
    "consistent": True,
}


def test_there_is_one_for_every_published_recipe_and_each_says_where_it_comes_from_and_what_differs() -> None:
    assert {"default", "strict", *PUBLISHED} <= set(preset_names())
    assert set(PUBLISHED) == {protocol.name for protocol in PROTOCOLS}
    for name in PUBLISHED:
        comment = preset_text(name).split("name:")[0]
        assert preset(name).source and "What differs:" in comment and preset(name).name == name


@pytest.mark.parametrize("name", preset_names())
def test_each_keeps_a_sound_attempt_and_drops_a_wrong_one(tmp_path: Path, name: str) -> None:
    assert reasons(tmp_path / "sound", name, **SOUND) == []
    assert reasons(tmp_path / "wrong", name, **(SOUND | {"answer_correct": False})) == ["wrong answer"]


@pytest.mark.parametrize("name", [name for name in preset_names() if name != "strict"])
def test_an_answer_that_was_not_judged_is_dropped_and_not_called_wrong(tmp_path: Path, name: str) -> None:
    assert reasons(tmp_path, name, **(SOUND | {"answer_correct": None})) == ["answer not judged"]


@pytest.mark.parametrize(
    ("name", "found", "reason"),
    [
        ("love_r1", {"grounding_iou": 0.0}, "clue missed"),
        ("love_r1", {"grounding_iou": None}, ""),
        ("love_r1", {"in_bounds": False}, "out of bounds"),
        ("longvt", {"grounding_iou": 0.29}, "clue missed"),
        ("longvt", {"grounding_iou": 0.3}, ""),
        ("longvt", {"grounding_iou": None}, "clue missed"),
        ("timesearch_r", {"p_gold_four_frames": 0.5}, "solved with four frames"),
        ("timesearch_r", {"p_gold_zooms_only": 0.4}, "unsolved with the searched frames"),
        ("timesearch_r", {"p_gold_four_frames": None, "p_gold_zooms_only": None}, ""),
        ("framethinker", {"zooms_mentioned": 0.5}, "frames not named"),
        ("framethinker", {"zooms_mentioned": None}, "frames not named"),
        ("framethinker", {"zooms_mentioned": None, "n_zooms": 0}, ""),
        ("framethinker", {"redundant_zooms": 1}, "frames chosen twice"),
        ("strict", {"p_gold_evidence": 0.75}, "weak evidence"),
        ("strict", {"p_gold_blind": None}, "answerable without the video"),
        ("strict", {"gain_per_step": (-0.25, 0.875)}, "a zoom that misleads"),
        ("strict", {"grounding_recall": 0.25}, "clue missed"),
    ],
)
def test_what_a_recipe_asks_for(tmp_path: Path, name: str, found: dict[str, Any], reason: str) -> None:
    assert reasons(tmp_path, name, **(SOUND | found)) == ([reason] if reason else [])


def test_love_r1_mines_questions_that_are_sometimes_solved_for_rl_alone(tmp_path: Path) -> None:
    assert preset("love_r1").thinning == NOT_THINNED
    assert preset("love_r1", "rl").thinning == Thinning(pass_rate_above=0.0, pass_rate_below=1.0)
    store = begin(str(tmp_path), [question(n, "v0") for n in range(2)], attempts=2)
    made = [
        trajectory(question(0, "v0"), 0, turns=GOOD, final="C"),
        trajectory(question(0, "v0"), 1, turns=(GOOD[0], answer_turn("A")), final="A"),
        *(trajectory(question(1, "v0"), n, turns=GOOD, final="C") for n in range(2)),
    ]
    commit(store, "teach", 0, made)
    commit(store, "replay", 0, [verdict(t) for t in made])
    cut(store.url, "rl", "love_r1", None, "rl")
    cut(store.url, "sft", "love_r1", None, "sft")
    assert [row["provenance"]["question_id"] for row in rows_of(store, "rl", "train")] == ["q0"]
    assert len(rows_of(store, "sft", "train")) == 3
    assert "| before kept | `pass rate not below 1.0` | -2 |" in store.storage.read("cuts/rl/README.md").decode()


def test_strict_takes_nothing_that_was_helped(tmp_path: Path) -> None:
    store = begin(str(tmp_path), [question(0, "v0")], attempts=1)
    shown = trajectory(question(0, "v0"), 0, turns=GOOD, final="C").model_copy(update={"answer_shown": True})
    commit(store, "teach", 0, [shown])
    commit(store, "replay", 0, [verdict(shown, **SOUND)])
    assert [loss.reason for loss in funnel(Rows(store), preset("strict")).losses] == ["helped"]


def test_the_list_names_each_with_its_recipe_and_one_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    presets("")
    said = capsys.readouterr().out.splitlines()
    for name in preset_names():
        line = next(line for line in said if line.startswith(f"{name} "))
        assert preset(name).description in line and (preset(name).source or "our own") in line
    presets("longvt")
    assert capsys.readouterr().out == preset_text("longvt")
    with pytest.raises(UserError, match="no such preset"):
        presets("best")


def test_a_file_of_ones_own(rows: Rows, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "name: mine\ndescription: short ones\nwhere:\n- {reason: wrong answer, sql: answer_correct}\n"
        "thinning: {per_question: 1, best_by: evidence_gain}\n"
    )
    found = preset(str(mine))
    assert (found.name, found.source, found.sql) == ("mine", "", "(answer_correct)")
    assert found.thinning == Thinning(per_question=1, best_by="evidence_gain") and funnel(rows, found).kept == 2
    for text, message in (
        ("name: x\ndescription: y\nwere: []\n", "where: Field required"),
        ("name: x\ndescription: y\nwhere: []\nthinning: {per_video: 0}\n", "thinning.per_video"),
        ("name: [", "is not YAML"),
        ("- a\n", "Input should be a valid dictionary"),
    ):
        mine.write_text(text)
        with pytest.raises(UserError, match=message):
            preset(str(mine))
    with pytest.raises(UserError, match="cannot be read: No such file"):
        preset(str(tmp_path / "other.yaml"))


def test_every_column_of_a_preset_is_documented(rows: Rows) -> None:
    for name in preset_names():
        for clause in preset(name).clauses:
            rows.check(clause.sql)  # refuses what `zoomtrail columns` does not list
    assert "p_gold_four_frames" in {column.name for column in COLUMNS}


@pytest.mark.parametrize("name", ["default", "strict"])
@pytest.mark.parametrize(("column", "reason"), [("judge_hint_leak", "hint leak"), ("judge_gold_leak", "gold leak")])
def test_a_leak_that_a_judge_found_drops_an_attempt_and_no_judge_drops_none(
    tmp_path: Path, name: str, column: str, reason: str
) -> None:
    for opinion, expected in ((True, [f"{reason} by the judge"]), (False, []), (None, [])):
        assert reasons(tmp_path / str(opinion), name, **(SOUND | {column: opinion})) == expected
