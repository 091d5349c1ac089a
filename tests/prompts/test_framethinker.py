"""FrameThinker: exact texts, limits, frame plans, and the reward computed by hand."""

import numpy as np
import pytest

from prompts.framethinker import FrameThinker, reward
from prompts.protocol import Fault, Setting, Step
from schemas.question import Question
from schemas.trajectory import Action, Observation, Overview, Trajectory, Turn
from schemas.video import Frame, Video
from tests.prompts.examples import VIDEO, answer, dialogue, frame, question, told, turn
from tests.prompts.examples import trajectory as attempt

PROTOCOL = FrameThinker()
SETTING = Setting(VIDEO, None)
LONG = VIDEO.model_copy(update={"duration_s": 300.04, "n_frames": 7501})
OVERVIEW = Overview(frames=(frame(0.0), frame(63.96)))

SYSTEM = (
    "You are an expert AI assistant that answers questions about a video by iteratively analyzing it.\n"
    "Your task is to output your reasoning within a <think> </think> tag, followed by a specific action within an "
    "<action> </action> tag.\n"
    "Possible actions are:\n"
    "1. `choose frames between START_FRAME and END_FRAME`: Request a more detailed view of a specific video segment. "
    "The number of frames is fixed, currently 8.\n"
    "2. `get frame number at time MM:SS`: Get the exact frame number for a specific time. Convert hours to minutes if "
    "needed (e.g., for 1 hour, 2 minutes, and 30 seconds, use 62:30).\n"
    "3. `output answer: OPTION`: Provide the final answer (e.g., A, B, C...) when you are confident."
)


def choose(start: int, end: int, call: str = "0.0") -> Action:
    return Action(call_id=call, kind="zoom", start_frame=start, end_frame=end)


def clock(seconds: float, call: str = "0.0") -> Action:
    return Action(call_id=call, kind="time", start_s=seconds)


def shown(*indices: int) -> Observation:
    frames = tuple(Frame(index=i, time_s=i / 25, hash=str(i), width=640, height=360) for i in indices)
    return Observation(call_id="0.0", kind="frames", text="", frames=frames)


def test_a_whole_dialogue_is_rendered_to_the_byte() -> None:
    turns = [
        turn("He speaks at 0:05.", clock(5.0), told("time", "125")),
        turn("Frames 120 to 300.", choose(120, 300), shown(121, 146, 299)),
        turn("Frames 3 to 4.", choose(3, 4), told("error", "Too short <image>."), error="span_too_short"),
        turn(raw="B, I <|im_end|> think", error="no_think", observation=told("error", "Reason first.")),
        turn("It is blue.", answer("B")),
    ]
    rendered = [(m.role, m.text, m.trainable) for m in PROTOCOL.messages(dialogue(turns, OVERVIEW))]
    assert rendered == [
        ("system", SYSTEM, False),
        (
            "user",
            "What passes the house?\nA. a red car\nB. a blue car\nC. a bicycle\nD. nothing\n"
            "frame 0: <image>\nframe 1599: <image>",
            False,
        ),
        ("assistant", "<think>He speaks at 0:05.</think>\n<action>get frame number at time 00:05</action>", True),
        ("user", "Frame number at time 00:05 is: 125.", False),
        ("assistant", "<think>Frames 120 to 300.</think>\n<action>choose frames between 120 and 300</action>", True),
        ("user", "frame 121: <image>\nframe 146: <image>\nframe 299: <image>", False),
        ("assistant", "<think>Frames 3 to 4.</think>\n<action>choose frames between 3 and 4</action>", False),
        ("user", "Invalid action: Too short < image>.", False),
        ("assistant", "B, I < |im_end|> think", False),
        ("user", "Invalid action: Reason first.", False),
        ("assistant", "<think>It is blue.</think>\n<action>output answer: B</action>", True),
    ]


def test_each_image_in_the_text_has_its_frame() -> None:
    turns = [turn("a", choose(120, 300), shown(121, 146, 299))]
    for message in PROTOCOL.messages(dialogue(turns, OVERVIEW)):
        assert message.text.count("<image>") == len(message.frames)


