"""The teach stage: turns, zooms, invalid turns, hints and failures of one attempt."""

import asyncio
from pathlib import Path

import pytest

from pipeline.stages.caption import CaptionStage, VideoJob
from pipeline.stages.items import Care
from pipeline.stages.teach import TeachStage
from pipeline.stages.teaching import Teaching
from prompts.protocols import protocol
from schemas.captions import CaptionTree
from schemas.config import AS_PUBLISHED, Captions, Rollout, View
from schemas.question import Question
from schemas.trajectory import Trajectory
from tests.corpus import read_barcode
from tests.stages.scripted import ScriptedModel, clip, in_turn, planned, question, text_of

ZOOM = '<think>I look from 4 s to 6 s.</think><video_zoom> {"segment": [4, 6], "fps": 2} </video_zoom>'
OUTSIDE = '<think>Later.</think><video_zoom> {"segment": [40, 60], "fps": 1} </video_zoom>'
ANSWER = "<think>It is green.</think><answer>B</answer>"


def tree_of(folder: Path, name: str, view: View = AS_PUBLISHED) -> CaptionTree:
    captioner = ScriptedModel(lambda messages, sample: "<caption>A sign.</caption>")
    stage = CaptionStage(protocol(name), captioner, Captions(), None, "", view)
    (tree,) = asyncio.run(stage.run([VideoJob("clip.mp4", clip(folder))], Care()))
    return tree


def taught(
    tree: CaptionTree,
    teacher: ScriptedModel,
    name: str = "videozoomer",
    rollout: Rollout | None = None,
    asked: Question | None = None,
    answerer: ScriptedModel | None = None,
    view: View = AS_PUBLISHED,
) -> Trajectory:
    teaching = Teaching(protocol(name), teacher, answerer, rollout or Rollout(), view)
    (trajectory,) = asyncio.run(TeachStage(teaching, 4).run([planned(asked or question())], {"clip.mp4": tree}, Care()))
    return trajectory


@pytest.fixture(scope="module")
def frames_tree(tmp_path_factory: pytest.TempPathFactory) -> CaptionTree:
    return tree_of(tmp_path_factory.mktemp("frames"), "videozoomer")


@pytest.fixture(scope="module")
def caption_tree(tmp_path_factory: pytest.TempPathFactory) -> CaptionTree:
    return tree_of(tmp_path_factory.mktemp("captions"), "longvideo_r1")


def test_a_zoom_shows_the_frames_it_asks_for_and_the_next_turn_sees_them(frames_tree: CaptionTree) -> None:
    teacher = ScriptedModel(in_turn(ZOOM, ANSWER))
    trajectory = taught(frames_tree, teacher)
    assert trajectory.status == "answered" and trajectory.final_answer == "B"
    (observation,) = trajectory.turns[0].observations
    assert [frame.time_s for frame in observation.frames] == pytest.approx([4, 4.67, 5.33, 6], abs=0.1)
    action = trajectory.turns[0].actions[0]
    assert (action.start_s, action.end_s, action.call_id) == (4.0, 6.0, "0.0")
    assert action.start_frame is not None and abs(action.start_frame - 40) <= 1
    pictures = [part for part in teacher.asked[1][-1].parts if isinstance(part, bytes)]
    assert [read_barcode(p) for p in pictures] == [frame.index for frame in observation.frames]
    assert all(turn.trainable and not turn.error for turn in trajectory.turns)
    assert trajectory.usage.calls == 2


def test_an_invalid_turn_is_recorded_told_to_the_model_and_not_trained_on(frames_tree: CaptionTree) -> None:
    teacher = ScriptedModel(in_turn(OUTSIDE, "gibberish", ANSWER))
    trajectory = taught(frames_tree, teacher)
    assert trajectory.status == "answered"
    assert [(turn.error != "", turn.trainable) for turn in trajectory.turns] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    assert trajectory.turns[0].error == "outside_video" and "outside the video" in text_of(teacher.asked[1])
    assert trajectory.turns[1].raw == "gibberish"


def test_too_many_invalid_turns_end_as_malformed_and_too_many_turns_as_gave_up(frames_tree: CaptionTree) -> None:
    malformed = taught(frames_tree, ScriptedModel(lambda m, s: "gibberish"), rollout=Rollout(max_invalid=1))
    assert malformed.status == "malformed" and len(malformed.turns) == 2
    gave_up = taught(frames_tree, ScriptedModel(lambda m, s: ZOOM), rollout=Rollout(max_turns=3))
    assert gave_up.status == "gave_up" and len(gave_up.turns) == 3 and gave_up.final_answer is None


