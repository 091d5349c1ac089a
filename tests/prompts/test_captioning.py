"""What a captioner is asked, and that no subtitle is lost on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.captioning import (
    CAPTION_LEVELS,
    Cue,
    caption_messages,
    caption_width,
    parse_caption,
    parse_qa,
    qa_messages,
)
from prompts.protocol import Fault
from tests.prompts.examples import frame


def test_the_published_frames_sizes_and_word_limits() -> None:
    assert [(c.frames, c.max_side, c.words) for c in CAPTION_LEVELS.values()] == [
        (128, 256, 400),
        (64, 362, 400),
        (32, 512, 200),
    ]


@pytest.mark.parametrize(
    ("duration", "minimum", "width"),
    [
        (0.0, 4, 4),
        (60.0, 4, 4),
        (60.0, 3, 3),
        (600.0, 3, 3),
        (1000.0, 4, 4),
        (2000.0, 4, 5),
        (3600.0, 4, 6),
        (36000.0, 4, 8),
    ],
)
def test_width_keeps_leaves_near_16_seconds_between_the_limits(duration: float, minimum: int, width: int) -> None:
    assert caption_width(duration, minimum) == width


def test_each_frame_stands_after_its_time_and_what_is_said_from_it_on() -> None:
    cues = [
        Cue(1.0, 11.0, "earlier"),
        Cue(12.5, 13.5, "between <image>"),
        Cue(14.0, 20.0, "at a frame"),
        Cue(15.0, 16.0, "late"),
    ]
    system, user = caption_messages(3, (frame(10.0), frame(12.0), frame(14.0)), (10.0, 16.0), cues)
    assert user.text == (
        "10.0s. Subtitle: earlier\n<image>\n12.0s. Subtitle: between < image>\n<image>\n"
        "14.0s. Subtitle: at a frame, late\n<image>\n"
    )
    assert len(user.frames) == 3
    assert "You are given 3 frames" in system.text
    assert "at most 200 words" in system.text


def test_only_the_leaves_are_asked_for_more_detail() -> None:
    high, low = (caption_messages(level, (frame(0.0),), (0.0, 1.0), ())[0].text for level in (1, 3))
    assert "Add details" not in high and "at most 400 words" in high
    assert "Add details" in low
    assert "\n\n\n" not in high and "\n\n\n" not in low


def test_a_segment_without_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        caption_messages(1, (), (0.0, 1.0), ())


@given(
    st.lists(st.floats(100.0, 200.0), min_size=1, max_size=12, unique=True),
    st.lists(st.tuples(st.floats(0.0, 300.0), st.floats(0.0, 60.0)), max_size=30),
)
def test_every_subtitle_that_overlaps_the_segment_appears_exactly_once(
    times: list[float], spoken: list[tuple[float, float]]
) -> None:
    start, end = 100.0, 200.0
    cues = [Cue(begin, begin + length, f"[line {i}]") for i, (begin, length) in enumerate(spoken)]
    user = caption_messages(2, tuple(frame(t) for t in sorted(times)), (start, end), cues)[1]
    for cue in cues:
        begins_within, lasts_into = start <= cue.start_s < end, cue.start_s < start < cue.end_s
        assert user.text.count(cue.text) == (begins_within or lasts_into)


@pytest.mark.parametrize(
    ("reply", "caption"),
    [
        ("<caption>This clip shows a car.</caption>", "This clip shows a car."),
        ("Here it is:\n<caption>\nA car.\n</caption> Done.", "A car."),
        ("<caption>A car", "A car"),
        ("A car.</caption>", "A car."),
        (" A car. ", "A car."),
        ("<think>hm <caption></think><caption>A car.</caption>", "A car."),
    ],
)
def test_a_caption_is_taken_out_of_its_tags(reply: str, caption: str) -> None:
    assert parse_caption(reply) == caption


@pytest.mark.parametrize("reply", ["", "  \n", "<caption></caption>", "<caption> ", "<think>hm</think>"])
def test_an_empty_caption_is_a_fault(reply: str) -> None:
    parsed = parse_caption(reply)
    assert isinstance(parsed, Fault)
    assert parsed.name == "no_caption"


def test_a_clip_question_comes_first_and_each_frame_after_its_time() -> None:
    system, user = qa_messages((frame(6.0), frame(6.48)), "which <image> colour?")
    assert user.text == (
        "which < image> colour?\nVideo frame at 6.0 seconds:<image>\nVideo frame at 6.5 seconds:<image>"
    )
    assert "<answer>The question is not related to the video segment.</answer>" in system.text
    assert "<reasoning></reasoning>" in system.text


@pytest.mark.parametrize(
    "reply",
    [
        "<reasoning>I look.</reasoning><answer>It is blue.</answer>",
        "<reasoning>I look.</reasoning>\n<answer> It is blue.",
        "<reasoning>I look.</reasoning> It is blue.",
        "<think>I look.</think><answer>It is blue.</answer>",
        "It is blue.",
    ],
)
def test_an_answer_is_taken_out_of_its_tags(reply: str) -> None:
    assert parse_qa(reply) == "It is blue."


@pytest.mark.parametrize("reply", ["", "<reasoning>I look and", "<answer></answer>", "<reasoning>x</reasoning>"])
def test_a_reply_without_an_answer_is_a_fault(reply: str) -> None:
    parsed = parse_qa(reply)
    assert isinstance(parsed, Fault)
    assert parsed.name == "no_answer"