def test_a_long_video_is_told_its_number_of_frames() -> None:
    state = dialogue([], OVERVIEW).model_copy(update={"video": LONG})
    assert PROTOCOL.messages(state)[0].text == SYSTEM.replace("currently 8", "currently 12")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no_think"),
        ("<action>output answer: B</action>", "no_think"),
        ("<think> </think><action>output answer: B</action>", "no_think"),
        ("So: <think>a</think><action>output answer: B</action>", "stray_text"),
        ("<think>a</think>so <action>output answer: B</action>", "stray_text"),
        ("<think>a</think>", "no_action"),
        ("<think>a</think><answer>B</answer>", "no_action"),
        ("<think>a</think><action>output answer: B</act", "not_closed"),
        ("<think>a</think><action><action>output answer: B</action>", "nested_tag"),
        ("<think><image></think><action>output answer: B</action>", "reserved_text"),
        ("<think>a</think><action>output answer: </action>", "no_answer"),
        ("<think>a</think><action>B</action>", "unknown_action"),
        ("<think>a</think><action></action>", "unknown_action"),
        ("<think>a</think><action>I choose frames between 1 and 90</action>", "unknown_action"),
        ("<think>a</think><action>choose frames between 1.5 and 90</action>", "bad_frames"),
        ("<think>a</think><action>choose frames between -1 and 90</action>", "bad_frames"),
        ("<think>a</think><action>choose frames between 1 and 90 and 100</action>", "bad_frames"),
        ("<think>a</think><action>choose frames between 1 and " + "9" * 500 + "</action>", "bad_frames"),
        ("<think>a</think><action>choose frames between ١ and ٩٠</action>", "bad_frames"),
        ("<think>a</think><action>get frame number at time 1:02:30</action>", "bad_time"),
        ("<think>a</think><action>get frame number at time 0:61</action>", "bad_time"),
        ("<think>a</think><action>get frame number at time 62</action>", "bad_time"),
    ],
)
def test_a_text_that_breaks_the_protocol_is_a_named_fault(text: str, fault: str) -> None:
    parsed = PROTOCOL.parse(text)
    assert isinstance(parsed, Fault)
    assert parsed.name == fault


@pytest.mark.parametrize(
    ("content", "action"),
    [
        (" choose frames between 120  and\n300 ", choose(120, 300, "")),
        ("get frame number at time 62:30", clock(3750.0, "")),
        ("get frame number at time 1:05", clock(65.0, "")),
        ("output answer:B", answer("B", "")),
        ("output answer: a blue\ncar ", answer("a blue\ncar", "")),
    ],
)
def test_the_three_actions_are_understood_and_what_follows_is_cut(content: str, action: Action) -> None:
    expected = Step("a", (action,))
    assert PROTOCOL.parse(f" <think>a</think>\n\n<action>{content}</action>frame 7: I see a car") == expected
    assert PROTOCOL.parse(f"<think> a </think><action>{content}") == expected


@pytest.mark.parametrize(
    ("start", "end", "video", "fault"),
    [
        (0, 9, VIDEO, None),
        (0, 8, VIDEO, "span_too_short"),
        (300, 120, VIDEO, "span_too_short"),
        (1590, 1600, VIDEO, None),
        (1590, 9999, VIDEO, None),
        (1592, 9999, VIDEO, "span_too_short"),
        (1600, 9999, VIDEO, "outside_video"),
        (0, 12, LONG, "span_too_short"),
        (0, 13, LONG, None),
    ],
)
def test_frames_must_lie_in_the_video_and_further_apart_than_the_look_has_frames(
    start: int, end: int, video: Video, fault: str | None
) -> None:
    found = PROTOCOL.check(choose(start, end), Setting(video, None))
    assert (found.name if found else None) == fault


def test_a_time_may_be_asked_for_up_to_the_second_in_which_the_video_ends() -> None:
    short = Setting(VIDEO.model_copy(update={"duration_s": 63.4}), None)
    assert PROTOCOL.check(clock(64.0), short) is None
    refused = PROTOCOL.check(clock(65.0), short)
    assert refused is not None and (refused.name, refused.message) == ("outside_video", "The video ends at 01:03.")
    assert PROTOCOL.check(answer("B"), SETTING) is None


def test_the_overview_has_8_frames_or_12_of_a_long_video_as_numpy_spreads_them() -> None:
    for video, count, side in ((VIDEO, 8, (640, 360)), (LONG, 12, (448, 252))):
        plan = PROTOCOL.overview_plan(video)
        assert plan.indices == tuple(np.linspace(0, video.n_frames - 1, count, dtype=int))
        assert plan.budget.size(1920, 1080) == side and plan.budget.size(320, 180) == (320, 180)
        assert PROTOCOL.verifier_overview_plan(video) == plan
    assert PROTOCOL.overview_plan(LONG).budget.size(1080, 1920) == (140, 252)
    assert PROTOCOL.overview_plan(VIDEO.model_copy(update={"n_frames": 3})).indices == (0, 1, 2)
    exactly = VIDEO.model_copy(update={"duration_s": 300.0})
    assert len(PROTOCOL.overview_plan(exactly).indices or ()) == 8


def test_chosen_frames_leave_out_both_ends_and_an_end_beyond_the_video_is_cut_back() -> None:
    def indices(start: int, end: int) -> tuple[int, ...] | None:
        return PROTOCOL.zoom_plan(choose(start, end), SETTING).indices

    assert indices(100, 109) == (101, 102, 103, 104, 105, 106, 107, 108)
    assert indices(120, 300) == tuple(np.linspace(121, 299, 8, dtype=int))
    assert indices(1500, 99_999) == tuple(np.linspace(1501, 1599, 8, dtype=int))


