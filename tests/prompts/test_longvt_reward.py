"""LongVT's reward, computed by hand: one clue of 10 s, [10, 20]."""

import pytest

from prompts.longvt import reward
from schemas.question import Question
from schemas.trajectory import Turn
from tests.prompts.examples import answer, question, seen, told, turn
from tests.prompts.examples import trajectory as attempt
from tests.prompts.test_longvt import OVERVIEW, crop, several

CLUED = question(clues=[(10.0, 20.0)])
ANSWERED = turn("x", answer("B"))


def cropped(start: float, end: float, call: str = "0.0") -> Turn:
    return turn("x", crop(start, end, call=call), seen([start], call))


def rewarded(turns: list[Turn], final: str | None = "B", about: Question = CLUED) -> float:
    return reward(attempt(turns, final, about, OVERVIEW))


def test_without_a_crop_answer_and_form_earn_a_point_each() -> None:
    assert rewarded([ANSWERED]) == 2.0
    assert rewarded([ANSWERED], "C") == 1.0
    assert rewarded([], None) == 0.0


def test_the_last_crop_earns_its_iou() -> None:
    # [10, 20] and [15, 25]: 5 s shared of 15 s
    assert rewarded([cropped(15, 25), ANSWERED]) == pytest.approx(2 + 1 / 3)
    assert rewarded([cropped(10, 20), cropped(15, 25, "1.0"), ANSWERED]) == pytest.approx(2 + 1 / 3)
    assert rewarded([cropped(15, 25), cropped(10, 20, "1.0"), ANSWERED]) == pytest.approx(3.0)
    assert rewarded([cropped(10, 20), cropped(10, 20, "1.0"), ANSWERED]) == pytest.approx(3.0)
    assert rewarded([cropped(30, 40), ANSWERED], "C") == 1.0
    both = several("x", [crop(10, 20), crop(15, 25, call="0.1")], [seen([10.0]), seen([15.0], "0.1")])
    assert rewarded([both, ANSWERED]) == pytest.approx(2 + 1 / 3)


def test_without_clues_or_with_a_refused_crop_time_earns_nothing() -> None:
    assert rewarded([cropped(10, 20), ANSWERED], about=question()) == 2.0
    refused = turn("x", crop(10, 20, "other"), told("error", "not found"), error="unknown_video")
    assert rewarded([refused, ANSWERED]) == 2.0
    assert rewarded([cropped(10, 20), ANSWERED], about=question(clues=[(15.0, 15.0)])) == 2.0


def test_by_recall_a_wider_window_loses_nothing() -> None:
    wide = attempt([cropped(0, 60), ANSWERED], "B", CLUED, OVERVIEW)
    assert reward(wide) == pytest.approx(2 + 10 / 60)
    assert reward(wide, by_recall=True) == pytest.approx(3.0)
    point = attempt([cropped(0, 60), ANSWERED], "B", question(clues=[(15.0, 15.0)]), OVERVIEW)
    assert reward(point, by_recall=True) == 2.0


def test_the_published_default_weighs_0_8_and_0_2() -> None:
    row = attempt([cropped(10, 20), ANSWERED], "B", CLUED, OVERVIEW)
    assert reward(row, accuracy=0.8, well_formed=0.2, time=0.0) == pytest.approx(1.0)
    assert reward(row, judged=0.5) == pytest.approx(2.5)


def test_an_empty_or_a_very_long_answer_earns_nothing() -> None:
    open_question = question(choices=(), answer="x" * 1000)
    assert rewarded([ANSWERED], "", open_question) == 1.0
    assert rewarded([turn("x", answer("x" * 1000))], "x" * 1000, open_question) == 0.0
    assert rewarded([turn("x", answer("x" * 999))], "x" * 999, open_question) == 1.0
    assert reward(attempt([ANSWERED], "", open_question, OVERVIEW), judged=1.0) == 1.0


def test_several_calls_in_a_turn_are_in_form_but_not_as_published() -> None:
    both = several("x", [crop(10, 20), crop(30, 40, call="0.1")], [seen([10.0]), seen([30.0], "0.1")])
    row = attempt([both, ANSWERED], "B", CLUED, OVERVIEW)
    assert (reward(row), reward(row, as_published=True)) == (2.0, 1.0)
    unreadable = turn(raw="B?", error="no_think", observation=told("error", "Reason first."))
    assert rewarded([unreadable, ANSWERED]) == 1.0
