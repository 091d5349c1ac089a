"""TRL (github.com/huggingface/trl), read as of 1.16.0.

`trl/data_utils.py`, `prepare_multimodal_messages`: where contents are texts, all images are put before the first user
message and `<image>` is no placeholder, so contents here are lists of parts, `{"type": "text", "text": …}` or
`{"type": "image", "text": null}`; a part must have no key `image`, which would pass for a picture that is there.
Pictures in a tool message are not counted, so such a row is rejected. Its collators for vision never look at a column
`tools` (`sft_trainer.py`; only rows for a tokenizer have theirs written), and GRPO takes tools from the trainer's own
argument: so there is no such column here, and the tools stay in the system text, which holds them already.

Learned tokens (`trl/trainer/sft_trainer.py`, `DataCollatorForVisionLanguageModeling`): of `messages` the whole
sequence, observations included, unless `assistant_only_loss=True` (transformers 5.18 or later, a chat template with
generation marks), and then every assistant message; of `prompt` and `completion` the completion only, by default. So
`trl` is for `assistant_only_loss=True` and rejects a trajectory with a turn that must not be learned; `trl-steps` holds
one prompt and completion for each learned turn, which says the mask exactly and costs a pass over the prompt each.

A model without vision refuses rows with a column `images`, empty or not, and templates such as Qwen3's take no parts:
for it `--media reference` writes texts alone, and rejects what has pictures. Qwen3's template also takes thoughts out
of a turn and writes them with other line breaks: train with one that leaves it as it is (`chat_template_path`), such
as Qwen3-Instruct-2507's.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.shards.formats.layout import (
    ASKED_ABOUT,
    IMAGE,
    MESSAGE,
    PARTED,
    PLACEHOLDER,
    Columns,
    Format,
    Layout,
    Piece,
    all_learned,
    asked_about,
    columns,
    plain_messages,
    prompt_sample,
    turn_by_turn,
    whole,
)
from schemas.errors import Rejected
from schemas.samples import SampleMessage

_IMAGES = pa.list_(IMAGE)
_TEXTS = pa.list_(MESSAGE)
_REWARD = (
    ("ground_truth", pa.string()),
    *ASKED_ABOUT,
)
SFT = columns(("messages", PARTED), ("images", _IMAGES))
STEPS = columns(("prompt", PARTED), ("completion", PARTED), ("images", _IMAGES))
RL = columns(("prompt", PARTED), ("images", _IMAGES), *_REWARD)
TEXT_SFT = columns(("messages", _TEXTS))
TEXT_STEPS = columns(("prompt", _TEXTS), ("completion", _TEXTS))
TEXT_RL = columns(("prompt", _TEXTS), *_REWARD)

_ENDS = ("prompt", "completion")


def parts(text: str) -> list[Columns]:
    """A content as parts, a picture for each `<image>`."""
    made: list[Columns] = []
    for number, span in enumerate(text.split(PLACEHOLDER)):
        if number:
            made.append({"type": "image", "text": None})
        if span:
            made.append({"type": "text", "text": span})
    return made


def _messages(messages: Sequence[SampleMessage]) -> list[Columns]:
    for message in messages:
        if message.role == "tool" and PLACEHOLDER in message.content:
            raise Rejected("picture in a tool message", "TRL does not fill pictures of tool messages")
    return [{"role": m.role, "content": parts(m.content)} for m in messages]


def _sft(piece: Piece, pictures: Sequence[Any]) -> Columns:
    return {"messages": _messages(piece.messages), "images": list(pictures)}


def _step(piece: Piece, pictures: Sequence[Any]) -> Columns:
    *prompt, completion = piece.messages
    return {"prompt": _messages(prompt), "completion": _messages([completion]), "images": list(pictures)}


def _rl(piece: Piece, pictures: Sequence[Any]) -> Columns:
    return {"prompt": _messages(piece.messages), "images": list(pictures)} | _reward(piece)


def _text_sft(piece: Piece, pictures: Sequence[Any]) -> Columns:
    return {"messages": _texts(piece.messages)}


def _text_step(piece: Piece, pictures: Sequence[Any]) -> Columns:
    *prompt, completion = _texts(piece.messages)
    return {"prompt": prompt, "completion": [completion]}


def _text_rl(piece: Piece, pictures: Sequence[Any]) -> Columns:
    return {"prompt": _texts(piece.messages)} | _reward(piece)


def _texts(messages: Sequence[SampleMessage]) -> list[Columns]:
    if any(PLACEHOLDER in message.content for message in messages):
        raise Rejected("holds pictures", "rows of texts alone are for models without vision")
    return plain_messages(messages)


def _reward(piece: Piece) -> Columns:
    sample = prompt_sample(piece.example)
    return {
        "ground_truth": sample.ground_truth,
        **asked_about(sample),
    }


TRL = Format(
    name="trl",
    about="TRL: a conversation a row for `assistant_only_loss=True`; prompts for GRPO",
    layouts={
        ("sft", "embedded"): Layout(_sft, SFT, "parquet", ("messages",), "images", all_learned),
        ("sft", "reference"): Layout(_text_sft, TEXT_SFT, "parquet", ("messages",), "", all_learned),
        ("rl", "embedded"): Layout(_rl, RL, "parquet", ("prompt",), "images", whole),
        ("rl", "reference"): Layout(_text_rl, TEXT_RL, "parquet", ("prompt",), "", whole),
    },
)

TRL_STEPS = Format(
    name="trl-steps",
    about="TRL: a prompt and completion for each learned turn",
    layouts={
        ("sft", "embedded"): Layout(_step, STEPS, "parquet", _ENDS, "images", turn_by_turn),
        ("sft", "reference"): Layout(_text_step, TEXT_STEPS, "parquet", _ENDS, "", turn_by_turn),
    },
)
