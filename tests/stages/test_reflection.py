"""Reflection: a wrong rollout without its answer is handed to the teacher, which diagnoses, zooms again and answers."""

import asyncio

import pytest

from pipeline.shards.samples import corrections_only, rl_sample, sft_samples
from pipeline.stages.claims import claims
from pipeline.stages.items import Care
from pipeline.stages.leaks import hint_leak
from pipeline.stages.teach import TeachStage
from pipeline.stages.teaching import Teaching
from prompts.protocols import protocol
from schemas.captions import CaptionTree
from schemas.config import Rollout
from schemas.trajectory import Trajectory
from tests.stages.scripted import ScriptedModel, in_turn, planned, question, text_of
from tests.stages.test_teach import tree_of

EARLY = '<think>I look from 1 s to 2 s.</think><video_zoom> {"segment": [1, 2], "fps": 2} </video_zoom>'
WRONG = "<think>The red sign says HERON.</think><answer>A</answer>"
LATER = (
    "<think>The clip from 1 s to 2 s was too early, so I look from 4 s to 6 s.</think>"
    '<video_zoom> {"segment": [4, 6], "fps": 2} </video_zoom>'
)
RIGHT = "<think>Now it is green.</think><answer>B</answer>"
FACTS = {
    "verifier": None,
    "evidence_gain": None,
    "p_gold_evidence": None,
    "grounding_iou": None,
    "n_attempts": 1,
    "n_correct": 0,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> CaptionTree:
    return tree_of(tmp_path_factory.mktemp("frames"), "videozoomer")


def attempted(
    tree: CaptionTree, teacher: ScriptedModel, student: ScriptedModel | None = None, reflect: int = 2
) -> Trajectory:
    teaching = Teaching(protocol("videozoomer"), teacher, None, Rollout(reflect=reflect), student=student)
    rollouts = TeachStage(teaching, 4).run([planned(question())], {"clip.mp4": tree}, Care())
    (trajectory,) = asyncio.run(rollouts)
    return trajectory


@pytest.fixture(scope="module")
def corrected(tree: CaptionTree) -> Trajectory:
    return attempted(tree, ScriptedModel(in_turn(LATER, RIGHT)), ScriptedModel(in_turn(EARLY, WRONG)))


def test_the_teacher_corrects_a_students_wrong_rollout_and_every_turn_says_whose_it_is(tree: CaptionTree) -> None:
    student, teacher = ScriptedModel(in_turn(EARLY, WRONG)), ScriptedModel(in_turn(LATER, RIGHT))
    trajectory = attempted(tree, teacher, student)
    assert (trajectory.status, trajectory.final_answer) == ("answered", "B")
    assert [turn.origin for turn in trajectory.turns] == ["student", "reflection", "reflection"]
    assert [turn.trainable for turn in trajectory.turns] == [True, True, True]
    reflection = trajectory.reflection
    assert reflection is not None and (reflection.after_turn, reflection.wrong_answer) == (1, "A")
    assert reflection.wrong_raw == WRONG and trajectory.usage.calls == 4
    assert [action.call_id for turn in trajectory.turns for action in turn.actions] == ["0.0", "1.0", "2.0"]


def test_the_teacher_sees_the_wrong_rollout_in_one_message_without_its_answer_and_then_its_own_turns(
    tree: CaptionTree,
) -> None:
    teacher = ScriptedModel(in_turn(LATER, RIGHT))
    trajectory = attempted(tree, teacher, ScriptedModel(in_turn(EARLY, WRONG)))
    first, second = teacher.asked
    assert [message.role for message in first] == ["system", "user"]
    assert "I look from 1 s to 2 s." in text_of(first) and "HERON" not in text_of(first) and "2 turns" in text_of(first)
    pictures = [part for part in first[1].parts if isinstance(part, bytes)]
    shown = [*(trajectory.overview.frames if trajectory.overview else ()), *trajectory.turns[0].observations[0].frames]
    assert len(pictures) == len(shown)
    assert [message.role for message in second] == ["system", "user", "assistant", "user"]
    assert second[:2] == first and "was too early" in text_of(second[2:3])
    assert "Do not call <video_zoom> in this round" in text_of(second[3:])


def test_a_teacher_may_correct_itself_and_is_left_alone_where_it_was_right_or_never_looked(tree: CaptionTree) -> None:
    own = attempted(tree, ScriptedModel(in_turn(EARLY, WRONG, LATER, RIGHT)))
    assert [turn.origin for turn in own.turns] == ["teacher", "reflection", "reflection"]
    right = attempted(tree, ScriptedModel(in_turn(EARLY, RIGHT)))
    assert right.reflection is None and right.usage.calls == 2
    blind = attempted(tree, ScriptedModel(in_turn(WRONG)))
    assert blind.reflection is None and blind.final_answer == "A"
    off = attempted(tree, ScriptedModel(in_turn(EARLY, WRONG)), reflect=0)
    assert off.reflection is None and off.final_answer == "A"


def test_a_reflection_that_runs_out_of_turns_or_fails_keeps_what_was_paid_for(tree: CaptionTree) -> None:
    ran_out = attempted(tree, ScriptedModel(in_turn(EARLY, WRONG, LATER, LATER)))
    assert (ran_out.status, len(ran_out.turns), ran_out.final_answer) == ("gave_up", 3, None)
    failed = attempted(tree, ScriptedModel(in_turn(EARLY, WRONG, "!content_filter")))
    assert failed.status == "failed" and len(failed.turns) == 1 and failed.usage.calls == 2
    assert failed.reflection is not None and failed.reflection.wrong_answer == "A"


def test_the_row_is_one_conversation_and_the_mask_is_the_exporters_choice(corrected: Trajectory) -> None:
    (sample,) = sft_samples(corrected, FACTS, {"run_fingerprint": "f", "kept_by": ""})
    assert [m.role for m in sample.messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    said = [m for m in sample.messages if m.role == "assistant"]
    assert [(m.origin, m.train) for m in said] == [("student", True), ("reflection", True), ("reflection", True)]
    assert not any("attempt failed" in m.content for m in sample.messages)
    only = [m.train for m in corrections_only(sample).messages if m.role == "assistant"]
    assert only == [False, True, True]
    assert sum(m.content.count("<image>") for m in sample.messages) == len(sample.images)


def test_the_rl_prompt_of_a_corrected_question_is_that_of_any_other(tree: CaptionTree, corrected: Trajectory) -> None:
    origin = {"run_fingerprint": "f", "kept_by": ""}
    plain = attempted(tree, ScriptedModel(in_turn(EARLY, RIGHT)))
    assert rl_sample(corrected, FACTS, origin).prompt == rl_sample(plain, FACTS, origin).prompt


def test_what_the_wrong_rollout_claims_is_not_put_to_the_verifier(tree: CaptionTree) -> None:
    says_more = LATER.replace("<think>", "<think>The red sign says HERON. ")
    again = EARLY.replace("<think>", "<think>The blue sign says MOOSE. ")
    wrong_and_right = in_turn(EARLY, again, WRONG, says_more, RIGHT)
    trajectory = attempted(tree, ScriptedModel(wrong_and_right))
    assert [claim.statement for claim in claims(trajectory)] == ["The red sign says HERON.", "It is green."]


@pytest.mark.parametrize(
    ("thought", "leaks"),
    [
        ("My earlier answer was wrong, so I look again.", True),
        ("The clip from 1 s to 2 s was the wrong place.", False),
    ],
)
def test_a_reflection_that_says_an_answer_was_wrong_is_a_leak(tree: CaptionTree, thought: str, leaks: bool) -> None:
    again = LATER.replace("The clip from 1 s to 2 s was too early, so I look", f"{thought} I look")
    trajectory = attempted(tree, ScriptedModel(in_turn(EARLY, WRONG, again, RIGHT)))
    assert hint_leak(trajectory, "") is leaks
