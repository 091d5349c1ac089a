"""Runs of the protocols whose systems have records of their own: real films, real rollouts, scripted texts."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from pipeline.stages.items import Care
from pipeline.stages.teach import TeachStage
from pipeline.stages.teaching import Teaching
from pipeline.store import RunStore
from prompts.protocols import protocol
from schemas.config import Rollout
from schemas.question import Question
from tests.shards.runs import begin, commit, verdict
from tests.stages.scripted import ScriptedModel, planned, question
from tests.stages.test_teach import crop, tree_of

Runs = Callable[[str], RunStore]
"""Gives the run of a protocol by its name."""

BROKEN = "I do not know."
SEEK = (
    '<think>Look.</think><tool_call>{"name": "seek_video_frames", "arguments": {"query": "sign", "start_time": 2, '
    '"end_time": 7, "num_frames": 3}}</tool_call>'
)
ZOOM = "I need to zoom in on the video.\n\nThe sign. \\boxed{[2, 7]}"

ATTEMPTS = {
    "framethinker": (
        "<think>From 20 to 70.</think>\n<action>choose frames between 20 and 70</action>",
        "<think>Green.</think>\n<action>output answer: B</action>",
    ),
    "longvt": (
        f"<think>Two.</think>{crop(2.0, 5.0)}\n{crop(6.0, 9.0)}",
        "<think>Green.</think><answer>B</answer>",
    ),
    "love_r1": (ZOOM, "I get the answer.\n\nGreen. \\boxed{B}"),
    "timesearch_r": (SEEK, "<think>Green.</think><answer>B</answer>"),
}
"""The texts of a sound attempt: a turn that looks, and the answer."""


def published_run(folder: Path, name: str, asked: Question | None = None) -> RunStore:
    """Two attempts at one question about a film of 12 s: attempt 1 breaks the protocol first."""
    item = asked or question()
    tree = tree_of(folder, name)
    left = [list(ATTEMPTS[name]), [BROKEN, *ATTEMPTS[name]]]
    teaching = Teaching(protocol(name), ScriptedModel(lambda messages, sample: left[sample].pop(0)), None, Rollout())
    stage = TeachStage(teaching, 1)
    made = asyncio.run(stage.run([planned(item, n) for n in range(2)], {"clip.mp4": tree}, Care()))
    assert [t.status for t in made] == ["answered"] * 2
    store = begin(str(folder / "run"), [item], 2, name)
    commit(store, "caption", 0, [tree])
    commit(store, "teach", 0, made)
    gains = {"p_gold_steps": (0.5, 0.625, 0.75) if name == "longvt" else (0.5, 0.75), "answer_correct": True}
    commit(store, "replay", 0, [verdict(t, **gains) for t in made])
    return store
