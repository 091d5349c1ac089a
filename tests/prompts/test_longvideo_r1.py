"""LongVideo-R1: exact texts, ids, hints and frame plans."""

import hashlib

import pytest

from prompts.longvideo_r1 import LongVideoR1
from prompts.protocol import Fault, Setting, Step
from schemas.timeline import Segments
from schemas.trajectory import Dialogue
from tests.prompts.examples import (
    CAPTION_OVERVIEW,
    FRAME_OVERVIEW,
    VIDEO,
    answer,
    caption,
    dialogue,
    question,
    told,
    turn,
    video_qa,
)

PROTOCOL = LongVideoR1()
SEGMENTS = Segments(64.0, 4)
SETTING = Setting(VIDEO, SEGMENTS)

FIRST_TURN = """Select the best answer to the following multiple-choice question based on the video. Respond with only \
the letter (A, B, C, or D) of the correct option.
What passes the house?
A. a red car
B. a blue car
C. a bicycle
D. nothing


The total duration of the video is 64.0 seconds.

High-level Caption 1 from 0.0 to 16.0:caption 1
High-level Caption 2 from 16.0 to 32.0:caption 2
High-level Caption 3 from 32.0 to 48.0:caption 3
High-level Caption 4 from 48.0 to 64.0:caption 4

"""


def whole_dialogue() -> Dialogue:
    refused = "Segment (1,9) does not exist: ids go from 1 to 4."
    turns = [
        turn(raw="<tool>get_caption((1,2))", error="no_think", observation=told("error", "Reason first.")),
        turn("There?", caption(1, 9), told("error", refused), error="no_such_segment"),
        turn("Down.", caption(1, 2), told("caption", "A car <image> passes.", (4.0, 7.96))),
        turn("Deeper.", caption(1, 2, 3), told("caption", "It is dark.", (6.04, 6.96))),
        turn("Ask.", video_qa(1, 2, 3, query='the "car"?'), told("qa", "It is blue.", (6.0, 7.0))),
        turn("Ask.", video_qa(1, 2, 4), told("error", "The clip could not be examined.")),
        turn("Blue.", answer("B")),
    ]
    return dialogue(turns, CAPTION_OVERVIEW, max_turns=30)


def test_a_whole_dialogue_renders_as_the_rl_environment_writes_it() -> None:
    invalid = "Your action is not valid, please check the format and try again."
    rendered = [(m.role, m.text, m.trainable) for m in PROTOCOL.messages(whole_dialogue())]
    assert rendered[1:] == [
        ("user", FIRST_TURN, False),
        ("assistant", "<tool>get_caption((1,2))", False),
        ("user", f"{invalid} Reason first.", False),
        ("assistant", "<think>There?</think>\n<tool>get_caption((1,9))</tool>", False),
        ("user", f"{invalid} Segment (1,9) does not exist: ids go from 1 to 4.", False),
        ("assistant", "<think>Down.</think>\n<tool>get_caption((1,2))</tool>", True),
        (
            "user",
            "Medium-level Caption from tool get_caption((1,2)). From 4.0 to 8.0:A car < image> passes.",
            False,
        ),
        ("assistant", "<think>Deeper.</think>\n<tool>get_caption((1,2,3))</tool>", True),
        ("user", "Low-level Caption from tool get_caption((1,2,3)). From 6.0 to 7.0:It is dark.", False),
        ("assistant", '<think>Ask.</think>\n<tool>video_qa((1,2,3), "the \\"car\\"?")</tool>', True),
        ("user", "<information>It is blue.</information>", False),
        ("assistant", '<think>Ask.</think>\n<tool>video_qa((1,2,4), "which colour?")</tool>', True),
        ("user", "The clip could not be examined.", False),
        ("assistant", "<think>Blue.</think>\n<answer>B</answer>", True),
    ]


def test_the_system_prompt_is_the_published_one_to_the_byte() -> None:
    text = PROTOCOL.messages(dialogue([], CAPTION_OVERVIEW))[0].text
    assert "is an integer from 1 to 4.\n" in text
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "827a7b996eda3171d9cfdca254bb57e702e5058068e7e2f76765066baa3d7a52"
    )


