"""Leaks in a judge's opinion: it sees what a student wrote before and after it was told, or had looked."""

import asyncio
from pathlib import Path

from pipeline.stages.items import Care
from pipeline.stages.judged_leaks import judged_leaks
from pipeline.stages.replay import ReplayStage
from prompts.protocols import protocol
from schemas.trajectory import Trajectory
from tests.stages.leak_texts import SIGN
from tests.stages.scripted import ScriptedModel, in_turn, text_of
from tests.stages.test_leaks import SEGMENT_HINT, asked, hinted
from tests.stages.test_teach import ANSWER as SAID
from tests.stages.test_teach import ZOOM, taught, tree_of


def sections(text: str) -> dict[str, str]:
    """What stands between lines of dashes, by the line above."""
    parts = text.split("\n-----\n")
    return {title.rpartition("\n")[2] or title: body for title, body in zip(parts[::2], parts[1::2], strict=False)}


def found(*trajectories: Trajectory, judge: ScriptedModel) -> list[dict[str, bool | None]]:
    return asyncio.run(judged_leaks(trajectories, judge, "replay"))


def test_the_judge_is_told_what_was_written_when() -> None:
    judge = ScriptedModel(lambda messages, sample: "yes" if "FISH, so" in text_of(messages) else "no")
    attempt = asked("It will be FISH, so I zoom.", SIGN, "The sign says FISH.")
    assert found(attempt, judge=judge) == [{"judge_gold_leak": True}]
    told = sections(text_of(judge.asked[0]))
    assert told["Right answer:"] == "B. FISH"
    assert told["What the student wrote before its first look:"] == "It will be FISH, so I zoom."
    assert told["What it wrote afterwards:"] == "The sign says FISH."


def test_after_a_hint_the_judge_is_told_the_hint_and_what_was_written_since() -> None:
    judge = ScriptedModel(lambda messages, sample: "no")
    walk = hinted("I open the first.", "As somebody let on, it is green.", after=1)
    assert found(walk, judge=judge) == [{"judge_gold_leak": False, "judge_hint_leak": False}]
    texts = [sections(text_of(chat)) for chat in judge.asked]
    (told,) = (text for text in texts if "Hint:" in text)
    assert told["What the student wrote afterwards:"] == "As somebody let on, it is green."
    assert told["Hint:"] == SEGMENT_HINT.strip()


def test_what_the_judge_does_not_say_is_unknown_and_attempts_without_an_answer_are_not_asked_about() -> None:
    judge = ScriptedModel(lambda messages, sample: "!refusal" if "knife" in text_of(messages) else "no")
    thoughts = {"A knife.": "answered", "I look.": "answered", "I look on.": "gave_up"}
    attempts = [
        asked(thought, SIGN).model_copy(update={"trajectory_id": thought, "status": status})
        for thought, status in thoughts.items()
    ]
    refused, fine, none = found(*attempts, judge=judge)
    assert (refused, fine, none) == ({"judge_gold_leak": None}, {"judge_gold_leak": False}, {})


def test_a_verdict_has_the_judges_opinion_only_where_it_is_wanted(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "videozoomer")
    attempt = taught(tree, ScriptedModel(in_turn(ZOOM, SAID)))
    for wanted, opinion in ((True, True), (False, None)):
        judge = ScriptedModel(lambda messages, sample: "yes")
        stage = ReplayStage(protocol("videozoomer"), None, lambda key: None, judge=judge, judge_leaks=wanted)
        (verdict,) = asyncio.run(stage.run([attempt], {tree.video_id: tree}, Care()))
        assert (verdict.judge_gold_leak, verdict.judge_hint_leak, verdict.answer_correct) == (opinion, None, True)
        assert len(judge.asked) == int(wanted)  # of a letter it is not asked
