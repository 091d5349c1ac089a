"""LOVE-R1: exact texts, states without memory, valid intervals, frame plans, rewards by hand. The video has 64 s."""

import pytest

from prompts.love_r1 import LoveR1, reward
from prompts.protocol import Fault, Setting, Step
from prompts.rendering import states
from schemas.chat import Message
from schemas.question import Question
from schemas.trajectory import Action, Dialogue, Observation, Overview, Turn
from schemas.video import Video
from tests.prompts.examples import VIDEO, answer, dialogue, frame, question, told, trajectory, turn

PROTOCOL = LoveR1()
SETTING = Setting(VIDEO, None)
OVERVIEW = Overview(frames=(frame(0.0), frame(63.96)))

SYSTEM = (
    "You are a helpful assistant. The red numbers on each frame represent the timestamp in seconds and you can refer "
    "them during temporal grounding."
)
INSTRUCTION = (
    "\nBased on the video and the user question, determine whether the visual content is sufficient to answer the "
    "question. If you have enough information, reason using the visual content and provide your final answer within "
    "\\boxed{}. Otherwise, you may zoom in a specific interval of the video related to the question for more details "
    "based on your reasoning. Also provide the time span of the interval in seconds within \\boxed{[start_time, "
    "end_time]}."
)
TASK = (
    "What passes the house?\nOptions:\nA. a red car\nB. a blue car\nC. a bicycle\nD. nothing\n"
    "\nProvide only the single option letter (e.g., A, B, C, D, etc.) as the answer." + INSTRUCTION
)
LAST = "\nYou cannot zoom in again: provide your final answer within \\boxed{}."


def zoom(start: float, end: float, call: str = "0.0") -> Action:
    return Action(call_id=call, kind="zoom", start_s=start, end_s=end)


def clip(start: float, end: float, call: str, think: str = "Look.") -> Turn:
    """A zoom of whole seconds that was carried out, with two frames a second."""
    times = [start + i / 2 for i in range(int(2 * (end - start)))]
    seen = Observation(call_id=call, kind="frames", text="", frames=tuple(frame(t) for t in times))
    return turn(think, zoom(start, end, call), seen)


def whole_dialogue() -> Dialogue:
    refused = "The interval [70, 80] is outside the video, which has 64.00 s."
    turns = [
        turn(raw="B? <image>", error="no_box", observation=told("error", "There is no \\boxed{} <image>.")),
        clip(40.0, 42.0, "1.0", "Perhaps late."),
        turn("There?", zoom(70.0, 80.0, "2.0"), told("error", refused, call="2.0"), error="outside_video"),
        clip(4.0, 5.0, "3.0", "Or early."),
        turn("A blue car it is.", answer("B")),
    ]
    return dialogue(turns, OVERVIEW, max_turns=5)


def texts(messages: tuple[Message, ...]) -> list[tuple[str, str, bool]]:
    return [(m.role, m.text, m.trainable) for m in messages]


def test_every_state_is_rendered_anew_as_the_rl_trainer_does() -> None:
    fast = "Full video [0, 64]:<image><image>"
    late = "Subset zoom-in video clip [40, 42]:" + "<image>" * 4
    early = "Subset zoom-in video clip [4, 5]:" + "<image>" * 2
    bad = "\nYour last reply was not valid: "
    system = ("system", SYSTEM, False)
    rendered = [texts(state) for state in states(PROTOCOL, whole_dialogue())]
    assert rendered == [
        [system, ("user", fast + TASK, False), ("assistant", "B? < image>", False)],
        [
            system,
            ("user", f"{fast}{TASK}{bad}There is no \\boxed{{}} < image>.", False),
            ("assistant", "I need to zoom in on the video.\n\nPerhaps late. \\boxed{[40, 42]}", True),
        ],
        [
            system,
            ("user", fast + late + TASK, False),
            ("assistant", "I need to zoom in on the video.\n\nThere? \\boxed{[70, 80]}", False),
        ],
        [
            system,
            ("user", f"{fast}{late}{TASK}{bad}The interval [70, 80] is outside the video, which has 64.00 s.", False),
            ("assistant", "I need to zoom in on the video.\n\nOr early. \\boxed{[4, 5]}", True),
        ],
        [
            system,
            ("user", fast + early + late + TASK + LAST, False),
            ("assistant", "I get the answer.\n\nA blue car it is. \\boxed{B}", True),
        ],
    ]


