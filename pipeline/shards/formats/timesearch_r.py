"""TimeSearch-R's own records (arXiv 2511.05489, github.com/Time-Search/TimeSearch-R).

SFT (`time_r1/dataset/lazy_dataset_sft.py`): a JSON list whose `messages` hold the model's texts only, as lists of
parts. The loader renders system and user itself from `question`, `type` and `duration` (`lazy_dataset.py`,
`prompt/v4.py`), drops the first message, and carries out every call again in the place of the observations, which are
not stored; how it chooses frames is its own affair, so they may be others than the teacher saw. All assistant texts are
learned, and a call that fails is left out without a word: trajectories with a broken turn are rejected.

RL: JSON Lines of `video`, `question`, `target`, `type` and `duration` (`time_r1/reward/v7.py` reads `target.answer`: a
letter for `multiple_choice`, else a text that is judged). The loader takes the file itself, or a YAML list of files
with sampling strategies.

`question` holds the choices, `duration` is rounded as the prompt tells it, and `video` is our path, which `data_root`
is not put before where it is absolute.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.shards.formats.layout import (
    PARTED,
    Columns,
    Example,
    Format,
    Layout,
    Piece,
    all_learned,
    columns,
    parted,
    prompt_sample,
    whole,
)
from prompts.rendering import question_text

SFT = columns(
    ("video", pa.string()),
    ("question", pa.string()),
    ("messages", PARTED),
    ("duration", pa.float64()),
    ("type", pa.string()),
)
RL = columns(
    ("video", pa.string()),
    ("question", pa.string()),
    ("target", pa.struct([("answer", pa.string())])),
    ("type", pa.string()),
    ("duration", pa.float64()),
)


def _asked(example: Example) -> Columns:
    question, video = example.question, example.sample.video
    return {
        "video": video.uri,
        "question": question_text(question),
        "type": "multiple_choice" if question.kind == "multiple_choice" else "open_ended",
        "duration": round(video.duration_s, 1),
    }


def _sft(piece: Piece, pictures: Sequence[Any]) -> Columns:
    asked = _asked(piece.example)
    said = [parted(m.role, m.content) for m in piece.messages if m.role == "assistant"]
    return {**asked, "messages": [parted("user", asked["question"]), *said]}


def _rl(piece: Piece, pictures: Sequence[Any]) -> Columns:
    return {**_asked(piece.example), "target": {"answer": prompt_sample(piece.example).ground_truth}}


TIMESEARCH_R = Format(
    name="timesearch_r",
    about="TimeSearch-R's own: messages whose tool outputs its loader makes anew, and its RL lines",
    layouts={
        ("sft", "reference"): Layout(_sft, SFT, "json", (), "", all_learned),
        ("rl", "reference"): Layout(_rl, RL, "jsonl", (), "", whole),
    },
    protocol="timesearch_r",
)
