"""Tiny vision-language models of real architectures, randomly initialised, written to disk for the tests.

They load with `AutoModelForImageTextToText` and `AutoProcessor`, like the models they stand for: SmolVLM's family
(Idefics3, 64 pixels a side, 16 tokens a picture) and Qwen2.5-VL (native resolution, mRoPE, torchvision needed).
More classes are in `tiny_classes`, made of the same parts. There are two embedders, too.
Call `declare_torchvision_operators` before anything imports transformers' Auto classes.
"""

import importlib
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

IMAGE_SIDE = 64
PATCH = 8
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}

QWEN_VISION_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_PIXELS = {"shortest_edge": 4 * PATCH**2, "longest_edge": IMAGE_SIDE**2}
"""The fewest and the most pixels of a picture: 1 to 16 tokens."""

IDEFICS3_TOKENS = ["<|im_start|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]

IDEFICS3_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{{ ':' if message['content'][0]['type'] == 'image' else ': ' }}"
    "{% for part in message['content'] %}{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""SmolVLM's: the generation prompt ends with a colon, and an answer starts with a space."""

QWEN3_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

QWEN_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    + QWEN3_TEMPLATE
)
"""Of Qwen2-VL and Qwen2.5-VL: a chat without a system message gets one."""

CORPUS = [
    "User: What is shown at 12.5 seconds? A. red B. green C. blue D. none of these. Assistant: A",
    "system user assistant You are a helpful assistant. The answer is B. The answer is (C) red green blue",
]


@cache
def declare_torchvision_operators() -> Any:
    """Lets torchvision's plain wheel, built for CUDA, be imported beside a CPU build of torch; no-op where it fits.

    The wheel stands apart from the test environment (`make setup` puts it there): what runs in a process of its own
    shall not meet it. The cache keeps the returned library alive: its operators go with it.
    """
    torch: Any = importlib.import_module("torch")
    if find_spec("torchvision") is None:
        sys.path.append(str(Path(sys.prefix) / "torchvision"))
    torchvision = find_spec("torchvision")
    if torchvision is None or torchvision.origin is None:
        return None
    try:
        for compiled in Path(torchvision.origin).parent.glob("_C*"):
            torch.ops.load_library(str(compiled))
        return None
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library


def transformers_package() -> Any:
    """Untyped (its own types are partial), and with the torchvision that its processors need, where there is one."""
    declare_torchvision_operators()
    return importlib.import_module("transformers")


def tiny_tokenizer(special: list[str], eos: str, corpus: list[str] = CORPUS) -> Any:
    """Byte-level BPE with a few merges, so that words, spaces and letters join as in real vocabularies."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=380, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    kind = transformers_package().PreTrainedTokenizerFast
    fast = kind(tokenizer_object=tokenizer, pad_token="<pad>", eos_token=eos)
    fast.add_special_tokens({"additional_special_tokens": special})
    return fast


def text_settings(tokenizer: Any) -> dict[str, Any]:
    """A language model of two layers, whose weights are large enough that all it reads moves its logits."""
    return {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 32768,
        "initializer_range": 0.2,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }


def idefics3_settings(tokenizer: Any, image_side: int) -> dict[str, Any]:
    """What the configurations of Idefics3 and SmolVLM have in common. image_side: of what its vision tower reads."""
    return {
        "scale_factor": 2,
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "pad_token_id": tokenizer.pad_token_id,
        "vision_config": {**TOWER, "image_size": image_side, "patch_size": PATCH, "initializer_range": 0.2},
        "text_config": {**text_settings(tokenizer), "model_type": "llama"},
    }


def qwen_settings(tokenizer: Any, vision: dict[str, Any]) -> dict[str, Any]:
    """What the configurations of the Qwen-VL models have in common, beside `vision`, their tower's own settings."""
    start, end, image, video = tokenizer.convert_tokens_to_ids(QWEN_VISION_TOKENS)
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6}
    return {
        "image_token_id": image,
        "video_token_id": video,
        "vision_start_token_id": start,
        "vision_end_token_id": end,
        "vision_config": {"depth": 2, "num_heads": 2, "patch_size": PATCH, "initializer_range": 0.2, **vision},
        "text_config": {**text_settings(tokenizer), "rope_parameters": rope},
    }


def save(kind: Any, config: Any, processor: Any, path: str | Path) -> Path:
    """A model of this kind, always with the same weights, and its processor in the folder `path`, which it returns."""
    import torch

    torch.manual_seed(0)
    model = kind(config)
    if model.can_generate():
        model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
        model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return Path(path)


def build_idefics3(path: str | Path) -> Path:
    """A tiny Idefics3 with its processor in the folder `path`; always the same weights. Returns the folder."""
    transformers = transformers_package()
    tokenizer = tiny_tokenizer(IDEFICS3_TOKENS, eos="<end_of_utterance>")
    side = {"longest_edge": IMAGE_SIDE}
    processor = transformers.Idefics3Processor(
        transformers.Idefics3ImageProcessor(do_image_splitting=False, size=side, max_image_size=side),
        tokenizer,
        image_seq_len=(IMAGE_SIDE // PATCH) ** 2 // 4,
        chat_template=IDEFICS3_TEMPLATE,
    )
    config = transformers.Idefics3Config(**idefics3_settings(tokenizer, IMAGE_SIDE))
    return save(transformers.Idefics3ForConditionalGeneration, config, processor, path)


def build_qwen2_5_vl(path: str | Path) -> Path:
    """A tiny Qwen2.5-VL with its processor in the folder `path`; always the same weights. Returns the folder."""
    transformers = transformers_package()
    tokenizer = tiny_tokenizer(["<|im_start|>", "<|im_end|>", *QWEN_VISION_TOKENS], eos="<|im_end|>")
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(patch_size=PATCH, size=QWEN_PIXELS),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(patch_size=PATCH, size=QWEN_PIXELS),
        chat_template=QWEN_TEMPLATE,
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "window_size": 4 * PATCH,
        "fullatt_block_indexes": [1],
        "out_hidden_size": 64,
    }
    config = transformers.Qwen2_5_VLConfig(**qwen_settings(tokenizer, vision))
    return save(transformers.Qwen2_5_VLForConditionalGeneration, config, processor, path)


def build_siglip(path: str | Path) -> Path:
    """A tiny SigLIP with its processor in the folder `path`; always the same weights. Returns the folder."""
    transformers = transformers_package()
    tokenizer = tiny_tokenizer([], eos="</s>")
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "projection_size": 32}
    config = transformers.SiglipConfig(
        text_config=text, vision_config={**TOWER, "image_size": IMAGE_SIDE, "patch_size": PATCH}
    )
    processor = transformers.SiglipProcessor(
        transformers.SiglipImageProcessor(size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}), tokenizer
    )
    return save(transformers.SiglipModel, config, processor, path)


def build_clip(path: str | Path) -> Path:
    """A tiny CLIP with its processor in the folder `path`; always the same weights. Returns the folder."""
    transformers = transformers_package()
    tokenizer = tiny_tokenizer([], eos="</s>")
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "eos_token_id": 2}
    vision = {**TOWER, "image_size": IMAGE_SIDE, "patch_size": PATCH}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    processor = transformers.CLIPProcessor(
        transformers.CLIPImageProcessor(size={"shortest_edge": IMAGE_SIDE}, crop_size=side), tokenizer
    )
    return save(transformers.CLIPModel, config, processor, path)
