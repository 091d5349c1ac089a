"""Replay of what not every protocol has: frames named by number, questions about the clock, several calls in a turn."""

from pathlib import Path

import pytest

from tests.corpus import render_video
from tests.stages.scripted import ScriptedModel, in_turn
from tests.stages.test_replay import Reader, altered, judged
from tests.stages.test_teach import ANSWER, crop, taught, tree_of


def test_a_time_and_the_frames_that_were_chosen_are_found_again(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "framethinker")
    texts = [
        "<think>At 0:04.</think><action>get frame number at time 0:04</action>",
        "<think>From frames 40 to 80.</think><action>choose frames between 40 and 80</action>",
        "<think>Closer, frames 40 to 60.</think><action>choose frames between 40 and 60</action>",
        "<think>It is green.</think><action>output answer: B</action>",
    ]
    trajectory = taught(tree, ScriptedModel(in_turn(*texts)), "framethinker")
    (sound,) = judged(tree, trajectory)
    assert sound.observations_match and sound.well_formed and sound.in_bounds, sound.mismatch
    assert (sound.n_turns, sound.n_zooms, sound.n_frames, sound.redundant_zooms) == (4, 2, 16, 0)
    assert sound.consistent is True and sound.zooms_mentioned == 1.0
    assert sound.grounding_recall == pytest.approx(1) and sound.grounding_precision == pytest.approx(0.5)
    (wrong,) = judged(tree, altered(trajectory, 0, lambda _: {"text": "41"}))
    assert wrong.mismatch == "0.0: frame 41 recorded, 40 is on screen"
    assert trajectory.video is not None
    render_video(tmp_path / "short.mp4", 5.0)
    short = trajectory.video.model_copy(update={"uri": str(tmp_path / "short.mp4")})
    (gone,) = judged(tree, trajectory.model_copy(update={"video": short}))
    assert gone.error is not None and gone.error.kind == "video_truncated"


def test_calls_beyond_the_cap_are_found_refused_again(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "longvt")
    three = f"<think>1 s to 2 s, 4 s to 6 s, 1 s to 2 s.</think>{crop(1, 2)}{crop(4, 6)}{crop(1, 2)}"
    trajectory = taught(tree, ScriptedModel(in_turn(three, three, ANSWER)), "longvt")
    (verdict,) = judged(tree, trajectory)
    assert verdict.observations_match and verdict.in_bounds is False and verdict.well_formed is False, verdict.mismatch
    assert (verdict.n_zooms, verdict.redundant_zooms, verdict.consistent) == (5, 3, True)
    within = taught(tree, ScriptedModel(in_turn(three, ANSWER)), "longvt")
    (sound,) = judged(tree, within, scorer=Reader())
    assert sound.in_bounds and sound.well_formed and sound.zooms_mentioned == 1.0
    assert sound.p_gold_steps is not None and len(sound.p_gold_steps) == 4
