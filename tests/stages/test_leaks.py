"""Leaks of hints and of the reference: caught in many wordings, and not seen where a teacher reasons honestly."""

import pytest

from pipeline.stages.leaks import gold_leak, hint_leak
from prompts.protocols import protocol
from schemas.question import Question
from schemas.timeline import Segments
from schemas.trajectory import Action, CaptionLine, Hint, Overview, Trajectory, Turn
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


BETRAYS_THE_HINT = [
    "The hint says that the sign is in (2,1,2).",
    "According to the hint, I should open (2,1,2).",
    "Following your hint, (2,1,2) comes next.",
    "I use the hint that I was given and read (2,1,2).",
    "The hints given above point to (2,1,2).",
    "As hinted, the sign is in the second half.",
    "The provided clue names (2,1,2).",
    "I was told that the evidence lies in (2,1,2).",
    "I have been informed that segment 2 is the relevant one.",
    "I've been directed to (2,1,2), so I read its caption.",
    "The user told me where to look: (2,1,2).",
    "(2,1,2) was pointed out to me.",
    "What the question asks about is shown in segment (2,1,2).",
    "So what the question asks about is shown in segment 2, and I open it.",
    "The relevant event is shown in (2,1,2).",
    "My previous attempt ended with a wrong answer, so I look elsewhere.",
    "Since the earlier answer was wrong, I reconsider option B.",
    "The last answer was incorrect; let me try (2,1,2).",
    "As the previous attempt at this question was not correct, I go deeper.",
    "I already answered A, which was wrong.",
    "A was marked as incorrect, so it must be another one.",
    "I got it wrong before. This time I check (2,1,2).",
    "My first answer turned out to be wrong.",
    "This is my second attempt at this question.",
    "The attempts so far were wrong, so the captions cannot be trusted.",
    "The captions may be incomplete or wrong, so I check what I rely on.",
    "Given that my answer so far was rejected, I look at (2,1,2).",
    "You told me to look at (2,1,2).",
]


@pytest.mark.parametrize("thought", BETRAYS_THE_HINT)
def test_a_text_that_betrays_a_hint_is_caught(thought: str) -> None:
    assert hint_leak(hinted(thought, "It is green.", text=SEGMENT_HINT + GENERIC_HINT), SHOWN) is True
    assert hint_leak(hinted("I read on.", f"It is green. {thought}", text=SEGMENT_HINT + GENERIC_HINT), SHOWN) is True


KEEPS_THE_HINT = [
    "I open (2,1,2), as the caption of segment 2 speaks of a sign.",
    "The high-level captions mention a sign in segment 2. I look at (2,1).",
    "The caption hints at a kitchen, so the cooking probably starts in (2,1).",
    "There is a hint of red on his sleeve at 14.0 s.",
    "This hints that the sign is outdoors.",
    "The hints in the captions are too vague; I need a lower level.",
    "The clue may be in the second half, where he leaves the house.",
    "I look for visual clues about the colour of the sign.",
    "The first clip was the wrong place: it shows a street, not the sign.",
    "My previous zoom missed the moment, so I go to the next segment.",
    "My first guess, the kitchen, was wrong; the sign hangs in the hall.",
    "My previous attempt to find the sign in (1,2,1) brought nothing.",
    "The previous answer of video_qa may be incorrect, so I ask again.",
    "The earlier caption seems wrong about the colour.",
    "The man was told to leave, and then he takes the sign down.",
    "The narrator says that we are told too little.",
    "I was given only the high-level captions, so I need details.",
    "I am told that the video lasts 64 s.",
    "Let me try again with a narrower question for video_qa.",
    "The relevant event is probably shown in (2,1,2).",
    "The caption says that he meets her at 34.2 s, so the relevant scene is in (2,1,2).",
    "The needed information should be in segment (2,1,2).",
    "Option A was ruled out by the caption, since no red is mentioned.",
    "I thought it was the second segment, but that is incorrect: the sign appears later.",
    "His first attempt fails and his second answer is wrong, says the host.",
    "The captions are incomplete here, so I check with video_qa.",
    "I was asked about the sign, and nothing so far shows it.",
    "The student's second try is not correct, as the subtitle says.",
    "I chose the wrong segment at first, so I move on to (2,1,2).",
    "The sign is shown in segment (2,1,2) at 34.0 s, as its caption says.",
    "The tool answered that the sign is green.",
]


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


def multiple_choice(text: str, answer: str, *others: str) -> Question:
    """The reference is B."""
    choices = (others[0], answer, *others[1:])
    return question().model_copy(update={"text": text, "choices": choices, "answer_letter": "B", "answer_text": answer})


