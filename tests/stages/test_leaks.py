"""Leaks of hints and of the reference: caught in many wordings, and not seen where a teacher reasons honestly."""

import random

import pytest

from pipeline.demo.leaking import GOLD_PATTERNS, HINT_PATTERNS, leak
from pipeline.stages.leaks import gold_leak, hint_leak
from prompts.protocols import protocol
from schemas.question import Question
from schemas.timeline import Segments
from schemas.trajectory import Action, CaptionLine, Hint, Overview, Trajectory, Turn
from tests.stages.leak_texts import (
    BETRAYS_THE_GOLD,
    BETRAYS_THE_HINT,
    KEEPS_THE_GOLD,
    KEEPS_THE_HINT,
    SIGN,
    multiple_choice,
)
from tests.stages.scripted import question
from tests.stages.test_checks import ANSWER, trajectory, turn, zoom

SHOWN = "Which colour is the sign? High-level Caption 1 from 0.0 to 15.9: A man walks past a sign near a kitchen."
SEGMENT_HINT, GENERIC_HINT = (
    protocol("longvideo_r1").hint(question(), level, Segments(64.0, 4)) or "" for level in (2, 3)
)


def hinted(*thoughts: str, text: str = SEGMENT_HINT, after: int = 0) -> Trajectory:
    """A walk whose hint was shown after some turns, with these thoughts; the last one answers."""
    call = Action(call_id="0.0", kind="caption", segment=(1, 2, 1), start_s=4.0, end_s=5.0)
    turns = [turn(thought, call, kind="caption") for thought in thoughts[:-1]]
    walk = trajectory(*turns, turn(thoughts[-1], ANSWER.actions[0]), name="longvideo_r1")
    hint = Hint(level=2, text=text, after_turn=after, wrong_answer="A", wrong_raw="")
    return walk.model_copy(update={"hints": (hint,)})


@pytest.mark.parametrize("thought", BETRAYS_THE_HINT)
def test_a_text_that_betrays_a_hint_is_caught(thought: str) -> None:
    assert hint_leak(hinted(thought, "It is green.", text=SEGMENT_HINT + GENERIC_HINT), SHOWN) is True
    assert hint_leak(hinted("I read on.", f"It is green. {thought}", text=SEGMENT_HINT + GENERIC_HINT), SHOWN) is True


@pytest.mark.parametrize("thought", KEEPS_THE_HINT)
def test_honest_reasoning_after_a_hint_is_no_leak(thought: str) -> None:
    assert hint_leak(hinted(thought, "It is green.", text=SEGMENT_HINT + GENERIC_HINT), SHOWN) is False
    assert hint_leak(hinted("I read on.", f"{thought} It is green.", text=SEGMENT_HINT + GENERIC_HINT), SHOWN) is False


def test_without_a_hint_there_is_nothing_to_leak_and_before_it_neither() -> None:
    assert hint_leak(trajectory(turn("The hint says so.", zoom(1, 2)), ANSWER), SHOWN) is None
    assert hint_leak(hinted("The earlier answer was wrong.", "It is green.", after=1), SHOWN) is False


def test_words_that_were_shown_elsewhere_are_not_copied_from_the_hint() -> None:
    said = "The captions may be incomplete or wrong, it says."
    assert hint_leak(hinted(said, "It is green.", text=GENERIC_HINT), SHOWN) is True
    assert hint_leak(hinted(said, "It is green.", text=GENERIC_HINT), f"{SHOWN} {said}") is False


def test_a_segment_that_was_opened_may_be_said_to_show_the_answer() -> None:
    said = "The relevant event is shown in (1,2,1)."
    assert hint_leak(hinted(said, "It is green."), SHOWN) is True
    assert hint_leak(hinted("I read on.", said), SHOWN) is False


def test_a_hint_in_a_query_or_in_a_broken_turn_is_a_leak() -> None:
    asks = Action(call_id="0.0", kind="video_qa", segment=(1, 1, 1), query="Is this what the hint means?")
    walk = hinted("I ask.", "It is green.")
    queried = walk.model_copy(update={"turns": (turn("I ask.", asks), walk.turns[-1])})
    broken = turn("", zoom(1, 2)).model_copy(update={"actions": (), "raw": "The hint says (2,1)"})
    assert hint_leak(queried, SHOWN) is True
    assert hint_leak(walk.model_copy(update={"turns": (broken, walk.turns[-1])}), SHOWN) is True