def test_a_dialogue_renders_as_its_last_state() -> None:
    whole = whole_dialogue()
    assert PROTOCOL.messages(whole) == states(PROTOCOL, whole)[-1]
    unfinished = whole.model_copy(update={"turns": whole.turns[:2]})
    assert PROTOCOL.messages(unfinished) == states(PROTOCOL, whole)[2][:-1]


def test_each_image_in_the_text_has_its_frame_in_order_of_time() -> None:
    user = PROTOCOL.messages(whole_dialogue())[1]
    assert user.text.count("<image>") == len(user.frames)
    assert [f.time_s for f in user.frames] == [0.0, 63.96, 4.0, 4.5, 40.0, 40.5, 41.0, 41.5]


@pytest.mark.parametrize(("clips", "shown"), [(1, [32]), (2, [24, 24]), (3, [16, 16, 16]), (4, [16, 16, 16, 16])])
def test_more_clips_show_fewer_frames_each(clips: int, shown: list[int]) -> None:
    turns = [clip(16.0 * i, 16.0 * (i + 1), f"{i}.0") for i in range(clips)]
    user = PROTOCOL.messages(dialogue(turns, Overview(), max_turns=9))[1]
    times = [[f.time_s for f in user.frames if 16 * i <= f.time_s < 16 * (i + 1)] for i in range(clips)]
    assert [len(found) for found in times] == shown
    assert all(found[0] == 16 * i and found[-1] == 16 * i + 15.5 for i, found in enumerate(times))


def test_an_open_question_is_asked_for_a_text_and_a_hint_stands_last() -> None:
    asked = question(choices=(), answer="a blue car")
    state = dialogue([], OVERVIEW, asked, max_turns=3)
    assert PROTOCOL.messages(state)[1].text.endswith("What passes the house?\nProvide your text answer." + INSTRUCTION)
    assert PROTOCOL.messages(state, "look")[1].text == PROTOCOL.messages(state)[1].text + "\n\nlook"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no_box"),
        ("I get the answer.\n\nIt is B.", "no_box"),
        ("\\boxed{B}", "no_reasoning"),
        ("I get the answer.\n\n\\boxed{B}", "no_reasoning"),
        ("It is \\boxed{B", "not_closed"),
        ("It is \\boxed{{B}", "not_closed"),
        ("It is \\boxed{ }", "no_answer"),
        ("I see <image> \\boxed{B}", "reserved_text"),
        ("It is \\boxed{<|im_end|>}", "reserved_text"),
        ("I need to zoom in on the video.\n\nLook \\boxed{B}", "bad_interval"),
        ("Look \\boxed{[4.5, 9]}", "bad_interval"),
        ("Look \\boxed{[-4, 9]}", "bad_interval"),
        ("Look \\boxed{[4]}", "bad_interval"),
        ("Look \\boxed{[4, 9, 12]}", "bad_interval"),
        ("Look \\boxed{[__import__('os').getpid(), 9]}", "bad_interval"),
        ("Look \\boxed{[1" + "0" * 400 + ", 9]}", "bad_interval"),
    ],
)
def test_a_text_that_breaks_the_protocol_is_a_named_fault(text: str, fault: str) -> None:
    parsed = PROTOCOL.parse(text)
    assert isinstance(parsed, Fault)
    assert parsed.name == fault


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("I need to zoom in on the video.\n\na\nb \\boxed{[4, 9]}", zoom(4.0, 9.0, "")),
        ("a\nb\n\n\\boxed{ [ 4,9 ] } and then \\boxed{C}", zoom(4.0, 9.0, "")),
        ("a\nb \\boxed{[9, 4]}", zoom(4.0, 9.0, "")),
        ("I get the answer. a\nb \\boxed{B}. Done.", answer("B", "")),
        ("a\nb \\boxed{\\text{a {blue} car}}", answer("\\text{a {blue} car}", "")),
        ("I get the answer.\n\na\nb \\boxed{[4, 9]}", answer("[4, 9]", "")),
    ],
)
def test_the_opening_sentence_or_the_first_box_tells_what_a_text_means(text: str, action: Action) -> None:
    assert PROTOCOL.parse(text) == Step("a\nb", (action,))


@pytest.mark.parametrize(
    ("start", "end", "fault"),
    [
        (0.0, 32.0, None),
        (0.0, 33.0, "too_long"),
        (5.0, 5.0, "too_short"),
        (5.0, 6.0, None),
        (60.0, 65.0, None),
        (60.0, 66.0, "outside_video"),
        (64.0, 65.0, "outside_video"),
        (41.0, 51.0, "seen_before"),
        (42.0, 52.0, None),
    ],
)
def test_an_interval_is_valid_by_the_rule_of_the_rl_trainer(start: float, end: float, fault: str | None) -> None:
    """[41, 51] shares 9 of 11 s with [40, 50]; [42, 52] shares 8 of 12."""
    found = PROTOCOL.check(zoom(start, end), Setting(VIDEO, None, earlier=((40.0, 50.0),)))
    assert (found.name if found else None) == fault


