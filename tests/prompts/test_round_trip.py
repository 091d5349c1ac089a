"""For every protocol: canonical texts parse to themselves, and no text can do more than be a step or a fault."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.parsing import RESERVED
from prompts.protocol import Fault, Setting, Step, ZoomProtocol
from prompts.protocols import PROTOCOLS, protocol
from schemas.timeline import Segments
from schemas.trajectory import Action
from tests.prompts.examples import VIDEO

SETTING = Setting(VIDEO, Segments(64.0, 4))
TAGS = ("think", "answer", "video_zoom", "tool_response", "tool", "tools", "information", "action", "tool_call")


def _allowed(text: str) -> bool:
    marks = [mark for tag in TAGS for mark in (f"<{tag}>", f"</{tag}>")]
    return text != "" and not any(mark in text for mark in (*marks, *RESERVED))


_words = st.text(st.characters(exclude_categories=["Cs"])) | st.text("<>/\"\\'`{}[](),. \n\tat1=un")
texts = _words.map(str.strip).filter(_allowed)
numbers = st.floats(0.0, 1e6, allow_nan=False)
ids = st.integers(0, 999_999)

zooms = st.builds(
    lambda start, end, fps: Action(call_id="", kind="zoom", start_s=start + 0.0, end_s=end + 0.0, fps=fps),
    numbers,
    numbers,
    st.floats(1e-9, 1e6),
)
captions = st.builds(
    lambda path: Action(call_id="", kind="caption", segment=path), st.tuples(ids, ids) | st.tuples(ids, ids, ids)
)
questions = st.builds(
    lambda path, query: Action(call_id="", kind="video_qa", segment=path, query=query),
    st.tuples(ids, ids, ids),
    texts.filter(lambda text: "get_caption(" not in text and "video_qa(" not in text),
)
answers = st.builds(lambda text: Action(call_id="", kind="answer", answer=text), texts)
choices = st.builds(
    lambda start, end: Action(call_id="", kind="zoom", start_frame=start, end_frame=end),
    st.integers(0, 999_999_999),
    st.integers(0, 999_999_999),
)
moments = st.integers(0, 599_999).map(lambda s: Action(call_id="", kind="time", start_s=float(s)))
seconds = st.floats(-1e6, 1e6, allow_nan=False)
crops = st.builds(
    lambda path, start, end: Action(call_id="", kind="zoom", path=path, start_s=start + 0.0, end_s=end + 0.0),
    texts,
    seconds,
    seconds,
)
intervals = st.builds(
    lambda times: Action(call_id="", kind="zoom", start_s=min(times), end_s=max(times)),
    st.tuples(*[st.integers(0, 9_999_999).map(float)] * 2),
)
braces = st.recursive(st.text("ab \\"), lambda inner: inner.map(lambda text: f"{{{text}}}"), max_leaves=3)
boxed = st.builds(
    lambda text, more: Action(call_id="", kind="answer", answer=f"{text}{more}".strip()),
    texts.filter(lambda text: not set("{}") & set(text)),
    braces,
)
searches = st.builds(
    lambda start, end, query, count: Action(
        call_id="", kind="zoom", start_s=start, end_s=end, query=query, num_frames=count
    ),
    st.none() | numbers.map(lambda number: number + 0.0),
    st.none() | numbers.map(lambda number: number + 0.0),
    st.none() | texts,
    st.none() | st.integers(1, 1_000_000),
)


def alone(actions: st.SearchStrategy[Action]) -> st.SearchStrategy[tuple[Action, ...]]:
    return actions.map(lambda action: (action,))


steps = {
    "videozoomer": alone(zooms | answers),
    "longvideo_r1": alone(captions | questions | answers),
    "framethinker": alone(choices | moments | answers),
    "longvt": alone(answers) | st.lists(crops, min_size=1, max_size=7).map(tuple),
    "love_r1": alone(intervals | boxed),
    "timesearch_r": alone(searches | answers),
}
"""By protocol, the actions of a step."""


@pytest.mark.parametrize("name", sorted(steps))
def test_the_canonical_text_of_every_step_parses_to_that_step(name: str) -> None:
    zooming = protocol(name)

    @given(texts, steps[name])
    def check(think: str, actions: tuple[Action, ...]) -> None:
        step = Step(think.replace("\\boxed{", ""), actions)
        text = zooming.write(step)
        assert zooming.parse(text) == step
        assert zooming.parse(f" \n{text}\n") == step
        if zooming.stop:
            cut = text[: text.rindex("</")]
            assert zooming.parse(cut) == step or "</" in cut.split("</think>")[1]

    check()


EXAMPLES = {
    "videozoomer": [
        '<think>He turns at 12 s; look closer.</think><video_zoom> {"segment": [11.5, 13.0], "fps": 4} </video_zoom>',
        '<think>a</think>\n<video_zoom>{"fps": 0.5, "segment": [0, 20]}</video_zoom>',
        "<think>Now it is clear.\nIt is blue.</think>\n<answer>B. a blue car</answer>",
    ],
    "longvideo_r1": [
        "<think>Caption 2 speaks of a car.</think>\n<tool>get_caption((2,1))</tool>",
        "<think>Deeper.</think><tool>get_caption((2, 1, 4))</tool>",
        '<think>Ask.</think>\n<tool>video_qa((2,1,4), "What \\"colour\\" is it?\\n(A) red")</tool>',
        "<think>Ask.</think>\n<tool>video_qa((2,1,4), what colour is it?)</tool>",
        "<think>Clear.</think>\n<answer>B</answer>",
    ],
    "framethinker": [
        "<think>From 250 to 500.</think>\n<action>choose frames between 250 and 500</action>",
        "<think>He speaks at 0:45.</think><action>get frame number at time 0:45</action>",
        "<think>Clear.\nIt is blue.</think>\n<action>output answer: B. a blue car</action>",
    ],
    "longvt": [
        '<think>a</think><tool_call>{"name":"crop_video","arguments":{"video_path":"v","start_time":3,"end_time":9.5}}'
        "</tool_call>",
        '<think>Two.</think>\n<tool_call>\n{"name": "crop_video", "arguments": {"video_path": "v", "start_time": 1.0, '
        '"end_time": 20.0}}\n</tool_call>\n<tool_call>\n{"name": "crop_video", "arguments": {"video_path": "v", '
        '"start_time": 40.0, "end_time": 41.5}}\n</tool_call>',
        "<think>Clear.\nIt is blue.</think> <answer>a blue car</answer>",
    ],
    "love_r1": [
        "I need to zoom in on the video.\n\nHe turns at 12 s; look closer at \\boxed{[11, 13]}",
        "It must be near the end. \\boxed{[ 50,  62 ]} I zoom in.",
        "I get the answer.\n\nThe car is blue, so it is \\boxed{B}",
        "It says so: \\boxed{\\text{a {blue} car}}.",
    ],
    "timesearch_r": [
        '<think>Search.</think><tool_call>{"name": "seek_video_frames", "arguments": {"query": "a blue car", '
        '"start_time": 11.5, "end_time": 60, "num_frames": 4}}</tool_call>',
        '<think>All.</think>\n<tool_call>\n{"name": "seek_video_frames", "arguments": {"query": null}}\n</tool_call>',
        '<think>a</think><tool_call>{"arguments": "{\\"query\\": \\"car\\"}", "name": "seek_video_frames"}</tool_call>',
        "<think>Now it is clear.\nIt is blue.</think>\n<answer>B. a blue car</answer>",
    ],
}
JUNK = [
    "",
    " ",
    "\x00",
    "é漢字🚗\u202e",
    "\ud83d",
    "<b>bold</b>",
    "<script>alert(1)</script>",
    "&lt;think&gt;",
    "9" * 500,
    "-1",
    "1e999",
    "NaN",
    "true",
    "null",
    "0x10",
    "1_000",
    "\\",
    "\\u003c",
    '"',
    "'",
    "[" * 3000,
    "((((",
    "))",
    "{}",
    "}",
    "\\boxed{",
    "__import__('os')",
    "<image>",
    "<|im_end|>",
    *(f"<{tag}>" for tag in TAGS),
    *(f"</{tag}>" for tag in TAGS),
]


def mutated(text: str, chance: random.Random) -> str:
    """One to four random edits: cut, duplicate, swap two pieces, insert junk, replace a piece by junk, drop a piece."""
    for _ in range(chance.randint(1, 4)):
        i, j = sorted(chance.randint(0, len(text)) for _ in range(2))
        k = chance.randint(j, len(text))
        text = chance.choice(
            [
                text[:j],
                text[i:],
                text[:j] + text[i:],
                text[:i] + text[j:k] + text[i:j] + text[k:],
                text[:j] + chance.choice(JUNK) + text[j:],
                text[:i] + chance.choice(JUNK) + text[min(len(text), i + 3) :],
                text[:i] + text[min(len(text), i + 2) :],
                text + text,
            ]
        )
    return text


@pytest.mark.parametrize("zooming", PROTOCOLS, ids=lambda p: p.name)
def test_two_thousand_mangled_texts_are_steps_or_faults(zooming: ZoomProtocol) -> None:
    chance = random.Random(7)
    found_steps, fault_names = 0, set()
    for number in range(2000):
        text = mutated(EXAMPLES[zooming.name][number % len(EXAMPLES[zooming.name])], chance)
        parsed = zooming.parse(text)
        if isinstance(parsed, Fault):
            fault_names.add(parsed.name)
            assert parsed.message.endswith((".", ")"))
            continue
        found_steps += 1
        assert zooming.parse(zooming.write(parsed)) == parsed
        _carried_out_or_refused(zooming, parsed)
    assert found_steps > 200
    assert len(fault_names) >= 6


def _carried_out_or_refused(zooming: ZoomProtocol, step: Step) -> None:
    for action in step.actions:
        if not action.looks or zooming.check(action, SETTING) is not None:
            continue
        resolved = zooming.resolve(action, SETTING)
        assert resolved.start_s is not None and resolved.end_s is not None
        assert 0 <= resolved.start_s < resolved.end_s
        plan = zooming.zoom_plan(resolved, SETTING)
        times = plan.times_s or tuple(index / VIDEO.fps for index in plan.indices or ())
        assert 1 <= len(times) <= 64
        assert all(0 <= a <= b < 64.0 for a, b in pairwise(times))
