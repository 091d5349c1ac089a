"""What the children share: a tiny random Qwen2.5-VL and a tokenizer of bytes on disk, and labels as text again.

Run in a trainer's own environment, so nothing of Zoomtrail is imported here.
"""

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
"""In the order in which Qwen2 and its successors have them."""

FIRST_SPECIAL, PUBLISHED_FIRST_SPECIAL = 256, 151643
"""The first one's id: after the bytes, and where the published models have it."""

PAD = "<|image_pad|>"
IGNORED = -100
MERGED = 4
"""Patches behind one token of a picture."""

NEAR = 0.1
"""Mean difference of patches, in units of the processor's normalised pixels, that resizing may make."""

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML with pictures, as Qwen2.5-VL's template writes it where a system message is there."""

Row = dict[str, Any]


def declare_torchvision_operators() -> Any:
    """Lets torchvision's wheel, built for CUDA, be imported beside a CPU build of torch; None where it fits.

    The caller keeps the library alive: its operators go with it.
    """
    found = find_spec("torchvision")
    if found is None or found.origin is None:
        return None
    try:
        for compiled in Path(found.origin).parent.glob("_C*"):
            torch.ops.load_library(str(compiled))
        return None
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library


_OPERATORS = declare_torchvision_operators()


def build_tokenizer(chat: str, first: int) -> Any:
    """A token for each byte, so that decoding gives back what was encoded, and Qwen's special tokens from `first`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    unused = [f"<unused {n}>" for n in range(first - len(alphabet))]
    vocabulary = {letter: n for n, letter in enumerate([*alphabet, *unused])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    fast.chat_template = chat
    return fast


def build_text_model(path: Path, chat: str = CHAT, first: int = FIRST_SPECIAL) -> Path:
    """A tiny Qwen3, which reads no pictures."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = build_tokenizer(chat, first)
    config = Qwen3Config(**_text(tokenizer), head_dim=16)
    Qwen3ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def build_vision_model(path: Path, chat: str = CHAT, first: int = FIRST_SPECIAL) -> Path:
    """A tiny Qwen2.5-VL with the published model's patches and sizes of pictures."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = build_tokenizer(chat, first)
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    ids |= {name: tokenizer.convert_tokens_to_ids(f"<|{name}_pad|>") for name in ("image", "video")}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    config = Qwen2_5_VLConfig(
        **{f"{name}_token_id": number for name, number in ids.items()},
        vision_config={**vision, "fullatt_block_indexes": [1]},
        text_config={**_text(tokenizer), "rope_parameters": {**_ROPE, "mrope_section": [2, 3, 3]}},
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(path)
    parts = (Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor())
    Qwen2_5_VLProcessor(*parts, chat_template=chat).save_pretrained(path)
    return path


_ROPE = {"rope_type": "default", "rope_theta": 1e6}


def _text(tokenizer: Any) -> dict[str, Any]:
    return {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 32768,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "rope_parameters": _ROPE,
    }


def seen(tokenizer: Any, encoded: Any, names: Sequence[str] = (), source: Any = None) -> Row:
    """What a trainer made of one row, given its tokens, labels and pictures.

    text: all that is not padding, the tokens of a picture as one mark; learned: each run of tokens with a label, as
    text; prints: of each picture; columns: the values of `source` under `names`, which a reward is given. Raises
    ValueError where a label is not its token, or the marks are not the pictures' patches.
    """
    ids = _flat(encoded["input_ids"])
    mask = _flat(encoded["attention_mask"]) if encoded.get("attention_mask") is not None else [1] * len(ids)
    labels = _flat(encoded["labels"]) if encoded.get("labels") is not None else [IGNORED] * len(ids)
    kept = [token for token, is_text in zip(ids, mask, strict=True) if is_text]
    pad = tokenizer.convert_tokens_to_ids(PAD)
    folded = [t for n, t in enumerate(kept) if t != pad or n == 0 or kept[n - 1] != pad]
    shown = prints(encoded)
    if kept.count(pad) != sum(len(one) for one in shown) // MERGED:
        raise ValueError(f"{kept.count(pad)} marks for pictures of {[len(one) for one in shown]} patches")
    return {
        "text": _decoded(tokenizer, folded),
        "learned": [_decoded(tokenizer, run) for run in _runs(ids, labels)],
        "prints": shown,
        "columns": {name: source[name] for name in names},
    }


def prints(encoded: Any) -> list[torch.Tensor]:
    """The mean of each patch of each picture, by which it is known again."""
    if encoded.get("image_grid_thw") is None:
        return []
    sizes = torch.as_tensor(encoded["image_grid_thw"]).reshape(-1, 3).prod(dim=1).tolist()
    return list(torch.as_tensor(encoded["pixel_values"]).float().mean(dim=1).split(sizes))


def in_place(found: Sequence[torch.Tensor], files: Sequence[str]) -> int:
    """How many pictures are the files' at their places, of all of them the nearest; -1 where the number differs."""
    from PIL import Image
    from transformers import Qwen2VLImageProcessor

    if len(found) != len(files):
        return -1
    if not files:
        return 0
    opened = [Image.open(path).convert("RGB") for path in files]
    wanted = prints(Qwen2VLImageProcessor()(images=opened, return_tensors="pt"))
    away = [[_distance(one, other) for other in wanted] for one in found]
    return sum(row[n] <= min(row) and row[n] < NEAR for n, row in enumerate(away))


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().mean()) if len(one) == len(other) else float("inf")


def _runs(ids: Sequence[int], labels: Sequence[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for token, label in zip([*ids, 0], [*labels, IGNORED], strict=True):
        if label != IGNORED:
            if label != token:
                raise ValueError(f"label {label} stands at token {token}")
            run.append(token)
        elif run:
            yield run
            run = []


def _flat(tokens: Any) -> list[int]:
    return [int(token) for token in torch.as_tensor(tokens).flatten()]


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def serve(packages: Sequence[str], read: Callable[[Row, Path], list[Row]]) -> None:
    """Reads the cases that the parent wrote (argument 1), writes what the trainer made of each (argument 2)."""
    task = json.loads(Path(sys.argv[1]).read_text())
    found: dict[str, Any] = {}
    for case in task["cases"]:
        try:
            rows = read(case, Path(task["scratch"]))
            for row, files in zip(rows, case["shown"], strict=True):
                row["pictures"] = in_place(row.pop("prints"), files)
            found[case["name"]] = {"rows": rows}
        except Exception as error:
            traceback.print_exc()
            found[case["name"]] = {"error": f"{type(error).__name__}: {error}"}
    answer = {"versions": {name: version(name) for name in packages}, "cases": found}
    Path(sys.argv[2]).write_text(json.dumps(answer))