SIGN = multiple_choice("What does the red sign say?", "FISH", "DISH", "WISH", "FIST")
LAMP = multiple_choice("How many times does the lamp flash?", "four", "two", "three", "five")
COOK = multiple_choice("What does the cook add to the soup after the onions?", "a pinch of salt", "pepper", "a carrot")

BETRAYS_THE_GOLD = [
    ("The reference answer is FISH. I will look for a place that confirms it.", SIGN),
    ("The ground truth is B.", SIGN),
    ("The ground-truth answer says four flashes, so I look at the lamp.", LAMP),
    ("The provided answer says FISH, so I need a clip.", SIGN),
    ("The given answer is B; I have to find where it is shown.", SIGN),
    ("To arrive at the given answer I zoom into the sign.", SIGN),
    ("The answer key says B.", SIGN),
    ("The answer was provided to me: FISH. The answer was given in the prompt.", SIGN),
    ("The answer I was given is four.", LAMP),
    ("It is FISH, as the solution states.", SIGN),
    ("I already know that the answer is FISH; the zoom is only for show.", SIGN),
    ("I know the correct answer, I only have to find the frames.", SIGN),
    ("The answer is already known, so any clip will do.", SIGN),
    ("The correct answer is B, so I only need a clip that shows it.", SIGN),
    ("Given that the answer is B, the right moment has to be found.", SIGN),
    ("The answer is FISH.", SIGN),
    ("The answer must be (B). I zoom to confirm it.", SIGN),
    ("Option B is correct; I will zoom into the sign to show it.", SIGN),
    ("It is B. Let me look at the sign.", SIGN),
    ("I go with B and look at the sign.", SIGN),
    ("The red sign says FISH. I look at it once.", SIGN),
    ("The lamp flashes four times. I count them from 1 s to 2 s.", LAMP),
    ("The cook adds a pinch of salt to the soup after the onions, so I zoom there.", COOK),
    ("The answer is a pinch of salt, I just have to show it.", COOK),
    ("Work backwards from the answer: where could it be shown?", COOK),
    ("According to the ground truth it is a pinch of salt.", COOK),
    ("I was told the correct answer, a pinch of salt.", COOK),
    ("The known answer is B.", LAMP),
    ("Correct answer: B. Now the zoom.", LAMP),
]


@pytest.mark.parametrize(("thought", "about"), BETRAYS_THE_GOLD)
def test_a_text_that_betrays_the_reference_is_caught(thought: str, about: Question) -> None:
    assert gold_leak(asked(thought, about)) is True


KEEPS_THE_GOLD = [
    ("Option B seems likely, but I have to look.", SIGN),
    ("I will check whether the sign says FISH.", SIGN),
    ("The sign could say FISH or DISH.", SIGN),
    ("The choices are DISH, FISH, WISH and FIST, which differ in one letter.", SIGN),
    ("The question asks what the red sign says. It is too small in the overview.", SIGN),
    ("To find the correct answer I need to read the sign.", SIGN),
    ("I do not know the answer yet.", SIGN),
    ("Before I know the answer, I must see the sign.", SIGN),
    ("Among the given answer choices, only the words differ.", SIGN),
    ("None of the provided answer options can be ruled out yet.", SIGN),
    ("The given answers are all nouns.", SIGN),
    ("Perhaps the answer is B.", SIGN),
    ("My guess is FISH, since the street leads to the harbour.", SIGN),
    ("If the sign says FISH, the answer is B.", SIGN),
    ("The overview already shows the sign, and it says FISH; I zoom to be sure.", SIGN),
    ("The caption says that the sign reads FISH, so the answer is B. Let me verify it.", SIGN),
    ("I need to tell A from B.", SIGN),
    ("A: DISH. B: FISH. C: WISH. I look closer.", SIGN),
    ("The lamp is on at two moments at least.", LAMP),
    ("I count the flashes of the lamp from 1 s to 2 s.", LAMP),
    ("Four options, one lamp: I need a high frame rate.", LAMP),
    ("There are four people in the room. I look at the lamp.", LAMP),
    ("The cook adds several things to the soup. What comes after the onions?", COOK),
    ("He salts the soup at some point; I need the order.", COOK),
    ("The expected answer is a single ingredient.", COOK),
    ("I expect a pinch of salt, but pepper is possible.", COOK),
    ("The answer is not obvious from the overview.", COOK),
    ("The answer must be in the second half.", COOK),
    ("The film makes a reference to an old show, and the label on the jar says salt.", COOK),
    ("I want to answer with certainty, so I look from 1 s to 2 s.", COOK),
    ("The answer should be given as a letter.", COOK),
    ("Before answering, I zoom in to find out what the cook adds.", COOK),
]


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