def test_a_reply_cut_off_by_the_token_limit_is_no_answer(frames_tree: CaptionTree) -> None:
    trajectory = taught(frames_tree, ScriptedModel(lambda m, s: ANSWER, finish_reason="length"))
    assert trajectory.status == "malformed" and {turn.error for turn in trajectory.turns} == {"cut_off"}


def test_a_withheld_reply_fails_the_attempt_and_keeps_its_turns(frames_tree: CaptionTree) -> None:
    trajectory = taught(frames_tree, ScriptedModel(in_turn(ZOOM, "!content_filter")))
    assert trajectory.status == "failed" and len(trajectory.turns) == 1
    assert trajectory.error is not None and (trajectory.error.stage, trajectory.error.kind) == (
        "teach",
        "content_filter",
    )


def test_a_video_that_was_not_captioned_gives_a_failed_attempt_without_a_call(frames_tree: CaptionTree) -> None:
    teacher = ScriptedModel(in_turn())
    asked = question(video_id="other.mp4")
    teaching = Teaching(protocol("videozoomer"), teacher, None, Rollout())
    (trajectory,) = asyncio.run(TeachStage(teaching, 4).run([planned(asked)], {"clip.mp4": frames_tree}, Care()))
    assert trajectory.status == "failed" and teacher.counts.sent == 0


def test_captions_are_walked_and_a_leaf_is_asked(caption_tree: CaptionTree) -> None:
    teacher = ScriptedModel(
        in_turn(
            "<think>Second.</think><tool>get_caption((2,3))</tool>",
            '<think>Leaf.</think><tool>video_qa((2,3,1), "Which colour?")</tool>',
            ANSWER,
        )
    )
    answerer = ScriptedModel(lambda m, s: "<reasoning>seen</reasoning><answer>green</answer>")
    trajectory = taught(caption_tree, teacher, "longvideo_r1", answerer=answerer)
    caption, answer = (turn.observations[0] for turn in trajectory.turns[:2])
    assert (caption.kind, caption.text) == ("caption", "A sign.")
    assert (answer.kind, answer.text) == ("qa", "green") and answer.frames and answer.call_key
    assert "<information>green</information>" in text_of(teacher.asked[2])
    assert sum(isinstance(part, bytes) for part in answerer.asked[0][-1].parts) == len(answer.frames)


def test_an_answer_about_a_clip_that_was_cut_off_is_not_shown_as_one(caption_tree: CaptionTree) -> None:
    teacher = ScriptedModel(in_turn('<think>Leaf.</think><tool>video_qa((2,3,1), "Which?")</tool>', ANSWER))
    answerer = ScriptedModel(lambda m, s: "<reasoning>seen</reasoning><answer>green, or rather", finish_reason="length")
    (told,) = taught(caption_tree, teacher, "longvideo_r1", answerer=answerer).turns[0].observations
    assert told.kind == "error" and "cut off" in told.text and told.call_key
    assert "or rather" not in text_of(teacher.asked[1])


def test_a_view_narrows_zooms_and_clips_that_are_asked_about(
    frames_tree: CaptionTree, caption_tree: CaptionTree
) -> None:
    view = View(zoom_frames=2, zoom_side=96)
    teacher = ScriptedModel(in_turn(ZOOM, ANSWER))
    (zoomed,) = taught(frames_tree, teacher, view=view).turns[0].observations
    assert [frame.time_s for frame in zoomed.frames] == pytest.approx([4, 6], abs=0.1)
    assert {max(frame.width, frame.height) for frame in zoomed.frames} == {96}
    assert len([part for part in teacher.asked[1][-1].parts if isinstance(part, bytes)]) == 2
    asks = ScriptedModel(in_turn('<think>Leaf.</think><tool>video_qa((2,3,1), "Which?")</tool>', ANSWER))
    answerer = ScriptedModel(lambda m, s: "<answer>green</answer>")
    (answer,) = taught(caption_tree, asks, "longvideo_r1", answerer=answerer, view=view).turns[0].observations
    assert len(answer.frames) == 2 and {max(frame.width, frame.height) for frame in answer.frames} == {96}


def test_the_ladder_of_hints_is_climbed_recorded_and_leaves_no_trace_in_the_turns(caption_tree: CaptionTree) -> None:
    wrong = "<think>Perhaps red.</think><answer>A</answer>"
    teacher = ScriptedModel(in_turn(wrong, wrong, "<think>Look.</think><tool>get_caption((2,2))</tool>", ANSWER))
    trajectory = taught(caption_tree, teacher, "longvideo_r1", Rollout(hints="after_wrong_answer"))
    assert trajectory.status == "answered" and trajectory.final_answer == "B"
    assert [(hint.level, hint.wrong_answer, hint.after_turn) for hint in trajectory.hints] == [(0, "A", 0), (1, "A", 0)]
    assert trajectory.interval_shown and not trajectory.answer_shown
    assert trajectory.hints[1].text in text_of(teacher.asked[2]) and trajectory.hints[0].text not in text_of(
        teacher.asked[2]
    )
    rendered = "".join(m.text for m in protocol("longvideo_r1").messages(trajectory.dialogue()))
    assert "hint" not in rendered.lower() and "Perhaps red" not in rendered
    assert trajectory.usage.calls == 4


