"""Which answers count as the reference, and what a verifier is asked."""

import json
from itertools import pairwise

import pytest

from prompts.judging import Ruling, answers_match, choices_of, letter_of, probe_messages, ruling
from schemas.video import Frame
from tests.prompts.examples import frame, question


@pytest.mark.parametrize(
    "answer",
    [
        "B",
        "b",
        " B. ",
        "(B)",
        "(b).",
        "B)",
        "B:",
        "**B**",
        '"B"',
        "`B`",
        "B. a blue car",
        "B) A blue car.",
        "(B) a blue car",
        "B - a blue car",
        "b. A BLUE CAR",
        "B. It is the blue one",
        "a blue car",
        "Blue car.",
        r"\boxed{B}",
        r"The answer is \boxed{B. a blue car}.",
        r"\boxed{B} so \boxed{B}",
        "The answer is B.",
        "The correct answer is: (B)",
        "Answer: B",
        "Option B",
        "Final answer: **B. a blue car**",
    ],
)
def test_the_letter_and_the_text_of_a_choice_are_understood(answer: str) -> None:
    assert letter_of(answer, question()) == "B"
    assert answers_match(answer, question())


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "E",
        "BC",
        "B or C",
        "B, C",
        "B and C",
        "B. C",
        "B. a red car",
        "B. not A",
        r"\boxed{B} or \boxed{C}",
        "Because of the car",
        "a car",
        "I do not know",
        "b" * 10_000,
    ],
)
def test_an_answer_that_names_no_choice_or_several_is_wrong(answer: str) -> None:
    assert letter_of(answer, question()) == ""
    assert not answers_match(answer, question())


def test_another_choice_is_wrong() -> None:
    assert letter_of("A. a red car", question()) == "A"
    assert not answers_match("A", question())


def test_a_choice_whose_text_is_another_choices_letter_is_ambiguous() -> None:
    assert letter_of("B", question(choices=("B", "A"))) == ""


def test_equal_choices_are_told_apart_by_letter_only() -> None:
    doubled = question(choices=("a dog", "a dog", "a cat"))
    assert letter_of("a dog", doubled) == ""
    assert letter_of("B. a dog", doubled) == "B"


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ("A blue car", "blue car.", True),
        ("The  BLUE, car!", "a blue car", True),
        ("blue", "red", False),
        ("3", "3.0", True),
        ("1,000", "1000", True),
        ("-3", "3", False),
        ("3 cars", "3", False),
        ("three", "3", True),
        ("The answer is: a blue car.", "blue car", True),
        ("blue " * 400, "blue", False),
        (r"\boxed{3}", "3", True),
        ("", "", False),
        ("!", "?", False),
        ("+", "+", True),
        ("café", "cafe\u0301", True),
        ("the", "the", True),
        ("0.30000000000000004", "0.3", True),
    ],
)
def test_open_answers_are_compared_as_text_or_number(answer: str, reference: str, equal: bool) -> None:
    asked = question(choices=(), answer=reference)
    assert answers_match(answer, asked) is equal
    assert letter_of(answer, asked) == ""


AMOUNTS = [
    ("How many cars pass the house?", "3 cars", "3", True),
    ("How many cars pass the house?", "3", "three cars", True),
    ("How many cars pass the house?", "four cars", "3", False),
    ("How many cars pass the house?", "about 3", "3", True),
    ("How many cars pass the house?", "3.2", "3", False),
    ("How many cars pass the house?", "3 dogs", "3", None),
    ("How many cars pass the house?", "three or four", "3", None),
    ("How many cars pass the house?", "a few", "3", None),
    ("How often does the lamp flash?", "twice", "2 times", True),
    ("How often does the lamp flash?", "once", "two times", False),
    ("How long is it?", "90 s", "1.5 minutes", True),
    ("How long is it?", "1 min", "1.5 minutes", False),
    ("How long is it?", "90", "90 s", None),
    ("How many seconds is it?", "90", "90 s", True),
    ("How long is it?", "90 s", "90 m", None),
    ("How far is it?", "1,250.5 m", "1250.5 metres", True),
    ("How far is it?", "12 km", "12,000 meters", True),
    ("How much is it?", "forty percent", "40 %", True),
    ("How much is it?", "0.4", "40 %", None),
    ("What is pi?", "3.14159", "3.14", True),
    ("What is pi?", "3.1", "3.14", False),
    ("What does it cost?", "$5.50", "5.5 dollars", True),
    ("What year is it?", "nineteen hundred", "1900", True),
    ("What number is called?", "nine one one", "11", None),
    ("What number is called?", "minus three", "-3", None),
    ("How cold is it?", "\u22123", "-3", True),
    ("How cold is it?", "3", "-3", False),
]


