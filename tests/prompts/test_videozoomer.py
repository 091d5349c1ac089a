"""VideoZoomer: exact texts, limits and frame plans."""

import hashlib

import pytest

from prompts.protocol import Fault, Setting, Step
from prompts.videozoomer import VideoZoomer
from schemas.chat import Message
from schemas.trajectory import Dialogue
from schemas.video import Video
from tests.prompts.examples import FRAME_OVERVIEW, VIDEO, answer, dialogue, frame, question, seen, told, turn, zoom

PROTOCOL = VideoZoomer()
SETTING = Setting(VIDEO, None)

FIRST_TURN = """<frame0_time0.00s><image><frame1_time2.00s><image>
What passes the house?
A. a red car
B. a blue car
C. a bicycle
D. nothing"""


def whole_dialogue() -> Dialogue:
    """An unreadable turn, a refused zoom, two zooms and the answer, in exactly the five turns allowed."""
    refused = "Number of frames extracted (20) exceeds the maximum allowed (16)."
    turns = [
        turn(raw="I think B. <image>", error="no_think", observation=told("error", "Reason first.")),
        turn("Look closer.", zoom(4.0, 14.0), told("error", refused), raw="as typed", error="too_many_frames"),
        turn("Shorter.", zoom(4.0, 5.5), seen([4.0, 4.76, 5.48]), raw="as typed"),
        turn("Once more.", zoom(40.25, 41.0, fps=1.5), seen([40.24])),
        turn("A blue car it is.", answer("B")),
    ]
    return dialogue(turns, FRAME_OVERVIEW)


def texts(messages: tuple[Message, ...]) -> list[tuple[str, str, bool]]:
    return [(m.role, m.text, m.trainable) for m in messages]


def test_a_whole_dialogue_renders_as_the_rl_environment_writes_it() -> None:
    rendered = texts(PROTOCOL.messages(whole_dialogue()))
    go_on = (
        "continue your reasoning process inside <think> and </think> and then write your final answer inside <answer> "
        "and </answer>"
    )
    analyze = (
        "Please analyze the error information obtained from the function tool and adjust your response. "
        "Countinue your reasoning process inside <think> and </think>."
    )
    last_round = "Do not call <video_zoom> in this round, give a final answer based on information above."
    assert rendered[1:] == [
        ("user", FIRST_TURN, False),
        ("assistant", "I think B. < image>", False),
        (
            "user",
            "<tool_response>\nERROR occurs during the function tool call. Error Information: Reason first.\n"
            f"</tool_response>\n{analyze}",
            False,
        ),
        (
            "assistant",
            '<think>Look closer.</think><video_zoom> {"segment": [4.0, 14.0], "fps": 2} </video_zoom>',
            False,
        ),
        (
            "user",
            "<tool_response>\nError: Number of frames extracted (20) exceeds the maximum allowed (16).\n"
            f"</tool_response>\n{analyze}",
            False,
        ),
        ("assistant", '<think>Shorter.</think><video_zoom> {"segment": [4.0, 5.5], "fps": 2} </video_zoom>', True),
        (
            "user",
            "<tool_response>\nThe frames of the video clip are shown below:\n"
            "<frame0_time4.00s><image><frame1_time4.76s><image><frame2_time5.48s><image>\n"
            f"</tool_response>\n{go_on}",
            False,
        ),
        (
            "assistant",
            '<think>Once more.</think><video_zoom> {"segment": [40.25, 41.0], "fps": 1.5} </video_zoom>',
            True,
        ),
        (
            "user",
            "<tool_response>\nThe frames of the video clip are shown below:\n<frame0_time40.24s><image>\n"
            f"</tool_response>\n{go_on}{last_round}",
            False,
        ),
        ("assistant", "<think>A blue car it is.</think><answer>B</answer>", True),
    ]


def test_the_system_prompt_is_the_published_one_to_the_byte() -> None:
    system = PROTOCOL.messages(dialogue([], FRAME_OVERVIEW))[0]
    assert system.role == "system"
    assert system.text.startswith("You are a helpful assistant. You will receive a low-frame-rate video")
    assert (
        "(e.g., (end_sec - start_sec) * fps \u2264 16) and DO NOT include <answer> tags in this round. \n Example"
        in system.text
    )
    assert hashlib.sha256(system.text.encode()).hexdigest() == SYSTEM_SHA256