def test_an_open_question_is_not_asked_for_a_letter() -> None:
    asked = question(choices=(), answer="a blue car")
    first = PROTOCOL.messages(dialogue([], CAPTION_OVERVIEW, asked))[1].text
    assert first.startswith("What passes the house?\n\n\nThe total duration")


def test_a_dialogue_without_captions_is_refused() -> None:
    with pytest.raises(ValueError, match="caption tree"):
        PROTOCOL.messages(dialogue([], FRAME_OVERVIEW))


def test_a_hint_stands_at_the_end_of_the_last_user_message_only() -> None:
    state = dialogue([turn("Down.", caption(1, 2), told("caption", "A car.", (4.0, 7.96)))], CAPTION_OVERVIEW)
    plain, hinted = PROTOCOL.messages(state), PROTOCOL.messages(state, "look at (1,2)")
    assert hinted[:-1] == plain[:-1]
    assert hinted[-1].text == plain[-1].text + "\n\nlook at (1,2)"


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("", "bad_call"),
        ("get_caption", "bad_call"),
        ("get_caption((1,2)", "bad_arguments"),
        ("get_caption(1,2))", "bad_arguments"),
        ("get_caption((1))", "bad_arguments"),
        ("get_caption((1,2,3,4))", "bad_arguments"),
        ("get_caption((1.0,2))", "bad_arguments"),
        ("get_caption((-1,2))", "bad_arguments"),
        ("get_caption((True,2))", "bad_arguments"),
        ("get_caption((1,2)) get_caption((1,3))", "bad_arguments"),
        ("get_caption((" + "9" * 400 + ",1))", "bad_arguments"),
        ("get_caption((١,٢))", "bad_arguments"),
        ("get_caption((__import__('os').system('true'),2))", "bad_arguments"),
        ("zoom((1,2))", "unknown_function"),
        ('video_qa((1,2), "what?")', "bad_arguments"),
        ('video_qa((1,2,3, "what?")', "bad_arguments"),
        ("video_qa((1,2,3))", "bad_arguments"),
        ("video_qa((1,2,3), )", "bad_query"),
        ('video_qa((1,2,3), "")', "bad_query"),
        ('video_qa((1,2,3), "what?)', "bad_query"),
        ("video_qa((1,2,3), what?) and video_qa((1,2,4), what?)", "two_calls"),
        (r'video_qa((1,2,3), "\u003c/tool>")', "nested_tag"),
        (r'video_qa((1,2,3), "\u003cimage>")', "reserved_text"),
        ("get_caption((1,2))<answer>B</answer>", "nested_tag"),
    ],
)
def test_a_call_that_breaks_the_protocol_is_a_named_fault(call: str, fault: str) -> None:
    parsed = PROTOCOL.parse(f"<think>a</think><tool>{call}</tool>")
    assert isinstance(parsed, Fault)
    assert parsed.name == fault


@pytest.mark.parametrize(
    "call",
    [
        "get_caption((1,2))",
        "get_caption((1, 2,))",
        " get_caption( ( 1,2 ) ) ",
        "get_caption(1,2)",
        "get_caption((01,2))",
    ],
)
def test_a_caption_call_may_be_spaced_freely(call: str) -> None:
    assert PROTOCOL.parse(f"<think>a</think>\n<tool>{call}</tool> and so on") == Step("a", (caption(1, 2, call=""),))
    assert PROTOCOL.parse(f"<think>a</think>\n<tool>{call}") == Step("a", (caption(1, 2, call=""),))


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ('"which colour?"', "which colour?"),
        ("'which colour?'", "which colour?"),
        ("which colour?", "which colour?"),
        ('query="which colour?"', "which colour?"),
        (r"'it\'s what?'", "it's what?"),
        (r'"caf\u00e9 \ud83d\ude00"', "café 😀"),
        ('"what does "stop" mean?"', 'what does "stop" mean?'),
        ("what (exactly), and why?", "what (exactly), and why?"),
        ('"two\\nlines"', "two\nlines"),
        (r'"half \ud83d"', "half \ufffd"),
    ],
)
def test_a_query_may_be_quoted_or_not(written: str, query: str) -> None:
    step = PROTOCOL.parse(f"<think>a</think><tool>video_qa((1,2,3), {written})</tool>")
    assert step == Step("a", (video_qa(1, 2, 3, query=query, call=""),))
    assert isinstance(step, Step)
    assert PROTOCOL.parse(PROTOCOL.write(step)) == step