@pytest.mark.parametrize(("text", "answer", "reference", "right"), AMOUNTS)
def test_amounts_are_compared_in_their_units_and_left_open_where_these_do_not_tell(
    text: str, answer: str, reference: str, right: bool | None
) -> None:
    asked = question(choices=(), answer=reference).model_copy(update={"text": text})
    found = ruling(answer, asked)
    assert (found and found.correct) is right
    assert found is None or found.by == "number"


def test_a_tolerance_is_the_sources_own_else_the_decimals_of_the_reference() -> None:
    def right(answer: str, reference: str, **extras: object) -> bool:
        asked = question(choices=(), answer=reference).model_copy(update={"extras_json": json.dumps(extras)})
        return answers_match(answer, asked)

    assert not right("105", "100") and right("105", "100", answer_tolerance=5)
    assert not right("105.1", "100", answer_tolerance=5)
    assert right("103", "100", answer_relative_tolerance=0.05) and not right(
        "106", "100", answer_relative_tolerance=0.05
    )
    assert right("95 s", "1.5 min", answer_tolerance=0.1) and not right("97 s", "1.5 min", answer_tolerance=0.1)
    assert right("2.45", "2.5") and right("2.54", "2.5") and not right("2.56", "2.5")


def test_what_a_rule_decides_and_what_only_a_judge_can() -> None:
    asked = question(choices=(), answer="a blue car")
    assert ruling("Blue car.", asked) == Ruling(True, "text")
    assert ruling("a car that is blue", asked) is None and ruling("a red car", asked) is None
    assert ruling("", asked) == ruling(" ", asked) == Ruling(False, "text")
    assert ruling(r"\boxed{red} or \boxed{blue}", asked) == Ruling(False, "text")
    assert ruling("B", question()) == Ruling(True, "letter")
    assert ruling("perhaps B or C", question()) == Ruling(False, "letter")


def test_the_blind_probe_asks_for_a_letter_and_shows_nothing() -> None:
    (message,) = probe_messages(question(), (), ())
    assert message.role == "user"
    assert message.text == (
        "Question: What passes the house?\nA. a red car\nB. a blue car\nC. a bicycle\nD. nothing\n"
        "Answer with one letter only: A, B, C, D."
    )
    assert choices_of(question()) == ("A", "B", "C", "D")
    assert choices_of(question(choices=())) == ()


def test_frames_stand_after_their_times_and_zooms_after_their_span() -> None:
    zooms: list[tuple[Frame, ...]] = [(frame(4.0), frame(4.48)), ()]
    (message,) = probe_messages(question(), (frame(0.0), frame(2.0)), zooms)
    shown, _, asked = message.text.partition("Question:")
    assert shown == (
        "Frames of the whole video:\n0.0s: <image>\n2.0s: <image>\n"
        "A closer look at 4.0s to 4.5s:\n4.0s: <image>\n4.5s: <image>\n"
    )
    assert asked.endswith("A, B, C, D.")
    assert [f.time_s for f in message.frames] == [0.0, 2.0, 4.0, 4.48]


def test_each_probe_begins_with_the_frames_of_the_one_before() -> None:
    overview, zooms = (frame(0.0),), [(frame(4.0),), (frame(8.0), frame(9.0)), (frame(4.0),)]
    shown = [probe_messages(question(), overview, zooms[:k])[0].text.partition("Question:")[0] for k in range(4)]
    assert all(later.startswith(earlier) for earlier, later in pairwise(shown))
