"""TimeSearch-R: exact texts, the tool role, spans, candidates, rewards by hand. The video has 64 s."""

import hashlib
import json

import pytest

from prompts.protocol import Fault, Setting, Step
from prompts.rendering import states
from prompts.timesearch_r import TOOL, TimeSearchR, reward
from schemas.question import Question
from schemas.trajectory import Action, Dialogue, Turn
from tests.prompts.examples import FRAME_OVERVIEW, VIDEO, answer, dialogue, question, seen, told, trajectory, turn

PROTOCOL = TimeSearchR()
SETTING = Setting(VIDEO, None)

FIRST_TURN = (
    "0.0s<image>2.0s<image>You must ALWAYS conduct thorough reasoning inside <think> and </think> tags BEFORE calling "
    "any tool or answering the question.\nYou must invoke tools to explore any video content you are interested in "
    "within <tool_call> </tool_call> tags.\nYou are allowed to use <tool_call></tool_call> tags for a maximum of 8 "
    "rounds.\nWhen you have enough information to answer the question, provide your answer within <answer> "
    "</answer> tags. Your answer should be supported by evidence from the video.\nYour output must follow the format: "
    "<think>Your reasoning process</think><tool_call>Parameters</tool_call> or <think>Your reasoning process</think>"
    "<answer>Your answer</answer>"
    "Question: What passes the house?\nA. a red car\nB. a blue car\nC. a bicycle\nD. nothing\nAnswer "
    "with the option's letter from the given choices within <answer> </answer> tags.\n"
    "The video duration: 64.0 seconds.\n"
)
INVALID = (
    "\nThe previous response is invalid. If I want to use tools, I should output a json object with function name and "
    "arguments within <tool_call></tool_call> tags: \nIf I want to give the final answer, I should put the answer "
    "between <answer> and </answer>.\nLet me try again.\n"
)


def search(
    start: float | None = 4.0,
    end: float | None = 8.0,
    query: str | None = "a car",
    count: int | None = None,
    call: str = "0.0",
) -> Action:
    return Action(call_id=call, kind="zoom", start_s=start, end_s=end, query=query, num_frames=count)


def whole_dialogue() -> Dialogue:
    turns = [
        turn(raw="I think B. <image>", error="no_think", observation=told("error", "Reason first.")),
        turn("Late?", search(70.0, 80.0), told("error", "70.0s is outside the video."), error="outside_video"),
        turn("Look.", search(4.0, 8.5, 'the "blue" car', 2), seen([4.0, 5.48])),
        turn("A blue car it is.", answer("B")),
    ]
    return dialogue(turns, FRAME_OVERVIEW, max_turns=8)


def test_a_whole_dialogue_renders_as_the_environment_writes_it() -> None:
    rendered = [(m.role, m.text, m.trainable) for m in PROTOCOL.messages(whole_dialogue())]
    assert rendered[1:] == [
        ("user", FIRST_TURN, False),
        ("assistant", "I think B. < image>", False),
        ("tool", f"Reason first.{INVALID}", False),
        (
            "assistant",
            '<think>Late?</think><tool_call>{"name": "seek_video_frames", "arguments": {"query": "a car", '
            '"start_time": 70.0, "end_time": 80.0}}</tool_call>',
            False,
        ),
        ("tool", f"70.0s is outside the video.{INVALID}", False),
        (
            "assistant",
            '<think>Look.</think><tool_call>{"name": "seek_video_frames", "arguments": {"query": "the \\"blue\\" car", '
            '"start_time": 4.0, "end_time": 8.5, "num_frames": 2}}</tool_call>',
            True,
        ),
        (
            "tool",
            "4.0s<image>5.5s<image>Here are selected frames. They are located at 4.0s,5.5s.\nIf the frames provided "
            "above are sufficient to answer the user's question, please put your final answer within "
            "<answer></answer>. Otherwise invoke the tool again with different parameters in JSON format.\n",
            False,
        ),
        ("assistant", "<think>A blue car it is.</think><answer>B</answer>", True),
    ]
    assert states(PROTOCOL, whole_dialogue()) == [PROTOCOL.messages(whole_dialogue())]


def test_the_system_prompt_declares_the_tool_to_the_byte() -> None:
    text = PROTOCOL.messages(dialogue([], FRAME_OVERVIEW))[0].text
    assert text.startswith("You are a helpful video assistant.\n# Tools\n\nYou may call one or more functions")
    assert json.loads(text.partition("<tools>\n")[2].partition("\n</tools>")[0]) == json.loads(TOOL)
    assert json.loads(TOOL)["function"]["parameters"]["required"] == ["query"]
    assert hashlib.sha256(text.encode()).hexdigest() == SYSTEM_SHA256