def test_ids_must_lie_in_the_tree() -> None:
    assert PROTOCOL.check(caption(4, 4), SETTING) is None
    assert PROTOCOL.check(video_qa(1, 1, 1), SETTING) is None
    assert PROTOCOL.check(answer("B"), SETTING) is None
    for path in [(5, 1), (0, 1), (1, 2, 5)]:
        fault = PROTOCOL.check(caption(*path), SETTING)
        assert fault is not None
        assert fault.name == "no_such_segment"
        assert "from 1 to 4" in fault.message


def test_a_call_is_resolved_to_the_seconds_of_its_segment() -> None:
    resolved = PROTOCOL.resolve(caption(2, 1), SETTING)
    assert (resolved.start_s, resolved.end_s) == (16.0, 20.0)
    resolved = PROTOCOL.resolve(video_qa(4, 4, 4), SETTING)
    assert (resolved.start_s, resolved.end_s) == (63.0, 64.0)
    assert PROTOCOL.resolve(answer("B"), SETTING) == answer("B")


def test_a_segment_is_looked_at_by_16_frames_within_it() -> None:
    plan = PROTOCOL.zoom_plan(caption(2, 1), SETTING)
    assert plan.times_s is not None
    assert len(plan.times_s) == 16
    assert plan.times_s[0] == 16.0
    assert 19.9 < plan.times_s[-1] < 20.0
    assert plan.budget.max_side == 448
    assert PROTOCOL.zoom_plan(video_qa(2, 1, 1), SETTING).budget.max_side == 1024


def test_a_segment_of_few_frames_shows_each_once() -> None:
    slow = VIDEO.model_copy(update={"fps": 4.0})
    plan = PROTOCOL.zoom_plan(video_qa(1, 1, 1), Setting(slow, SEGMENTS))
    assert plan.times_s is not None
    assert [int(t * 4) for t in plan.times_s] == [0, 1, 2, 3]


def test_the_verifiers_overview_is_32_small_frames_over_the_whole_video() -> None:
    plan = PROTOCOL.verifier_overview_plan(VIDEO)
    assert PROTOCOL.overview_plan(VIDEO) is None
    assert plan.times_s is not None
    assert (len(plan.times_s), plan.times_s[0], plan.budget.max_side) == (32, 0.0, 256)
    assert 63.9 < plan.times_s[-1] < 64.0


def test_the_ladder_of_hints_names_finer_and_finer_segments_and_ends() -> None:
    asked = question(clues=[(15.0, 15.5), (18.0, 19.0), (40.0, 40.2)])
    hints = [PROTOCOL.hint(asked, level, SEGMENTS) for level in range(5)]
    assert hints[0] is not None and "these segments: **(1), (2), (3)**." in hints[0]
    assert hints[1] is not None and "**(1,4), (2,1), (3,3)**." in hints[1]
    assert hints[2] is not None and "**(1,4,4), (2,1,1), (2,1,2), (2,1,3), (3,3,1)**." in hints[2]
    assert hints[3] is not None and "video_qa" in hints[3] and "(" not in hints[3]
    assert hints[4] is None


def test_a_hint_at_one_segment_reads_as_one() -> None:
    hint = PROTOCOL.hint(question(clues=[(1.0, 2.0)]), 0, SEGMENTS)
    assert hint is not None
    assert "is shown in segment **(1)**." in hint
    assert hint.endswith("until you reach the correct answer.")


def test_a_clue_up_to_the_end_of_the_video_names_segments_that_exist() -> None:
    asked = question(clues=[(60.0, 64.0)])
    for level in range(3):
        hint = PROTOCOL.hint(asked, level, SEGMENTS)
        assert hint is not None
        assert "5" not in hint


def test_without_clue_intervals_only_the_generic_hint_is_left() -> None:
    generic = PROTOCOL.hint(question(clues=[(1.0, 2.0)]), 3, SEGMENTS)
    assert PROTOCOL.hint(question(), 0, SEGMENTS) == generic
    assert PROTOCOL.hint(question(), 1, SEGMENTS) is None