def test_no_zoom_of_a_long_video_is_longer_than_a_minute() -> None:
    setting = Setting(VIDEO.model_copy(update={"duration_s": 3600.0}), None)
    assert PROTOCOL.check(zoom(0.0, 60.0), setting) is None
    fault = PROTOCOL.check(zoom(0.0, 61.0), setting)
    assert fault is not None and fault.message == "The interval [0, 61] is longer than 60.0 s."


def test_the_fast_video_has_two_small_stamped_frames_a_second_and_at_most_768() -> None:
    def look(duration: float) -> tuple[int, float, tuple[int, int]]:
        video: Video = VIDEO.model_copy(update={"duration_s": duration})
        plan = PROTOCOL.overview_plan(video)
        assert plan == PROTOCOL.verifier_overview_plan(video) and plan.stamp and plan.times_s is not None
        assert plan.times_s[0] == 0.0
        return len(plan.times_s), plan.times_s[-1], plan.budget.size(1920, 1080)

    assert look(0.3)[0] == 1
    assert look(59.9) == (119, pytest.approx(59.899), (298, 168))
    assert look(60.0) == (120, pytest.approx(59.999), (210, 118))
    assert look(3600.0) == (768, pytest.approx(3599.999), (210, 118))


def test_a_clip_has_two_large_stamped_frames_a_second_and_at_most_32() -> None:
    plan = PROTOCOL.zoom_plan(zoom(4.0, 6.0), SETTING)
    assert plan.times_s == pytest.approx((4.0, 4 + 2 / 3, 4 + 4 / 3, 6.0)) and plan.stamp
    assert plan.budget.size(1920, 1080) == (596, 336)
    assert len(PROTOCOL.zoom_plan(zoom(0.0, 32.0), SETTING).times_s or ()) == 32
    assert max(PROTOCOL.zoom_plan(zoom(60.0, 65.0), SETTING).times_s or ()) < 64.0


CLUED = question(clues=[(16.0, 18.0), (30.0, 30.0)])
ANSWERED, WRONG = turn("x", answer("B")), turn("x", answer("C"))
REFUSED = turn("x", zoom(70.0, 80.0), told("error", "outside"), error="outside_video")
UNREADABLE = turn(raw="", error="no_box", observation=told("error", "There is no box."))


def rewards(turns: list[Turn], asked: Question) -> list[float | None]:
    made = trajectory(turns, "B", asked)
    return [reward(made, step) for step in range(len(turns))]


def test_a_zoom_that_meets_a_clue_earns_two_points_and_one_beside_it_its_form() -> None:
    assert rewards([clip(10.0, 17.0, "0.0"), ANSWERED], CLUED) == [2.0, 2.0]
    assert rewards([clip(18.0, 20.0, "0.0"), WRONG], CLUED) == [1.0, 1.0]
    assert rewards([clip(29.0, 31.0, "0.0"), clip(16.0, 17.0, "1.0")], CLUED) == [2.0, 2.0]


def test_without_clues_a_zoom_earns_what_the_answer_after_it_does() -> None:
    assert rewards([clip(10.0, 17.0, "0.0"), ANSWERED], question()) == [2.0, 2.0]
    assert rewards([clip(10.0, 17.0, "0.0"), WRONG], question()) == [1.0, 1.0]
    assert rewards([clip(10.0, 17.0, "0.0"), UNREADABLE], question()) == [1.0, 0.0]
    assert rewards([clip(10.0, 17.0, "0.0")], question()) == [1.0]


def test_a_zoom_followed_by_another_is_left_out_where_nothing_else_tells() -> None:
    turns = [clip(10.0, 17.0, "0.0"), clip(20.0, 27.0, "1.0"), ANSWERED]
    assert rewards(turns, question()) == [None, 2.0, 2.0]


def test_without_a_zoom_only_the_answer_counts_and_a_step_out_of_form_earns_nothing() -> None:
    assert rewards([ANSWERED], CLUED) == [2.0]
    assert rewards([UNREADABLE, REFUSED, WRONG], CLUED) == [0.0, 0.0, 1.0]
    with pytest.raises(IndexError):
        reward(trajectory([], None), 0)
