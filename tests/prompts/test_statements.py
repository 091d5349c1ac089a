"""What a thought claims to be seen: found in many manners of writing, and nothing else taken for it."""

import pytest

from pipeline.demo import wording, world
from prompts.statements import sentences, statements


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        ("The red sign says FISH.", ["The red sign says FISH."]),
        ("The red sign says FISH, so the answer is B.", ["The red sign says FISH."]),
        ("So the red sign says FISH. That is option B.", ["The red sign says FISH."]),
        ("In the zoomed clip, the man opens a blue door.", ["The man opens a blue door."]),
        ("From 12.0 s to 18.0 s the lamp flashes three times.", ["The lamp flashes three times."]),
        ("Between 0:12 and 0:18, the lamp flashes three times!", ["The lamp flashes three times."]),
        ("At 14.0s, a woman in a white coat picks up a jar.", ["A woman in a white coat picks up a jar."]),
        ("Now I can clearly see that the shirt is green.", ["The shirt is green."]),
        ("The closer frames show that he wears a black hat.", ["He wears a black hat."]),
        ("These frames reveal a dog next to the car.", ["A dog next to the car."]),
        ("It is now clear that she pours milk into the bowl.", ["She pours milk into the bowl."]),
        ("video_qa says that the box is red.", ["The box is red."]),
        ("- The car is red.\n- The driver wears a cap.", ["The car is red.", "The driver wears a cap."]),
        ("1. The car is red.\n2. The driver wears a cap.", ["The car is red.", "The driver wears a cap."]),
        ("**The scoreboard reads 3-1.** Good.", ["The scoreboard reads 3-1."]),
        (
            "The red sign says FISH and the blue sign says MOON.",
            ["The red sign says FISH.", "The blue sign says MOON."],
        ),
        ("This sign says FISH, while the other one reads MOON.", ["This sign says FISH.", "The other one reads MOON."]),
        ("A man and a woman walk along the beach.", ["A man and a woman walk along the beach."]),
        ("The flag is red, white and blue; it is wet.", ["The flag is red, white and blue.", "It is wet."]),
        ("The red sign says FISH. The red sign says FISH.", ["The red sign says FISH."]),
        ("Mr. Smith holds a 2.5 kg bag.", ["Mr. Smith holds a 2.5 kg bag."]),
        ("A cat appears at the window.", ["A cat appears at the window."]),
        ('The sign says "STOP", which rules out A and C.', ['The sign says "STOP".']),
    ],
)  # fmt: skip
def test_statements_about_what_is_seen_are_found(thought: str, expected: list[str]) -> None:
    assert list(statements(thought)) == expected


@pytest.mark.parametrize(
    "thought",
    [
        "",
        "B",
        "What does the sign say?",
        "I need to look closer at 12 s to 18 s.",
        "I will zoom into [12, 18] at 2 fps.",
        "Let me check the next segment.",
        "Let's look at the end of the video.",
        "Next, I open (2,3).",
        "The answer is B.",
        "Therefore, option B is correct.",
        "So B.",
        "So it is B.",
        "That makes it (C), and it is (C).",
        "This confirms my guess.",
        "That settles it.",
        "This is enough to answer the question.",
        "The sign seems to say FISH.",
        "The man might be a cook.",
        "It is probably the kitchen.",
        "There is no sign in these frames.",
        "The word is unreadable at this size.",
        "The sign isn't visible.",
        "The text is too small.",
        "The overview shows a red car.",
        "The caption of segment 2 mentions an oven.",
        "The high-level captions describe a cooking show.",
        "Since he wears a hat, he is the driver.",
        "Option A says that the car is red.",
        "To verify, a higher frame rate is needed.",
        "If the lamp flashes twice, it is A.",
        "I guess it is red.",
        "A. FISH",
        "Given the frames, C is left.",
        "Look at the part from 3 s to 5 s.",
        "The evidence is sufficient.",
        "One more look would help.",
    ],
)
def test_plans_doubts_answers_and_what_is_not_seen_are_no_statements(thought: str) -> None:
    assert statements(thought) == ()


@pytest.mark.parametrize("seed", range(3))
def test_the_sentences_of_the_rendered_world_come_through_unchanged(seed: int) -> None:
    film = world.film(seed)
    for scene in film.scenes:
        assert statements(f"I look again. {wording.describe(scene)} I see.") == (wording.describe(scene),)
        if scene.sign:
            said = wording.sign_statement(scene.sign.colour, scene.sign.word)
            assert statements(said) == (said,)
    for said in (wording.floor_statement(film.floor), wording.flash_statement("four")):
        assert statements(said) == (said,)


def test_decimals_and_abbreviations_end_no_sentence() -> None:
    text = 'At 14.5 s he stops, e.g. The end. "Really." Then he goes!'
    assert sentences(text) == ["At 14.5 s he stops, e.g. The end.", '"Really."', "Then he goes!"]


def test_odd_texts_are_split_in_time_that_grows_with_their_length() -> None:
    for text in (
        "a" * 20_000,
        "the and " * 5_000,
        ". " * 10_000,
        "so " * 5_000,
        "At 1 s " * 3_000,
        "9" * 20_000,
        "- " * 9_000,
    ):
        assert isinstance(statements(text), tuple)