SYSTEM_SHA256 = "74a13981ba6c6c9a8ea031dfe53aa4cb8232583df9dbe386066a1fc1eb38c40f"


def test_an_open_question_is_not_asked_for_a_letter_and_a_hint_stands_last() -> None:
    asked = question(choices=(), answer="a blue car")
    first = PROTOCOL.messages(dialogue([], FRAME_OVERVIEW, asked))[1].text
    assert first.endswith("</answer>Question: What passes the house?\nThe video duration: 64.0 seconds.\n")
    state = dialogue(whole_dialogue().turns[:3], FRAME_OVERVIEW)
    hinted = PROTOCOL.messages(state, "look")
    assert (hinted[-1].role, hinted[-1].text) == ("tool", PROTOCOL.messages(state)[-1].text + "\n\nlook")
    assert hinted[:-1] == PROTOCOL.messages(state)[:-1]


def call(arguments: str) -> str:
    return f'<think>a</think><tool_call>{{"name": "seek_video_frames", "arguments": {arguments}}}</tool_call>'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no_think"),
        ("<think>a</think>", "no_action"),
        ("<think>a</think>So <answer>B</answer>", "stray_text"),
        ("<think>a</think><answer> </answer>", "no_answer"),
        ("<think>a<tool_response></think><answer>B</answer>", "nested_tag"),
        ("<think>see <image></think><answer>B</answer>", "reserved_text"),
        ("<think>a</think><answer>B</answ", "not_closed"),
        ("<think>a</think><tool_call>seek</tool_call>", "bad_json"),
        ("<think>a</think><tool_call>" + "[" * 100_000 + "</tool_call>", "bad_json"),
        (call('"{"'), "bad_json"),
        ("<think>a</think><tool_call>[1]</tool_call>", "bad_call"),
        ('<think>a</think><tool_call>{"name": "seek_video_frames"}</tool_call>', "bad_call"),
        (call("[4, 8]"), "bad_call"),
        (call('{}, "id": 3'), "bad_call"),
        ('<think>a</think><tool_call>{"name": "crop", "arguments": {}}</tool_call>', "unknown_function"),
        (call('{"query": "car", "speed": 2}'), "bad_arguments"),
        (call('{"query": 3}'), "bad_query"),
        (call('{"query": "see <|im_end|>"}'), "reserved_text"),
        (call('{"query": "<answer>"}'), "nested_tag"),
        (call('{"query": "car", "num_frames": 0}'), "bad_number"),
        (call('{"query": "car", "num_frames": 2.5}'), "bad_number"),
        (call('{"query": "car", "num_frames": true}'), "bad_number"),
        (call('{"query": "car", "start_time": -1}'), "bad_number"),
        (call('{"query": "car", "start_time": "4"}'), "bad_number"),
        (call('{"query": "car", "end_time": NaN}'), "bad_number"),
        (call('{"query": "car", "end_time": ' + "9" * 400 + "}"), "bad_number"),
    ],
)
def test_a_text_that_breaks_the_protocol_is_a_named_fault(text: str, fault: str) -> None:
    parsed = PROTOCOL.parse(text)
    assert isinstance(parsed, Fault)
    assert parsed.name == fault


@pytest.mark.parametrize(
    ("arguments", "action"),
    [
        ('{"query": " a car ", "start_time": 4, "end_time": 8.0, "num_frames": 3}', search(4.0, 8.0, "a car", 3, "")),
        ('{"num_frames": 20, "query": "a car"}', search(None, None, "a car", 20, "")),
        ('{"query": null, "start_time": null, "end_time": 8}', search(None, 8.0, None, None, "")),
        ("{}", search(None, None, None, None, "")),
        ('"{\\"query\\": \\"a car\\"}"', search(None, None, "a car", None, "")),
    ],
)
def test_what_a_call_leaves_out_stays_open(arguments: str, action: Action) -> None:
    assert PROTOCOL.parse(call(arguments)) == Step("a", (action,))


@pytest.mark.parametrize(
    ("start", "end", "fault"),
    [
        (None, None, None),
        (4.0, 65535.0, None),
        (64.0, None, "outside_video"),
        (70.0, 80.0, "outside_video"),
        (8.0, 4.0, "reversed_segment"),
        (8.0, 8.0, "reversed_segment"),
    ],
)
def test_a_span_must_begin_in_the_video_and_run_forward(
    start: float | None, end: float | None, fault: str | None
) -> None:
    found = PROTOCOL.check(search(start, end), SETTING)
    assert (found.name if found else None) == fault


