"""LongVT: exact texts, limits, frame plans, and several calls in a turn."""

import pytest

from prompts.longvt import LongVT, alias
from prompts.protocol import Fault, Setting, Step
from schemas.trajectory import Action, Observation, Overview, Turn
from tests.prompts.examples import VIDEO, answer, dialogue, frame, seen, told, turn

PROTOCOL = LongVT()
SETTING = Setting(VIDEO, None)
OVERVIEW = Overview(frames=(frame(0.0), frame(63.96)))

SCHEMA = (
    '{"type": "function", "function": {"name": "crop_video", "description": "Crop a video to a specified duration.", '
    '"parameters": {"type": "object", "properties": {'
    '"video_path": {"type": "string", "description": "Path to the video file", "enum": null}, '
    '"start_time": {"type": "number", "description": "Start time in seconds", "enum": null}, '
    '"end_time": {"type": "number", "description": "End time in seconds, must be > start_time", "enum": null}}, '
    '"required": []}, "strict": false}}'
)
SYSTEM = f"""You are a helpful assistant.

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{SCHEMA}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def crop(start: float, end: float, path: str = "v", call: str = "0.0") -> Action:
    return Action(call_id=call, kind="zoom", path=path, start_s=start, end_s=end)


def called(start: str, end: str, path: str = "v") -> str:
    arguments = f'{{"video_path":"{path}","start_time":{start},"end_time":{end}}}'
    return f'<tool_call>{{"name":"crop_video","arguments":{arguments}}}</tool_call>'


def several(think: str, actions: list[Action], observations: list[Observation], error: str = "") -> Turn:
    """A turn of several calls."""
    return turn(think, error=error).model_copy(update={"actions": tuple(actions), "observations": tuple(observations)})


def test_a_whole_dialogue_is_rendered_to_the_byte() -> None:
    turns = [
        several(
            "Two places.",
            [crop(4.0, 6.0), crop(40.5, 70.0, call="0.1")],
            [seen([4.0, 6.0]), told("error", "end_time (70.0s) exceeds <image>", call="0.1")],
            "outside_video",
        ),
        turn("Again.", crop(10.0, 12.5), seen([10.0])),
        turn(raw="B <image>", error="no_think", observation=told("error", "Reason first.")),
        turn("It is blue.", answer("a blue car")),
    ]
    rendered = [(m.role, m.text, m.trainable) for m in PROTOCOL.messages(dialogue(turns, OVERVIEW))]
    done = "The tool executed successfully. Here are the processed result</tool_response>"
    assert rendered == [
        ("system", SYSTEM, False),
        (
            "user",
            "<image><image>What passes the house?\nA. a red car\nB. a blue car\nC. a bicycle\nD. nothing Think first, "
            "call **crop_video** if needed, then answer. Format strictly as:  <think>...</think>  "
            "<tool_call>...</tool_call> (if tools needed)  <answer>...</answer>. The Video path for this video is: v",
            False,
        ),
        ("assistant", f"<think>Two places.</think>{called('4.0', '6.0')}\n{called('40.5', '70.0')}", False),
        (
            "user",
            f"<tool_response>\n<image><image>{done}\n"
            "<tool_response>\nTool execution failed: end_time (70.0s) exceeds < image></tool_response>",
            False,
        ),
        ("assistant", f"<think>Again.</think>{called('10.0', '12.5')}", True),
        ("user", f"<tool_response>\n<image>{done}", False),
        ("assistant", "B < image>", False),
        ("user", "<tool_response>\nTool execution failed: Reason first.</tool_response>", False),
        ("assistant", "<think>It is blue.</think><answer>a blue car</answer>", True),
    ]


def test_the_tool_that_the_record_names_is_the_one_that_the_model_is_shown() -> None:
    assert PROTOCOL.tools == (SCHEMA,)
    assert PROTOCOL.messages(dialogue([], OVERVIEW))[0].text == SYSTEM


def test_frames_of_several_calls_stand_in_their_order() -> None:
    both = several("a", [crop(4, 6), crop(8, 9, call="0.1")], [seen([4.0, 6.0]), seen([8.0], "0.1")])
    message = PROTOCOL.messages(dialogue([both], OVERVIEW))[3]
    assert [f.time_s for f in message.frames] == [4.0, 6.0, 8.0] and message.text.count("<image>") == 3


def test_no_machine_path_is_shown() -> None:
    video = VIDEO.model_copy(update={"video_id": "/data/videos/day 1/market.mp4", "uri": "/mnt/x/market.mp4"})
    assert alias(video.video_id) == "market.mp4"
    assert alias("C:\\films\\<image>.mp4") == "< image>.mp4"
    shown = "".join(m.text for m in PROTOCOL.messages(dialogue([], OVERVIEW).model_copy(update={"video": video})))
    assert shown.endswith(" The Video path for this video is: market.mp4") and "/mnt" not in shown


def changed(old: str, new: str) -> str:
    """A turn whose one call differs."""
    return f"<think>a</think><tool_call>{CALL.replace(old, new)}</tool_call>"


CALL = '{"name": "crop_video", "arguments": {"video_path": "v", "start_time": 1, "end_time": 2}}'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no_think"),
        (f"<tool_call>{CALL}</tool_call>", "no_think"),
        ("<think> </think><answer>B</answer>", "no_think"),
        ("Sure. <think>a</think><answer>B</answer>", "stray_text"),
        ("<think>a</think>So <answer>B</answer>", "stray_text"),
        ("<think>a</think>", "no_action"),
        ("<think>a</think><answer> </answer>", "no_answer"),
        ("<think>a</think><answer>B</ans", "not_closed"),
        ("<think>a</think><answer><tool_call>B</tool_call></answer>", "nested_tag"),
        ("<think>a<tool_response></think><answer>B</answer>", "nested_tag"),
        ("<think>see <image></think><answer>B</answer>", "reserved_text"),
        ("<think>a</think><tool_call>crop it</tool_call>", "bad_json"),
        ("<think>a</think><tool_call>" + "[" * 100_000 + "</tool_call>", "bad_json"),
        (f"<think>a</think><tool_call>{CALL}</tool_call><tool_call>crop</tool_call>", "bad_json"),
        (f"<think>a</think><tool_call>{CALL}{CALL}</tool_call>", "bad_json"),
        (f"<think>a</think><tool_call>[{CALL}]</tool_call>", "bad_call"),
        ('<think>a</think><tool_call>{"name": "crop_video"}</tool_call>', "bad_call"),
        (changed("crop_video", "open"), "unknown_function"),
        ('<think>a</think><tool_call>{"name": "crop_video", "arguments": [1, 2]}</tool_call>', "bad_arguments"),
        (changed("end_time", "stop"), "bad_arguments"),
        (changed("2}", '2, "x": 1}'), "bad_arguments"),
        (changed('"v"', "7"), "bad_path"),
        (changed('"v"', '" "'), "bad_path"),
        (changed('"v"', '"\\u003cimage>"'), "reserved_text"),
        (changed('"v"', '"\\u003canswer>"'), "nested_tag"),
        (changed("1", "NaN"), "bad_number"),
        (changed("1", "true"), "bad_number"),
        (changed("1", '"1"'), "bad_number"),
        (changed("1", "9" * 400), "bad_number"),
    ],
)
def test_a_text_that_breaks_the_protocol_is_a_named_fault(text: str, fault: str) -> None:
    parsed = PROTOCOL.parse(text)
    assert isinstance(parsed, Fault)
    assert parsed.name == fault


@pytest.mark.parametrize(
    "text",
    [
        f"<think>a</think>{called('1.0', '2.0')}",
        f" <think> a </think>\n\n<tool_call>\n{CALL}\n</tool_call>\n<tool_response>\nI see",
        f"<think>a</think><tool_call>{CALL}",
        f"<think>a</think><tool_call>{CALL}</tool_call> and so <answer>B</answer>",
    ],
)
def test_spaces_a_stripped_stop_text_and_what_follows_the_calls_do_not_matter(text: str) -> None:
    assert PROTOCOL.parse(text) == Step("a", (crop(1.0, 2.0, call=""),))


def test_several_calls_are_one_step_and_an_answer_stands_alone() -> None:
    calls = f"{called('1.0', '2.0')}\n {called('3.0', '4.5')}<tool_call>{CALL}"
    parsed = PROTOCOL.parse(f"<think>a</think>{calls}")
    assert parsed == Step("a", (crop(1, 2, call=""), crop(3, 4.5, call=""), crop(1, 2, call="")))
    after = PROTOCOL.parse(f"<think>a</think>{called('1.0', '2.0')}<answer>B</answer>")
    assert after == Step("a", (crop(1, 2, call=""),))
    assert PROTOCOL.parse(f"<think>a</think><answer>B</answer>{called('1', '2')}") == Step("a", (answer("B", ""),))


def test_a_lone_surrogate_in_a_path_is_replaced() -> None:
    parsed = PROTOCOL.parse(changed('"v"', '"\\ud83d"'))
    assert isinstance(parsed, Step) and parsed.actions[0].path == "\ufffd"
    assert PROTOCOL.parse(PROTOCOL.write(parsed)) == parsed


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (crop(0.0, 64.0), None),
        (crop(63.0, 63.5), None),
        (crop(-1.0, 5.0), "start_time must be non-negative, got -1.0"),
        (crop(5.0, 5.0), "end_time (5.0) must be greater than start_time (5.0)"),
        (crop(1.0, 2.0, "/etc/passwd"), "Video file not found: /etc/passwd"),
        (crop(64.0, 65.0), "start_time (64.0s) exceeds video duration (64.00s)"),
        (crop(60.0, 64.5), "end_time (64.5s) exceeds video duration (64.00s)"),
        (answer("B"), None),
    ],
)
def test_a_crop_must_be_of_this_video_and_inside_it(action: Action, message: str | None) -> None:
    found = PROTOCOL.check(action, SETTING)
    assert (found.message if found else None) == message


def test_a_window_may_end_where_a_refusal_says_that_the_video_ends() -> None:
    setting = Setting(VIDEO.model_copy(update={"duration_s": 63.996}), None)
    assert PROTOCOL.check(crop(60.0, 64.0), setting) is None
    assert PROTOCOL.check(crop(60.0, 64.01), setting) is not None
    assert max(PROTOCOL.zoom_plan(crop(60.0, 64.0), setting).times_s or ()) < 63.996


def test_the_sixth_call_is_refused_and_an_answer_never() -> None:
    assert PROTOCOL.check(crop(1, 2), Setting(VIDEO, None, calls_before=4)) is None
    sixth = PROTOCOL.check(crop(1, 2), Setting(VIDEO, None, calls_before=5))
    assert sixth is not None and sixth.name == "too_many_calls"
    assert PROTOCOL.check(answer("B"), Setting(VIDEO, None, calls_before=5)) is None
    assert PROTOCOL.default_max_turns == 6


def test_the_overview_is_a_frame_a_second_an_even_number_at_most_512() -> None:
    def times(duration: float) -> tuple[float, ...]:
        plan = PROTOCOL.overview_plan(VIDEO.model_copy(update={"duration_s": duration}))
        assert plan.budget.size(1920, 1080) == (298, 168)
        return plan.times_s or ()

    assert len(times(64.0)) == len(times(63.9999)) == 64 and len(times(65.9)) == 64 and len(times(1.5)) == 2
    assert len(times(511.9)) == 510 and len(times(3600.0)) == 512
    assert times(64.0)[0] == 0.0 and 63.99 < times(64.0)[-1] < 64.0
    assert times(0.04) == (0.0,)


def test_a_verifier_sees_32_frames_of_the_overview() -> None:
    shown, read = PROTOCOL.overview_plan(VIDEO).times_s or (), PROTOCOL.verifier_overview_plan(VIDEO).times_s or ()
    assert len(read) == 32 and set(read) <= set(shown) and (read[0], read[-1]) == (shown[0], shown[-1])


def test_a_crop_is_a_frame_a_second_from_start_to_end_at_most_128() -> None:
    def times(start: float, end: float) -> tuple[float, ...]:
        return (
            PROTOCOL.zoom_plan(crop(start, end), Setting(VIDEO.model_copy(update={"duration_s": 900.0}), None)).times_s
            or ()
        )

    assert times(4.0, 10.0) == (4.0, 5.2, 6.4, 7.6, 8.8, 10.0)
    assert len(times(4.0, 9.9)) == 4 and times(4.0, 4.5) == (4.0, 4.5) and times(4.0, 4.01) == (4.0,)
    assert len(times(0.0, 500.0)) == 128
    assert PROTOCOL.resolve(crop(0.0, 256.0), SETTING).fps == 0.5
    assert PROTOCOL.resolve(answer("B"), SETTING) == answer("B")
