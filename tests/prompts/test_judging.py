"""Which answers count as the reference, and what a verifier is asked."""

from itertools import pairwise

import pytest

from prompts.judging import answers_match, choices_of, letter_of, probe_messages
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
        ("three", "3", False),
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
