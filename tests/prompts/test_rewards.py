"""The published rewards, computed by hand. The video has 64 s; a tree of width 4 has segments of 16, 4 and 1 s."""

import pytest

from prompts import longvideo_r1, videozoomer
from schemas.question import Question
from schemas.trajectory import Observation, Turn
from tests.prompts.examples import answer, caption, question, seen, told, trajectory, turn, video_qa, zoom

CLUED = question(clues=[(16.0, 18.0), (21.0, 22.0)])
"""Merged over the gap of 3 s: one clue of 6 s, [16, 22]."""


def fetched(*segment: int) -> Turn:
    return turn("x", caption(*segment), told("caption", "words", (0.0, 1.0)))


ANSWERED = turn("x", answer("B"))


def longvideo(turns: list[Turn], final: str | None, asked: Question = CLUED, as_published: bool = False) -> float:
    return longvideo_r1.reward(trajectory(turns, final, asked), as_published=as_published)


def test_without_a_visit_only_the_answer_counts() -> None:
    assert longvideo([ANSWERED], "B") == 1.0
    assert longvideo([ANSWERED], "C") == 0.0
    assert longvideo([], None) == 0.0


def test_a_visit_earns_its_f1_on_top() -> None:
    # (2,1) = [16, 20]: 4 s of the clue; cov = 4/6, prec = 4/4, F1 = 2 * (2/3) / (5/3) = 0.8
    assert longvideo([fetched(2, 1), ANSWERED], "B") == pytest.approx(1.8)
    assert longvideo([fetched(2, 1), ANSWERED], "C") == pytest.approx(0.8)
    # and (2,2) = [20, 24] adds 2 s of the clue: cov = 1, prec = 6/8, F1 = 1.5 / 1.75
    assert longvideo([fetched(2, 1), fetched(2, 2), ANSWERED], "B") == pytest.approx(1 + 6 / 7)


def test_a_second_visit_costs_and_gains_only_as_published() -> None:
    twice = [fetched(2, 1), fetched(2, 1), ANSWERED]
    # repeat = (2 - 1) / 1
    assert longvideo(twice, "B") == pytest.approx(1.8 - 0.2)
    # upstream: shared = 8 s; cov = 8/6, prec = 8/4, F1 = 2 * (4/3) * 2 / (10/3) = 1.6
    assert longvideo(twice, "B", as_published=True) == pytest.approx(1 + 1.6 - 0.2)


def test_a_leaf_inside_a_visited_segment_is_no_repeat_and_no_new_second() -> None:
    inside = [fetched(2, 1), fetched(2, 1, 1), ANSWERED]
    assert longvideo(inside, "B") == pytest.approx(1.8)
    # upstream: shared = 4 + 1; cov = 5/6, prec = 5/4, F1 = 2 * (5/6) * (5/4) / (25/12) = 1.0
    assert longvideo(inside, "B", as_published=True) == pytest.approx(2.0)


def test_a_visit_beside_the_clue_earns_nothing() -> None:
    assert longvideo([fetched(4, 4), ANSWERED], "B") == 1.0


def test_without_clues_only_the_answer_counts() -> None:
    assert longvideo([fetched(2, 1), fetched(2, 1), ANSWERED], "B", question()) == 1.0


def test_a_clue_of_no_length_earns_nothing_and_does_not_fail() -> None:
    assert longvideo([fetched(2, 1), ANSWERED], "B", question(clues=[(17.0, 17.0)])) == 1.0


def test_refused_captions_and_clip_questions_are_no_visits() -> None:
    refused = turn("x", caption(2, 9), told("error", "no such segment"), error="no_such_segment")
    asked = turn("x", video_qa(2, 1, 1), told("qa", "blue", (16.0, 17.0)))
    assert longvideo([refused, asked, ANSWERED], "B") == 1.0


def test_only_the_bare_letter_is_correct_as_published() -> None:
    assert longvideo([ANSWERED], "B. a blue car") == 1.0
    assert longvideo([ANSWERED], "B. a blue car", as_published=True) == 0.0


def test_an_attempt_that_never_began_earns_nothing() -> None:
    failed = trajectory([], None, CLUED, overview=None).model_copy(update={"video": None})
    assert longvideo_r1.reward(failed) == 0.0
    assert videozoomer.reward(failed) == 0.0


def zoomed(start: float = 4.0, end: float = 8.0, observation: Observation | None = None, error: str = "") -> Turn:
    return turn("x", zoom(start, end), observation or seen([4.0]), error=error)


def videozoomer_reward(turns: list[Turn], final: str | None, tool_bonus: float = 0.5) -> float:
    return videozoomer.reward(trajectory(turns, final), tool_bonus=tool_bonus)


def test_a_correct_answer_in_form_earns_0_9_and_0_1_and_a_zoom_half_a_point() -> None:
    assert videozoomer_reward([ANSWERED], "B") == pytest.approx(1.0)
    assert videozoomer_reward([zoomed(), ANSWERED], "B") == pytest.approx(1.5)
    assert videozoomer_reward([zoomed(), zoomed(), ANSWERED], "B") == pytest.approx(1.5)
    assert videozoomer_reward([zoomed(), ANSWERED], "B", tool_bonus=0.0) == pytest.approx(1.0)


def test_a_wrong_answer_keeps_only_the_form() -> None:
    assert videozoomer_reward([zoomed(), ANSWERED], "C") == pytest.approx(0.1)


def test_no_answer_earns_nothing() -> None:
    assert videozoomer_reward([zoomed(), zoomed()], None) == 0.0
    assert videozoomer_reward([], None) == 0.0


def test_a_turn_out_of_form_or_a_zoom_beyond_16_frames_loses_the_form() -> None:
    unreadable = turn(raw="B?", error="no_think", observation=told("error", "Reason first."))
    assert videozoomer_reward([unreadable, zoomed(), ANSWERED], "B") == pytest.approx(1.4)
    too_long = zoomed(0.0, 10.0, told("error", "too many"), "too_many_frames")
    assert videozoomer_reward([too_long, ANSWERED], "B") == pytest.approx(0.9)
