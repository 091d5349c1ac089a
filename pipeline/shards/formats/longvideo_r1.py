"""LongVideo-R1's own records (arXiv 2602.20913, github.com/qiujihao19/LongVideo-R1).

SFT: `LLaMA-Factory/data/dataset_info.json` reads a JSON list in Alpaca form with history and system, one record for
each step, and `LLaMA-Factory/examples/train_full/qwen3.yaml` trains it with `mask_history: true`: the last turn is
learned, which is what a record here ends with. Swap the chat template as upstream's `training.md` says, so that earlier
thoughts survive.

RL: the columns of `verl-tool/examples/data_preprocess/longvideor1_cgbenchdata.py`. Its reward looks at `data_source`:
`videocaption_cgbench` scores answer and grounding, `videocaption_videomme` the answer only; a question without clue
intervals gets the latter. `metadata` is null there for CG-Bench, and here always. `video_uid` is our video id without
folder and suffix, by which upstream's tool server finds `UID.mp4` and `UID.json` in the folders of its config.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from pipeline.shards.formats.layout import (
    INTERVALS,
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
from pipeline.shards.formats.llamafactory import ALPACA_TEXT, TEXT, alpaca_info, alpaca_pieces, alpaca_text
from schemas.errors import Rejected

RL = columns(
    ("data_source", pa.string()),
    ("prompt", pa.list_(MESSAGE)),
    ("ability", pa.string()),
    ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
    (
        "extra_info",
        pa.struct(
            [
                ("index", pa.int64()),
                ("need_tools_kwargs", pa.bool_()),
                ("video_uid", pa.string()),
                ("split", pa.string()),
                ("clue_intervals", INTERVALS),
                ("width", pa.int64()),
                ("duration", pa.float64()),
                ("fps", pa.float64()),
                ("data_source", pa.string()),
            ]
        ),
    ),
    ("metadata", pa.string()),
)


def _rl(piece: Piece, pictures: Sequence[Any]) -> Columns:
    sample = prompt_sample(piece.example)
    if sample.kind != "multiple_choice":
        raise Rejected("open question", "the published reward compares letters")
    source = "videocaption_cgbench" if sample.clue_intervals else "videocaption_videomme"
    info = {
        "index": piece.example.number,
        "need_tools_kwargs": True,
        "video_uid": PurePosixPath(sample.video.video_id).stem,
        "split": piece.example.split,
        "clue_intervals": [list(interval) for interval in sample.clue_intervals],
        "width": sample.caption_width,
        "duration": sample.video.duration_s,
        "fps": sample.video.fps,
        "data_source": source,
    }
    return {
        "data_source": source,
        "prompt": plain_messages(piece.messages),
        "ability": "get_caption",
        "reward_model": {"style": "rule", "ground_truth": sample.ground_truth},
        "extra_info": info,
        "metadata": None,
    }


LONGVIDEO_R1 = Format(
    name="longvideo_r1",
    about="LongVideo-R1's own: Alpaca for each step, and its RL Parquet",
    layouts={
        ("sft", "reference"): Layout(alpaca_text, ALPACA_TEXT, "json", TEXT, "", alpaca_pieces),
        ("rl", "reference"): Layout(_rl, RL, "parquet", ("prompt",), "", whole),
    },
    protocol="longvideo_r1",
    beside=alpaca_info,
)