SYSTEM_SHA256 = "1b35ad5c7f3c7bbc48c096d6a7c17c10533a959ce1fb6a86adc3fe9165a4a33f"


def test_each_image_in_the_text_has_its_frame() -> None:
    for message in PROTOCOL.messages(whole_dialogue()):
        assert message.text.count("<image>") == len(message.frames)
    zoomed = PROTOCOL.messages(whole_dialogue())[7]
    assert [f.time_s for f in zoomed.frames] == [4.0, 4.76, 5.48]


def test_a_hint_stands_at_the_end_of_the_last_user_message_only() -> None:
    state = dialogue([turn("Shorter.", zoom(4.0, 5.5), seen([4.0]))], FRAME_OVERVIEW)
    plain, hinted = PROTOCOL.messages(state), PROTOCOL.messages(state, "look at the end")
    assert hinted[:-1] == plain[:-1]
    assert hinted[-1].text == plain[-1].text + "\n\nlook at the end"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no_think"),
        ("<answer>B</answer>", "no_think"),
        ("<think> </think><answer>B</answer>", "no_think"),
        ("<think>a", "no_think"),
        ("Sure. <think>a</think><answer>B</answer>", "stray_text"),
        ("<think>a</think>So <answer>B</answer>", "stray_text"),
        ("<think>a</think>", "no_action"),
        ("<think>a</think><answer> </answer>", "no_answer"),
        ("<think>a</think><answer><answer>B</answer></answer>", "nested_tag"),
        ("<think>a<think>b</think><answer>B</answer>", "nested_tag"),
        ("<think>a</think><answer><video_zoom>{}</video_zoom></answer>", "nested_tag"),
        ("<think>see <image></think><answer>B</answer>", "reserved_text"),
        ("<think>a<|im_end|></think><answer>B</answer>", "reserved_text"),
        ("<think>a</think><answer>B</answ", "not_closed"),
        ("<think>a</think><video_zoom>zoom in</video_zoom>", "bad_json"),
        ("<think>a</think><video_zoom>" + "[" * 100_000 + "</video_zoom>", "bad_json"),
        (
            '<think>a</think><video_zoom>{"segment": [1, 2], "fps": 1} {"segment": [3, 4], "fps": 1}</video_zoom>',
            "bad_json",
        ),
        ("<think>a</think><video_zoom>{'segment': [1, 2], 'fps': 1}</video_zoom>", "bad_json"),
        ('<think>a</think><video_zoom>{"segment": [1, 2]}</video_zoom>', "bad_call"),
        ('<think>a</think><video_zoom>{"segment": [1, 2, 3], "fps": 1}</video_zoom>', "bad_call"),
        ('<think>a</think><video_zoom>[{"segment": [1, 2], "fps": 1}]</video_zoom>', "bad_call"),
        ('<think>a</think><video_zoom>{"segment": [1, 2], "fps": 1, "speed": 2}</video_zoom>', "bad_call"),
        ('<think>a</think><video_zoom>{"segment": [1, NaN], "fps": 1}</video_zoom>', "bad_number"),
        ('<think>a</think><video_zoom>{"segment": [1, Infinity], "fps": 1}</video_zoom>', "bad_number"),
        ('<think>a</think><video_zoom>{"segment": [-1, 2], "fps": 1}</video_zoom>', "bad_number"),
        ('<think>a</think><video_zoom>{"segment": [1, 2], "fps": true}</video_zoom>', "bad_number"),
        ('<think>a</think><video_zoom>{"segment": [1, 2], "fps": 0}</video_zoom>', "bad_number"),
        ('<think>a</think><video_zoom>{"segment": ["1", 2], "fps": 1}</video_zoom>', "bad_number"),
        ('<think>a</think><video_zoom>{"segment": [1, ' + "9" * 400 + '], "fps": 1}</video_zoom>', "bad_number"),
    ],
)
def test_a_text_that_breaks_the_protocol_is_a_named_fault(text: str, fault: str) -> None:
    parsed = PROTOCOL.parse(text)
    assert isinstance(parsed, Fault)
    assert parsed.name == fault


@pytest.mark.parametrize(
    "text",
    [
        '<think>a\nb</think><video_zoom> {"segment": [4.0, 6.0], "fps": 2} </video_zoom>',
        ' <think> a\nb </think>\n\n<video_zoom>{"fps": 2, "segment": [4, 6]}',
        '<think>a\nb</think><video_zoom>\n{"segment":[4,6],"fps":2.0}</video_zoom><tool_response>I see',
        '<think>a\nb</think><video_zoom>{"segment":[4,6],"fps":2}</video_zoom><answer>B</answer>',
    ],
)
def test_spaces_a_stripped_stop_text_and_what_follows_the_action_do_not_matter(text: str) -> None:
    parsed = PROTOCOL.parse(text)
    assert parsed == Step("a\nb", (zoom(4.0, 6.0, call=""),))