def test_a_wrong_answer_stands_when_the_ladder_ends_or_hints_are_off(caption_tree: CaptionTree) -> None:
    wrong = "<think>Red.</think><answer>A</answer>"
    hinted = taught(
        caption_tree, ScriptedModel(lambda m, s: wrong), "longvideo_r1", Rollout(hints="after_wrong_answer")
    )
    plain = taught(caption_tree, ScriptedModel(lambda m, s: wrong), "longvideo_r1")
    assert (hinted.status, hinted.final_answer, len(hinted.hints)) == ("answered", "A", 4)
    assert (plain.status, plain.final_answer, len(plain.hints)) == ("answered", "A", 0)


def test_attempts_are_told_apart_by_their_sample(frames_tree: CaptionTree) -> None:
    samples: list[int] = []

    def say(messages: object, sample: int) -> str:
        samples.append(sample)
        return ANSWER

    teaching = Teaching(protocol("videozoomer"), ScriptedModel(say), None, Rollout())
    items = [planned(question(), attempt) for attempt in range(3)]
    rows = asyncio.run(TeachStage(teaching, 2).run(items, {"clip.mp4": frames_tree}, Care()))
    assert [row.trajectory_id for row in rows] == ["q-1@0", "q-1@1", "q-1@2"] and sorted(samples) == [0, 1, 2]


def test_a_time_is_answered_from_the_timeline_and_frames_asked_for_get_their_seconds(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "framethinker")
    teacher = ScriptedModel(
        in_turn(
            "<think>At 0:04.</think><action>get frame number at time 0:04</action>",
            "<think>From 40 to 999.</think><action>choose frames between 40 and 999</action>",
            "<think>Later.</think><action>get frame number at time 9:00</action>",
            "<think>It is green.</think><action>output answer: B</action>",
        )
    )
    trajectory = taught(tree, teacher, "framethinker")
    asked, chosen, late, _ = trajectory.turns
    assert [(o.kind, o.text) for o in asked.observations] == [("time", "40")]
    assert "Frame number at time 00:04 is: 40." in text_of(teacher.asked[1])
    (action,), (observation,) = chosen.actions, chosen.observations
    assert (action.start_frame, action.end_frame) == (40, 999)
    assert (action.start_s, action.end_s) == pytest.approx((4.0, 12.0), abs=0.1)
    assert [f.index for f in observation.frames] == [41, 52, 63, 74, 85, 96, 107, 119]
    assert (observation.start_s, observation.end_s) == (action.start_s, action.end_s)
    assert late.error == "outside_video" and "The video ends at 00:1" in text_of(teacher.asked[3])
    assert trajectory.status == "answered" and trajectory.tools == ()


def crop(start: float, end: float, path: str = "clip.mp4") -> str:
    call = (
        f'{{"name": "crop_video", "arguments": {{"video_path": "{path}", "start_time": {start}, "end_time": {end}}}}}'
    )
    return f"<tool_call>{call}</tool_call>"


def test_several_calls_in_a_turn_are_carried_out_in_their_order_up_to_the_cap(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "longvt")
    both = f"<think>a</think>{crop(1, 3)}\n{crop(8, 10)}"
    mixed = f"<think>b</think>{crop(1, 3, '/etc/passwd')}{crop(4, 6)}"
    teacher = ScriptedModel(in_turn(both, mixed, both, ANSWER))
    trajectory = taught(tree, teacher, "longvt")
    assert trajectory.status == "answered" and trajectory.final_answer == "B" and len(trajectory.tools) == 1
    first, second, third, _ = trajectory.turns
    assert [a.call_id for a in first.actions] == [o.call_id for o in first.observations] == ["0.0", "0.1"]
    spans = [[f.time_s for f in o.frames] for o in first.observations]
    assert spans == [pytest.approx([1, 3], abs=0.1), pytest.approx([8, 10], abs=0.1)]
    assert next(part for part in teacher.asked[1][-1].parts if isinstance(part, str)) == "<tool_response>\n"
    assert second.error == "unknown_video" and [o.kind for o in second.observations] == ["error", "frames"]
    assert third.error == "too_many_calls" and [o.kind for o in third.observations] == ["frames", "error"]
    assert [turn.trainable for turn in trajectory.turns] == [True, False, False, True]
