"""ms-swift (github.com/modelscope/ms-swift), read as of 4.6.0.

`swift/dataset/preprocessor/core.py`: JSON Lines with `messages` and `images`; of a message it keeps `role`, `content`,
`loss` and `loss_scale`. Other columns are dropped but for GRPO, which keeps `solution` and, where unused columns are
kept, hands the rest to the reward function; none here is called `video`, `image` or `label`, which it would rename.
Relative image paths are joined to the environment's `ROOT_IMAGE_DIR` (`swift/template/vision_utils.py`): set it to the
cut's folder.

Tools stay in the system text: of a column `tools` ms-swift drops each null (`remove_arrow_padding`), which LongVT's
schema has, and so would write other bytes than the teacher saw.

Learned tokens: `swift/loss_scale/base.py` reads `loss` of an assistant message and learns it where it is true, whatever
the loss scale's strategy. It says exactly what our `train` says, so no trajectory is rejected for its mask. Templates
that write thoughts in their own way change the texts: for Qwen3 choose `--template qwen3_nothinking`.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.shards.formats.layout import (
    ASKED_ABOUT,
    MESSAGE,
    Columns,
    Format,
    Layout,
    Piece,
    asked_about,
    columns,
    plain_messages,
    prompt_sample,
    through_last_learned,
    whole,
)

_WITH_LOSS = pa.struct([("role", pa.string()), ("content", pa.string()), ("loss", pa.bool_())])
SFT = columns(("messages", pa.list_(_WITH_LOSS)), ("images", pa.list_(pa.string())))
RL = columns(
    ("messages", pa.list_(MESSAGE)),
    ("images", pa.list_(pa.string())),
    ("solution", pa.string()),
    *ASKED_ABOUT,
)


def _sft(piece: Piece, pictures: Sequence[Any]) -> Columns:
    messages = [{"role": m.role, "content": m.content, "loss": m.train} for m in piece.messages]
    return {"messages": messages, "images": list(pictures)}


def _rl(piece: Piece, pictures: Sequence[Any]) -> Columns:
    sample = prompt_sample(piece.example)
    return {
        "messages": plain_messages(piece.messages),
        "images": list(pictures),
        "solution": sample.ground_truth,
        **asked_about(sample),
    }


MS_SWIFT = Format(
    name="ms-swift",
    about="ms-swift: JSON Lines with a loss flag for each message",
    layouts={
        ("sft", "files"): Layout(_sft, SFT, "jsonl", ("messages",), "images", through_last_learned),
        ("rl", "files"): Layout(_rl, RL, "jsonl", ("messages",), "images", whole),
    },
)