def asked(thought: str, about: Question, final: str = "It is so.") -> Trajectory:
    zoomed: tuple[Turn, ...] = (turn(thought, zoom(1, 2)), turn(final, ANSWER.actions[0]))
    line = CaptionLine(path=(1,), start_s=0.0, end_s=15.9, caption="A man in a white coat passes a lamp.")
    return trajectory(*zoomed).model_copy(update={"question": about, "overview": Overview(captions=(line,))})


@pytest.mark.parametrize(("thought", "about"), BETRAYS_THE_GOLD)
def test_a_text_that_betrays_the_reference_is_caught(thought: str, about: Question) -> None:
    assert gold_leak(asked(thought, about)) is True


@pytest.mark.parametrize(("thought", "about"), KEEPS_THE_GOLD)
def test_honest_reasoning_before_a_look_is_no_leak(thought: str, about: Question) -> None:
    assert gold_leak(asked(thought, about)) is False


@pytest.mark.parametrize(
    "final",
    [
        "The red sign says FISH, so the answer is B.",
        "Therefore, the correct answer is B.",
        "Now I know the answer: FISH.",
        "This confirms option B. The answer is FISH.",
        "I am now confident that the correct answer is (B) FISH.",
        "The answer given by video_qa is FISH, which is choice B.",
        "Among the given options only B fits.",
        "I can justify the answer with the frame at 1.5 s.",
    ],
)
def test_after_a_look_the_answer_may_be_stated(final: str) -> None:
    assert gold_leak(asked("I look at the sign.", SIGN, final)) is False


def test_after_a_look_too_nobody_may_speak_of_the_reference() -> None:
    assert gold_leak(asked("I look at the sign.", SIGN, "It says FISH, which matches the reference answer.")) is True


def test_an_answer_without_a_look_is_no_leak_and_a_refused_look_is_none() -> None:
    direct = trajectory(turn("The answer is B.", ANSWER.actions[0])).model_copy(update={"question": SIGN})
    assert gold_leak(direct) is False
    refused = turn("I look.", zoom(70, 75), error="outside_video", kind="error")
    late = trajectory(refused, turn("The answer is B. I look.", zoom(1, 2, 1)), ANSWER)
    assert gold_leak(late.model_copy(update={"question": SIGN})) is True
    assert gold_leak(trajectory()) is None


def test_what_a_caption_already_says_may_be_repeated() -> None:
    coat = multiple_choice("Which coat does the man wear?", "a white coat", "a red coat", "a black coat")
    assert gold_leak(asked("The man wears a white coat. I make sure.", coat)) is False
    jar = multiple_choice("What does the man carry?", "a jar", "a book", "a lamp")
    assert gold_leak(asked("The man carries a jar. I make sure.", jar)) is True


def test_a_wrong_answer_put_as_a_fact_betrays_no_reference() -> None:
    assert gold_leak(asked("The answer is C. I zoom to confirm it.", SIGN)) is False


def test_odd_texts_are_judged_in_time_that_grows_with_their_length() -> None:
    for text in (
        "the " * 8_000,
        "I was told " * 3_000,
        "previous answer " * 3_000,
        "(1,2" * 5_000,
        "what is asked " * 3_000,
    ):
        assert gold_leak(asked(text, SIGN)) is False
        assert hint_leak(hinted(text, "It is green."), SHOWN) is False


# x
def test_planted_leaks_are_caught_in_whatever_way_their_clauses_are_mixed() -> None:
    dice = random.Random(0)
    places = ("(2)", "(2,1)", "(1), (2)", "(2,1,2), (2,1,3)", "this video")  # as hints name them
    hints = [leak(dice, HINT_PATTERNS, where=dice.choice(places)) for _ in range(300)]
    golds = [leak(dice, GOLD_PATTERNS, answer="B", text=SIGN.answer_text) for _ in range(300)]
    assert len(set(hints)) > 150 and len(set(golds)) > 150
    missed = [text for text in hints if not hint_leak(hinted(text, "It is green."), SHOWN)]
    assert missed == []
    assert [text for text in golds if not gold_leak(asked(text, SIGN))] == []


@pytest.mark.parametrize(
    "thought",
    [
        "I\u2019ve been **told** to look at (2,1,2).",
        "I've been\u00a0told  to look at (2,1,2).",
    ],
)
def test_a_leak_is_caught_in_any_typography(thought: str) -> None:
    assert hint_leak(hinted(thought, "It is green."), SHOWN) is True


def test_choices_that_share_words_are_told_apart() -> None:
    signs = multiple_choice("What do the signs say?", "BEAR and MAIN", "BEAR and RAIL", "PEAR and MAIN")
    assert gold_leak(asked("The annotation has BEAR and MAIN.", signs)) is True
    assert gold_leak(asked("The annotation on the map has BEAR and RAIL.", signs)) is False
