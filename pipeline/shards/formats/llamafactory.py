"""LLaMA-Factory (github.com/hiyouga/LlamaFactory), read from its `src/llamafactory/data/` as of 0.9.5.

`converter.py`: ShareGPT wants user (or observation) and assistant messages in turn after an optional system message,
and skips any other example; relative image paths are looked up in `media_dir`, which is `dataset_dir` by default, so
`--dataset_dir` is the cut's folder. `parser.py` reads `dataset_info.json`, which is written here, from the same folder.
`tools` is a JSON list that a template with Qwen's tool format (`qwen2_vl`, `qwen3_vl`, …) writes after the system text,
byte for byte as the teacher saw it; such tools are taken out of the system text, and all others stay there with `tools`
empty. `mm_plugin.py` stops where the number of `<image>` differs from the number of images.

Learned tokens (`processor/supervised.py`): every assistant message, or with `mask_history: true` the last one only;
there is no mask of a single message. So `llamafactory` holds a trajectory in one record and rejects those with a turn
that must not be learned; `llamafactory-alpaca` holds one record for each learned turn, all before it as history, and
must be trained with `mask_history: true`. That setting also strips earlier thoughts for reasoning templates that do not
preserve them: choose one that does not, such as `qwen3_nothink`, as LongVideo-R1 does.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pipeline.shards.formats.layout import (
    MESSAGE,
    Columns,
    Example,
    Format,
    Layout,
    Piece,
    all_learned,
    columns,
    plain_messages,
    turn_by_turn,
)
from pipeline.shards.formats.tools import apart
from schemas.errors import Rejected

SHAREGPT = columns(("messages", pa.list_(MESSAGE)), ("images", pa.list_(pa.string())))
TOOLED = SHAREGPT.append(pa.field("tools", pa.string()))
ALPACA_TEXT = columns(
    ("instruction", pa.string()),
    ("input", pa.string()),
    ("output", pa.string()),
    ("history", pa.list_(pa.list_(pa.string()))),
    ("system", pa.string()),
)
ALPACA = ALPACA_TEXT.append(pa.field("images", pa.list_(pa.string()))).append(pa.field("tools", pa.string()))
TEXT = ("instruction", "output", "history", "system")

_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "system_tag": "system",
}
_ALPACA_COLUMNS = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "system": "system",
}


def sharegpt_pieces(example: Example) -> list[Piece]:
    """The conversation, where all of it is learned and its roles alternate; else Rejected."""
    return [_alternating(piece) for piece in all_learned(example)]


def alpaca_pieces(example: Example) -> list[Piece]:
    """One piece for each learned turn, where the roles alternate and none is a tool's; else Rejected."""
    pieces = [_alternating(piece) for piece in turn_by_turn(example)]
    if any(m.role == "tool" for piece in pieces for m in piece.messages):
        raise Rejected("tool message", "Alpaca's history knows the user only, whose text templates write otherwise")
    return pieces


def sharegpt(piece: Piece, pictures: Sequence[Any]) -> Columns:
    """`messages` and `images`."""
    return {"messages": plain_messages(piece.messages), "images": list(pictures)}


def tooled(piece: Piece, pictures: Sequence[Any]) -> Columns:
    """`messages`, `images` and `tools`."""
    messages, tools = apart(piece.messages, piece.example.sample.tools)
    return {"messages": plain_messages(messages), "images": list(pictures), "tools": tools}


def alpaca_text(piece: Piece, pictures: Sequence[Any]) -> Columns:
    """The last exchange as `instruction` and `output`, those before it as `history`."""
    texts = [m.content for m in piece.messages]
    system = texts.pop(0) if piece.messages[0].role == "system" else ""
    history = [[user, reply] for user, reply in zip(texts[:-2:2], texts[1:-2:2], strict=True)]
    return {"instruction": texts[-2], "input": "", "output": texts[-1], "history": history, "system": system}


def alpaca(piece: Piece, pictures: Sequence[Any]) -> Columns:
    """The same with `images` and `tools`."""
    messages, tools = apart(piece.messages, piece.example.sample.tools)
    text = alpaca_text(replace(piece, messages=tuple(messages)), pictures)
    return text | {"images": list(pictures), "tools": tools}


def alpaca_info(name: str, suffix: str, splits: Sequence[str]) -> dict[str, bytes]:
    """`dataset_info.json` for records without images."""
    return dataset_info(name, suffix, splits, {"formatting": "alpaca", "columns": _ALPACA_COLUMNS})


def dataset_info(name: str, suffix: str, splits: Sequence[str], entry: Columns) -> dict[str, bytes]:
    """`dataset_info.json` with an entry for each split: the cut's name, and for the test rows its name with `_test`."""
    entries = {
        f"{name}{'_test' if split == 'test' else ''}": {"file_name": f"{split}.{suffix}", **entry} for split in splits
    }
    return {"dataset_info.json": (json.dumps(entries, indent=2) + "\n").encode()}


def tooled_info(name: str, suffix: str, splits: Sequence[str]) -> dict[str, bytes]:
    """The same for messages with images and tools."""
    read = {"messages": "messages", "images": "images", "tools": "tools"}
    return dataset_info(name, suffix, splits, {"formatting": "sharegpt", "columns": read, "tags": _TAGS})


def sharegpt_info(name: str, suffix: str, splits: Sequence[str]) -> dict[str, bytes]:
    """`dataset_info.json` for messages with images."""
    read = {"messages": "messages", "images": "images"}
    return dataset_info(name, suffix, splits, {"formatting": "sharegpt", "columns": read, "tags": _TAGS})


def _alpaca_info(name: str, suffix: str, splits: Sequence[str]) -> dict[str, bytes]:
    read = {**_ALPACA_COLUMNS, "images": "images", "tools": "tools"}
    return dataset_info(name, suffix, splits, {"formatting": "alpaca", "columns": read})


def _alternating(piece: Piece) -> Piece:
    roles = [m.role for m in piece.messages if m.role != "system"]
    asked, replied = roles[::2], roles[1::2]
    if len(asked) != len(replied) or not set(asked) <= {"user", "tool"} or set(replied) != {"assistant"}:
        raise Rejected("roles do not alternate", "the loader skips a conversation whose roles do not alternate")
    return piece


LLAMAFACTORY = Format(
    name="llamafactory",
    about="LLaMA-Factory, ShareGPT: a conversation a record, every assistant message learned",
    layouts={("sft", "files"): Layout(tooled, TOOLED, "jsonl", ("messages",), "images", sharegpt_pieces)},
    beside=tooled_info,
)

LLAMAFACTORY_ALPACA = Format(
    name="llamafactory-alpaca",
    about="LLaMA-Factory, Alpaca with history: a learned turn a record, for `mask_history: true`",
    layouts={("sft", "files"): Layout(alpaca, ALPACA, "jsonl", TEXT, "images", alpaca_pieces)},
    beside=_alpaca_info,
)
