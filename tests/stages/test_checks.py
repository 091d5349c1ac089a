"""The checks without a model: bounds, grounding, economy."""

import pytest

from pipeline.stages.checks import grounding, in_bounds, redundant, settings, spans, well_formed, zooms
from prompts.protocol import Setting
from prompts.protocols import protocol
from schemas.captions import Usage
from schemas.timeline import Segments
from schemas.trajectory import Action, Observation, Overview, Trajectory, Turn
from schemas.video import Video
from tests.stages.scripted import planned, question

VIDEO = Video(
    video_id="clip.mp4", uri="clip.mp4", content_hash="0", duration_s=64.0, fps=10.0, n_frames=640,
    width=320, height=240, codec="h264", pixel_format="yuv420p", container="mov", rotation=0,
)  # fmt: skip


def turn(think: str, action: Action, error: str = "", kind: str = "frames") -> Turn:
    observed = () if action.kind == "answer" else (Observation(call_id=action.call_id, kind=kind, text=""),)  # type: ignore[arg-type]
    return Turn(
        think=think, actions=(action,), observations=observed, raw="", reasoning="", author="t", trainable=True,
        error=error, finish_reason="stop", call_key="", usage=Usage(),
    )  # fmt: skip


def zoom(start: float, end: float, number: int = 0, fps: float = 1.0) -> Action:
    return Action(call_id=f"{number}.0", kind="zoom", start_s=start, end_s=end, fps=fps)


ANSWER = turn("", Action(call_id="9.0", kind="answer", answer="B"))


def trajectory(*turns: Turn, status: str = "answered", name: str = "videozoomer") -> Trajectory:
    return Trajectory(
        trajectory_id="q-1@0", question_id="q-1", video_id="clip.mp4", attempt=0, protocol=name, protocol_version="1",
        status=status, question=planned(question()).question, video=VIDEO, overview=Overview(), turns=turns,
        max_turns=5, final_answer="B", teacher="t", hints=(), answer_shown=False, interval_shown=False,
        usage=Usage(), error=None,
    )  # type: ignore[arg-type]  # fmt: skip


def test_a_refused_zoom_counts_neither_as_zoom_nor_as_in_bounds() -> None:
    refused = trajectory(turn("", zoom(70, 75), error="outside_video", kind="error"), turn("", zoom(1, 5, 1)), ANSWER)
    setting = Setting(VIDEO, None)
    assert [a.call_id for a in zooms(refused)] == ["1.0"] and spans(zooms(refused)) == [(1, 5)]
    assert not in_bounds(refused, protocol("videozoomer"), setting) and not well_formed(refused)
    fine = trajectory(turn("", zoom(1, 5)), ANSWER)
    assert in_bounds(fine, protocol("videozoomer"), setting) and well_formed(fine)
    assert not well_formed(trajectory(turn("", zoom(1, 5)), status="gave_up"))


def test_each_action_is_checked_with_the_calls_and_the_looks_before_it() -> None:
    refused, seen = zoom(70, 75), zoom(1, 5).model_copy(update={"call_id": "0.1"})
    observed = (
        Observation(call_id="0.0", kind="error", text=""),
        Observation(call_id="0.1", kind="frames", text=""),
    )
    both = turn("", refused).model_copy(update={"actions": (refused, seen), "observations": observed})
    asked = Action(call_id="1.0", kind="time", start_s=3.0)
    row = trajectory(both, turn("", asked, kind="time"), turn("", zoom(8, 9, 2)), ANSWER)
    found = settings(row, Setting(VIDEO, None))
    assert {call: (of.calls_before, of.earlier) for call, of in found.items()} == {
        "0.0": (0, ()),
        "0.1": (1, ()),
        "1.0": (2, ((1, 5),)),
        "2.0": (3, ((1, 5),)),
        "9.0": (4, ((1, 5), (8, 9))),
    }


def test_a_segment_that_the_tree_does_not_have_is_out_of_bounds() -> None:
    walk = trajectory(turn("", caption((2, 3), 20, 24), kind="caption"), ANSWER, name="longvideo_r1")
    assert in_bounds(walk, protocol("longvideo_r1"), Setting(VIDEO, Segments(64.0, 4)))
    assert not in_bounds(walk, protocol("longvideo_r1"), Setting(VIDEO, Segments(64.0, 2)))


@pytest.mark.parametrize(
    ("zoomed", "clues", "iou", "recall", "precision"),
    [
        ([(0, 10)], [(5, 15)], 5 / 15, 0.5, 0.5),
        ([(0, 10), (0, 10)], [(0, 10)], 1, 1, 1),
        ([(0, 4), (2, 8)], [(6, 10)], 2 / 10, 0.5, 0.25),
        ([(0, 2)], [(5, 6), (8, 9)], 0, 0, 0),
        ([], [(5, 6)], 0, 0, 0),
        ([(0, 20)], [(5, 6), (5.5, 7)], 0.1, 1, 0.1),
    ],
)
def test_grounding_counts_each_second_once(
    zoomed: list[tuple[float, float]], clues: list[tuple[float, float]], iou: float, recall: float, precision: float
) -> None:
    found = grounding(zoomed, clues)
    assert found is not None
    assert (found.iou, found.recall, found.precision) == pytest.approx((iou, recall, precision))


def test_grounding_is_unknown_without_clues_and_a_clue_of_no_length_can_be_met() -> None:
    assert grounding([(0, 1)], []) is None
    point = grounding([(0, 10)], [(5, 5)])
    assert point is not None and point.recall == pytest.approx(1)


def test_a_zoom_that_shows_nothing_new_is_redundant() -> None:
    assert redundant([]) == 0 and redundant([zoom(0, 5)]) == 0
    assert redundant([zoom(0, 5), zoom(1, 3), zoom(4, 8), zoom(2, 6)]) == 2
    assert redundant([zoom(0, 5, fps=2), zoom(1, 3, fps=1)]) == 1
    assert redundant([zoom(0, 5, fps=1), zoom(1, 3, fps=4)]) == 0  # closer: more frames a second


def test_a_walk_down_the_tree_is_not_redundant_and_going_round_in_it_is() -> None:
    down = [caption((2,), 0, 16), caption((2, 3), 8, 12), caption((2, 3, 1), 8, 9), ask("What?"), ask("Which colour?")]
    assert redundant(down) == 0
    assert redundant([*down, caption((2, 3), 8, 12)]) == 1
    assert redundant([*down, ask("What?")]) == 1


def caption(path: tuple[int, ...], start: float, end: float) -> Action:
    return Action(call_id="0.0", kind="caption", segment=path, start_s=start, end_s=end)


def ask(query: str) -> Action:
    return Action(call_id="0.0", kind="video_qa", segment=(2, 3, 1), start_s=8.0, end_s=9.0, query=query)
