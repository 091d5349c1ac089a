"""LOVE-R1's own records (arXiv 2509.24786, github.com/HumanMLLM/LOVE-R1).

SFT (`src/r1-v/src/open_r1/sft_video.py`): a JSON list with a record for each step. The loader decodes `video`, burns
the seconds in, shows the whole video and each of `zoomin_intervals` (32, 24 or 16 frames with one, two or more), and
puts the instruction after the question where a record has `cot_data`. So a record holds what differs: the question, the
intervals zoomed before the step, and the step's text. All text tokens are learned there, the prompt's too.

What the loader would show otherwise than the teacher saw is rejected: a zoom under five seconds, which it widens, and a
step after an invalid one, since it knows no complaint. Our sentence that a step is the last is left out, as upstream
has none; frames of the whole video are twice as large up to 120 s here, and up to 60 s in our rendering.

RL (`grpo.py`, `trainer/grpo_trainer.py`): single steps. With `tgt` the step must zoom, and is right where it overlaps
one of these intervals: so are questions with clue intervals. Without it the step may answer, which is compared by its
first letter: an open question without clue intervals is rejected. `zoomin_intervals` is empty: nothing was zoomed yet.
"""

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.shards.formats.layout import (
    INTERVALS,
    PARTED,
    PLACEHOLDER,
    Columns,
    Format,
    Layout,
    Piece,
    all_learned,
    columns,
    parted,
    prompt_sample,
    whole,
)
from prompts.love_r1 import INSTRUCTION, LAST_STEP, asked
from prompts.rendering import choice_lines, plain
from schemas.errors import Rejected

SFT = columns(
    ("video", pa.string()),
    ("messages", PARTED),
    ("cot_data", pa.bool_()),
    ("zoomin_intervals", pa.list_(pa.list_(pa.int64()))),
)
RL = columns(
    ("path", pa.string()),
    ("problem", pa.string()),
    ("options", pa.list_(pa.string())),
    ("problem_type", pa.string()),
    ("solution", pa.string()),
    ("data_type", pa.string()),
    ("tgt", INTERVALS),
    ("zoomin_intervals", pa.list_(pa.list_(pa.int64()))),
)

SHORTEST_S = 5
"""A shorter zoom is replaced by its middle and three seconds on each side (`sft_video.py`)."""

_CLIP = re.compile(r"Subset zoom-in video clip \[(\d+), (\d+)\]:")


def _sft(piece: Piece, pictures: Sequence[Any]) -> Columns:
    *_, state, step = piece.messages
    shown, _, task = state.content.rpartition(PLACEHOLDER)
    question = asked(piece.example.question)
    if task not in (question + INSTRUCTION, question + INSTRUCTION + LAST_STEP):
        raise Rejected("follows an invalid step", "the published prompt tells nothing of it")
    zoomed = [[int(start), int(end)] for start, end in _CLIP.findall(shown)]
    if any(end - start < SHORTEST_S for start, end in zoomed):
        raise Rejected("zoom under 5 s", "the published loader would show a longer clip")
    return {
        "video": piece.example.sample.video.uri,
        "messages": [parted("user", question), parted("assistant", step.content)],
        "cot_data": True,
        "zoomin_intervals": zoomed,
    }


def _rl(piece: Piece, pictures: Sequence[Any]) -> Columns:
    sample, question = prompt_sample(piece.example), piece.example.question
    chosen = sample.kind == "multiple_choice"
    if not chosen and not sample.clue_intervals:
        raise Rejected("open question", "the published reward compares letters")
    return {
        "path": sample.video.uri,
        "problem": plain(question.text) + ("\n" if chosen else ""),
        "options": choice_lines(question),
        "problem_type": "multiple choice" if chosen else "free-form",
        "solution": f"<answer>{sample.ground_truth}</answer>",
        "data_type": "video",
        "tgt": [list(interval) for interval in sample.clue_intervals] or None,
        "zoomin_intervals": [],
    }


LOVE_R1 = Format(
    name="love_r1",
    about="LOVE-R1's own: a record for each step, whose clips its loader decodes, and its RL JSON",
    layouts={
        ("sft", "reference"): Layout(_sft, SFT, "json", (), "", all_learned),
        ("rl", "reference"): Layout(_rl, RL, "json", (), "", whole),
    },
    protocol="love_r1",
)