def test_a_span_left_open_is_the_whole_video_and_is_cut_at_its_end() -> None:
    assert PROTOCOL.resolve(search(None, None), SETTING) == search(0.0, 64.0)
    assert PROTOCOL.resolve(search(4.0, 65535.0), SETTING) == search(4.0, 64.0)
    assert PROTOCOL.resolve(answer("B"), SETTING) == answer("B")


def test_candidates_are_two_a_second_and_at_most_512() -> None:
    plan = PROTOCOL.candidates(search(4.2, 6.1), SETTING)
    assert plan is not None and plan.times_s == (4.0, 4.5, 5.0, 5.5, 6.0, 6.5)
    long = Setting(VIDEO.model_copy(update={"duration_s": 3600.0}), None)
    many = PROTOCOL.candidates(search(0.0, 3600.0), long)
    assert many is not None and many.times_s is not None and len(many.times_s) == 512
    assert many.times_s[0] == 0.0 and 3599.9 < many.times_s[-1] < 3600.0


def test_without_a_search_frames_are_candidates_spread_evenly() -> None:
    assert PROTOCOL.zoom_plan(search(4.0, 8.0, count=3), SETTING).times_s == (4.0, 6.0, 8.0)
    eight = PROTOCOL.zoom_plan(search(4.0, 12.0), SETTING)
    assert eight.times_s is not None and len(eight.times_s) == 8 and eight.budget.size(1920, 1080) == (596, 336)
    assert PROTOCOL.zoom_plan(search(4.0, 12.0, count=20), SETTING) == eight
    late = PROTOCOL.zoom_plan(search(62.0, 64.0), SETTING).times_s
    assert late is not None and late[-1] < 64.0


def test_the_overview_shares_its_tokens_among_two_frames_a_second_and_at_most_768() -> None:
    def look(duration: float) -> tuple[int, tuple[int, int]]:
        plan = PROTOCOL.overview_plan(VIDEO.model_copy(update={"duration_s": duration}))
        return len(plan.times_s or ()), plan.budget.size(1920, 1080)

    assert look(0.3) == (1, (596, 336))
    assert look(40.0) == (80, (596, 336))
    assert look(64.0) == (128, (472, 264))
    assert look(3600.0) == (768, (192, 108))
    assert PROTOCOL.verifier_overview_plan(VIDEO) == PROTOCOL.overview_plan(VIDEO)


ANSWERED = turn("x", answer("B"))
LOOKED = turn("x", search(), seen([4.0]))
REFUSED = turn("x", search(70.0, 80.0), told("error", "outside"), error="outside_video")
UNREADABLE = turn(raw="", error="no_think", observation=told("error", "Reason first."))


def earned(turns: list[Turn], final: str | None, completeness: float, asked: Question | None = None) -> float:
    return reward(trajectory(turns, final, asked), completeness)


def test_form_counts_one_accuracy_a_half_and_completeness_a_half() -> None:
    assert earned([LOOKED, ANSWERED], "B", 1.0) == 2.0
    assert earned([LOOKED, ANSWERED], "B", 0.51) == 2.0
    assert earned([LOOKED, ANSWERED], "B", 0.5) == 1.75
    assert earned([LOOKED, ANSWERED], "B", 0.0) == 1.5
    assert earned([LOOKED, LOOKED, REFUSED, ANSWERED], "B", 0.2) == pytest.approx(1.6)
    assert reward(trajectory([LOOKED, ANSWERED], "B"), 1.0, form=0.0, accuracy=2.0, complete=3.0) == 5.0


def test_a_wrong_answer_keeps_the_form_alone_however_complete_the_search() -> None:
    assert earned([LOOKED, ANSWERED], "C", 1.0) == 1.0


def test_without_a_search_the_answer_counts() -> None:
    assert earned([ANSWERED], "B", 0.0) == 1.5


def test_a_turn_out_of_form_or_no_answer_loses_the_form() -> None:
    assert earned([UNREADABLE, LOOKED, ANSWERED], "B", 1.0) == 1.0
    assert earned([LOOKED, LOOKED], None, 1.0) == 0.0
    assert earned([], None, 1.0) == 0.0


def test_a_long_open_answer_is_not_correct() -> None:
    asked = question(choices=(), answer="x" * 120)
    assert earned([LOOKED, ANSWERED], "x" * 120, 1.0, asked) == 1.0
    short = question(choices=(), answer="a blue car")
    assert earned([LOOKED, ANSWERED], "A blue car.", 1.0, short) == 2.0