@pytest.mark.parametrize(
    ("start", "end", "fps", "fault"),
    [
        (0.0, 8.0, 2.0, None),
        (0.0, 8.5, 2.0, "too_many_frames"),
        (0.0, 8.49, 2.0, None),
        (5.0, 5.0, 2.0, "reversed_segment"),
        (6.0, 5.0, 2.0, "reversed_segment"),
        (64.0, 64.4, 10.0, "outside_video"),
        (60.0, 64.5, 2.0, None),
        (60.0, 64.6, 2.0, "outside_video"),
        (0.0, 1e6, 1e6, "outside_video"),
        (0.0, 0.4, 2.0, "no_frames"),
    ],
)
def test_a_zoom_must_lie_in_the_video_and_hold_1_to_16_frames(
    start: float, end: float, fps: float, fault: str | None
) -> None:
    found = PROTOCOL.check(zoom(start, end, fps), SETTING)
    assert (found.name if found else None) == fault


def test_an_answer_is_always_in_order() -> None:
    assert PROTOCOL.check(answer("B"), SETTING) is None


def test_the_refusal_of_too_many_frames_is_upstreams_sentence() -> None:
    fault = PROTOCOL.check(zoom(0.0, 10.0), SETTING)
    assert fault is not None
    assert fault.message == "Number of frames extracted (20) exceeds the maximum allowed (16)."


def test_a_zoom_shows_its_frames_from_start_to_end_and_none_after_the_last() -> None:
    assert PROTOCOL.zoom_plan(zoom(4.0, 6.0), SETTING).times_s == pytest.approx((4.0, 4 + 2 / 3, 4 + 4 / 3, 6.0))
    assert PROTOCOL.zoom_plan(zoom(4.0, 4.5), SETTING).times_s == (4.0,)
    late = PROTOCOL.zoom_plan(zoom(62.0, 64.4), SETTING)
    assert late.times_s is not None
    assert len(late.times_s) == 4
    assert 63.96 <= late.times_s[-1] < 64.0


def test_the_overview_has_a_frame_every_two_seconds_and_at_most_64() -> None:
    def times(duration: float) -> tuple[float, ...]:
        plan = PROTOCOL.overview_plan(VIDEO.model_copy(update={"duration_s": duration}))
        assert plan.budget.size(1920, 1080) == (422, 236)
        assert plan.budget.size(160, 90) == (210, 118)
        assert plan.times_s is not None
        return plan.times_s

    assert times(0.3) == (0.0,)
    assert times(6.0) == (0.0, 2.0, 4.0)
    assert times(6.1) == (0.0, 2.0, 4.0, 6.0)
    assert times(128.0) == tuple(2.0 * i for i in range(64))
    hour = times(3600.0)
    assert len(hour) == 64
    assert hour[0] == 0.0
    assert 3599.9 < hour[-1] < 3600.0
    assert hour[1] - hour[0] == pytest.approx(hour[-1] - hour[-2])


def test_the_verifiers_overview_is_the_teachers() -> None:
    assert PROTOCOL.verifier_overview_plan(VIDEO) == PROTOCOL.overview_plan(VIDEO)


def test_frame_times_are_those_of_the_frames() -> None:
    overview = FRAME_OVERVIEW.model_copy(update={"frames": (frame(1.999), frame(123.456))})
    first = PROTOCOL.messages(dialogue([], overview))[1]
    assert first.text.startswith("<frame0_time2.00s><image><frame1_time123.46s><image>\n")


def test_an_open_question_is_asked_without_choices() -> None:
    asked = question(choices=(), answer="a blue car")
    assert PROTOCOL.messages(dialogue([], FRAME_OVERVIEW, asked))[1].text.endswith("\nWhat passes the house?")


def test_a_video_of_unknown_shape_keeps_the_budget() -> None:
    tall: Video = VIDEO.model_copy(update={"width": 1080, "height": 1920})
    budget = PROTOCOL.overview_plan(tall).budget
    width, height = budget.size(tall.width, tall.height)
    assert width * height <= 100352
