"""Questions understood from their words, and answers found for what was read."""

from random import Random

import pytest

from pipeline.demo import wording
from pipeline.demo.asked import asked

SIGN = "What does the red sign say?\nA. DISH\nB. FISH\nC. WISH\nD. FIST"
PAIR = """What do the red sign and the blue sign say?
A. FISH and MOON
B. FISH and NOON
C. DISH and MOON
D. DISH and NOON"""


def test_a_question_is_split_from_its_choices() -> None:
    question = asked("Which?\nA. first\nB. the B. one\n")
    assert (question.text, question.choices, question.targets) == ("Which?", ("first", "the B. one"), ())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (SIGN, ["the red sign"]),
        (PAIR, ["the red sign", "the blue sign"]),
        (wording.FLASH_QUERY, ["the lamp"]),
        (wording.FLOOR_QUERY, ["the floor"]),
        *((fact, []) for fact, _, _ in wording.FACTS),
    ],
)
def test_a_question_tells_what_to_look_for(text: str, names: list[str]) -> None:
    assert [target.name for target in asked(text).targets] == names


@pytest.mark.parametrize(
    ("said", "reading"),
    [
        ("FISH", "FISH"),
        ("FISH.", "FISH"),
        ("nothing", None),
        ("unreadable", None),
        ("", None),
        ("I see no sign", None),
        ("</think>", None),
    ],
)
def test_an_answer_about_a_sign_is_a_word_or_nothing(said: str, reading: str | None) -> None:
    assert asked(SIGN).targets[0].reading(said) == reading


def test_a_lamp_flashes_a_number_of_times_and_a_floor_has_a_colour() -> None:
    (lamp,), (floor,) = asked(wording.FLASH_QUERY).targets, asked(wording.FLOOR_QUERY).targets
    assert (lamp.reading("three"), lamp.reading("FISH"), lamp.reading("unknown")) == ("three", None, None)
    assert (floor.reading("red"), floor.reading("three")) == ("red", None)


@pytest.mark.parametrize(
    ("text", "readings", "letter"),
    [
        (SIGN, ["FISH"], "B"),
        (SIGN, ["WASH"], "C"),
        (PAIR, ["DISH", "NOON"], "D"),
        (SIGN.replace("FISH", "Fish"), ["FISH"], "B"),
    ],
)
def test_the_nearest_choice_is_the_answer(text: str, readings: list[str], letter: str) -> None:
    assert asked(text).answer(readings, Random(0)) == letter


def test_a_reading_fits_where_a_choice_holds_it() -> None:
    assert (
        asked(PAIR).fits("NOON") and not asked(PAIR).fits("SOON") and asked("What does the red sign say?").fits("SOON")
    )


def test_what_was_not_read_is_guessed_among_what_is_left() -> None:
    guesses = {asked(SIGN).answer([None], Random(n)) for n in range(50)}
    half = {asked(PAIR).answer(["DISH", None], Random(n)) for n in range(50)}
    other = {asked(SIGN).answer([None], Random(n), wrong="B") for n in range(50)}
    assert (guesses, half, other) == (set("ABCD"), {"C", "D"}, set("ACD"))


def test_an_open_question_is_answered_by_what_was_read() -> None:
    question = asked("What does the red sign say?")
    assert question.answer(["FISH"], Random(0)) == "FISH"
    assert question.answer([None], Random(0)) == wording.UNKNOWN
