"""FrameThinker's own RL records (arXiv 2509.24304, github.com/lcqysl/FrameThinker-RL).

The columns are those of the row that its authors published (issue #4 of `lcqysl/FrameThinker`): verl Parquet, pictures
as PNG bytes whose `path` is null, one for each `frame N: <image>` of the prompt. `verl/utils/dataset/rl_dataset.py`
reads `fps` (where it is missing, upstream takes the text "30"), `video_path`, `total_frames`, `height` and `width` from
`extra_info`; the environment (`envs/visual_agent/think_with_video.py`) then takes height and width from the first
picture, and so do we. `data_source` is `vstar`, which chooses the reward (`reward_score/__init__.py`); that compares
one word of the answer with `ground_truth`, so open questions are rejected.

There is no SFT form: `examples/agent/SFT.json` could not be had, so its layout is unknown here; use `llamafactory`.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.shards.formats.layout import (
    IMAGE,
    MESSAGE,
    Columns,
    Format,
    Layout,
    Piece,
    columns,
    plain_messages,
    prompt_sample,
    whole,
)
from prompts.rendering import question_text
from schemas.errors import Rejected

RL = columns(
    ("data_source", pa.string()),
    ("prompt", pa.list_(MESSAGE)),
    ("images", pa.list_(IMAGE)),
    ("ability", pa.string()),
    ("env_name", pa.string()),
    ("reward_model", pa.struct([("ground_truth", pa.string()), ("style", pa.string())])),
    (
        "extra_info",
        pa.struct(
            [
                ("fps", pa.float64()),
                ("height", pa.int64()),
                ("width", pa.int64()),
                ("total_frames", pa.int64()),
                ("video_path", pa.string()),
                ("answer", pa.string()),
                ("question", pa.string()),
                ("split", pa.string()),
                ("index", pa.int64()),
            ]
        ),
    ),
)


def _rl(piece: Piece, pictures: Sequence[Any]) -> Columns:
    sample = prompt_sample(piece.example)
    if sample.kind != "multiple_choice":
        raise Rejected("open question", "the published reward compares one word")
    first = piece.images[0]
    return {
        "data_source": "vstar",
        "prompt": plain_messages(piece.messages),
        "images": [{"bytes": picture["bytes"], "path": None} for picture in pictures],
        "ability": "vl_video_reasoning",
        "env_name": "think_with_video",
        "reward_model": {"ground_truth": sample.ground_truth, "style": "rule"},
        "extra_info": {
            "fps": sample.video.fps,
            "height": first.height,
            "width": first.width,
            "total_frames": sample.video.n_frames,
            "video_path": sample.video.uri,
            "answer": sample.ground_truth,
            "question": question_text(piece.example.question),
            "split": piece.example.split,
            "index": piece.example.number,
        },
    }


FRAMETHINKER = Format(
    name="framethinker",
    about="FrameThinker's own: RL Parquet with PNG bytes",
    layouts={("rl", "embedded"): Layout(_rl, RL, "parquet", ("prompt",), "images", whole, "png")},
    protocol="framethinker",
)