def test_frames_asked_for_stay_and_get_their_seconds_and_frames_a_second() -> None:
    resolved = PROTOCOL.resolve(choose(250, 99_999), SETTING)
    assert (resolved.start_frame, resolved.end_frame) == (250, 99_999)
    assert (resolved.start_s, resolved.end_s, resolved.fps) == (10.0, 64.0, 8 / 54)
    assert PROTOCOL.resolve(clock(5.0), SETTING) == clock(5.0)


ANSWERED = turn("x", answer("B"))
TIMED = question().model_copy(update={"text": "What passes the house at 0:05?"})


def chose(think: str, start: int, end: int) -> Turn:
    return turn(think, choose(start, end), shown(start + 1, end - 1))


def asked(seconds: float, index: str) -> Turn:
    return turn("x", clock(seconds), told("time", index))


def rewarded(
    turns: list[Turn], final: str | None = "B", about: Question | None = None, as_published: bool = False
) -> float:
    return reward(attempt(turns, final, about, OVERVIEW), as_published=as_published)


def test_an_answer_alone_earns_1_and_chosen_frames_a_little() -> None:
    assert rewarded([ANSWERED]) == 1.0
    assert rewarded([ANSWERED], "C") == 0.0
    assert rewarded([chose("From 120 to 300.", 120, 300), ANSWERED]) == pytest.approx(1.02)
    assert rewarded([chose("From 120 to 300.", 120, 300), ANSWERED], "C") == 0.0
    assert rewarded([], None) == 0.0


def test_a_time_earns_half_a_point_where_the_question_names_one() -> None:
    turns = [asked(5.0, "125"), chose("At 0:05, 120 and 300.", 120, 300), ANSWERED]
    assert rewarded(turns, about=TIMED) == pytest.approx(1.52)
    assert rewarded(turns) == pytest.approx(1.02)
    assert rewarded([asked(0.0, "0"), chose("0 to 300", 0, 300), ANSWERED], about=TIMED) == pytest.approx(1.02)


@pytest.mark.parametrize(
    "turns",
    [
        pytest.param([chose("120 300", 120, 300), chose("120 300", 120, 300)], id="the same frames again"),
        pytest.param([chose("120 300", 120, 300), chose("121 299", 121, 299)], id="one frame further inside"),
        pytest.param([chose("0 1599", 0, 1599)], id="all frames"),
        pytest.param([chose("300 120", 300, 120)], id="backwards"),
        pytest.param([chose("120 128", 120, 128)], id="too near"),
        pytest.param([chose("I look closer.", 120, 300)], id="no number in the thought"),
        pytest.param([chose("120 to 300, perhaps 9 more", 120, 300)], id="other last numbers"),
        pytest.param([chose("At 120:300", 120, 300)], id="only a time in the thought"),
        pytest.param([asked(5.0, "125"), asked(5.0, "125"), chose("120 300", 120, 300)], id="the same time again"),
        pytest.param([asked(5.0, "125")], id="a frame told and not looked at"),
        pytest.param([asked(5.0, "125"), chose("200 300", 200, 300)], id="other frames than the one told"),
        pytest.param([turn(raw="B", error="no_think", observation=told("error", "Reason."))], id="no thought"),
        pytest.param([turn("1 900", choose(1, 3), told("error", "Short."), error="span_too_short")], id="refused"),
    ],
)
def test_an_attempt_whose_thoughts_and_actions_do_not_fit_earns_nothing(turns: list[Turn]) -> None:
    assert rewarded([*turns, ANSWERED], about=TIMED) == 0.0


def test_what_fits_as_published_does_not_fail() -> None:
    two_times = [asked(5.0, "125"), asked(6.0, "150"), chose("120 300", 120, 300), ANSWERED]
    assert rewarded(two_times) == pytest.approx(1.02)
    inside = [chose("120 300", 120, 300), chose("Not 120 to 300 but 122 to 298.", 122, 298), ANSWERED]
    assert rewarded(inside) == pytest.approx(1.02)


def test_the_published_reward_takes_8_frames_for_long_videos_and_only_the_bare_letter() -> None:
    def of_long(turns: list[Turn], as_published: bool) -> float:
        row: Trajectory = attempt(turns, "B", overview=OVERVIEW).model_copy(update={"video": LONG})
        return reward(row, as_published=as_published)

    near = [chose("120 to 130", 120, 130), ANSWERED]
    assert (of_long(near, False), of_long(near, True)) == (0.0, 1.02)
    assert (rewarded([ANSWERED], "B. a blue car"), rewarded([ANSWERED], "(B)")) == (1.0, 1.0)
    assert rewarded([ANSWERED], "B. a blue car", as_published=True) == 0.0
    assert rewarded([ANSWERED], "B it is", as_published=True) == 1.0


def test_an_attempt_that_never_began_earns_nothing() -> None:
    assert reward(attempt([], None, overview=None).model_copy(update={"video": None})) == 0.0
