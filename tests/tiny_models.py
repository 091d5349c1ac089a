"""Tiny vision-language models of real architectures, randomly initialised, written to disk for the tests.

Both load with `AutoModelForImageTextToText` and `AutoProcessor`, like the models they stand for: SmolVLM's family
(Idefics3, 64 pixels a side, 16 tokens a picture) and Qwen2.5-VL (native resolution, mRoPE, torchvision needed).
Call `declare_torchvision_operators` before anything imports transformers' Auto classes.
"""

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

IMAGE_SIDE = 64
PATCH = 8

IDEFICS3_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{{ ':' if message['content'][0]['type'] == 'image' else ': ' }}"
    "{% for part in message['content'] %}{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""SmolVLM's: the generation prompt ends with a colon, and an answer starts with a space."""

QWEN_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

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
    import torch

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


def _tokenizer(special: list[str], eos: str) -> Any:
    """Byte-level BPE with a few merges, so that words, spaces and letters join as in real vocabularies."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=380, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token=eos)
    fast.add_special_tokens({"additional_special_tokens": special})
    return fast


def _save(model: Any, processor: Any, path: Path) -> None:
    tokenizer = processor.tokenizer
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(path)
    processor.save_pretrained(path)


def build_idefics3(path: str | Path) -> Path:
    """A tiny Idefics3 with its processor in the folder `path`; always the same weights. Returns the folder."""
    declare_torchvision_operators()
    import torch
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    special = ["<|im_start|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    tokenizer = _tokenizer(special, eos="<end_of_utterance>")
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = Idefics3Config(
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        vision_config={**vision, "image_size": IMAGE_SIDE, "patch_size": PATCH, "initializer_range": 0.2},
        text_config={
            **text,
            **ids,
            "model_type": "llama",
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 32768,
            "initializer_range": 0.2,
        },
    )
    torch.manual_seed(0)
    model = Idefics3ForConditionalGeneration(config)
    side = {"longest_edge": IMAGE_SIDE}
    processor = Idefics3Processor(
        Idefics3ImageProcessor(do_image_splitting=False, size=side, max_image_size=side),
        tokenizer,
        image_seq_len=(IMAGE_SIDE // PATCH) ** 2 // 4,
        chat_template=IDEFICS3_TEMPLATE,
    )
    _save(model, processor, Path(path))
    return Path(path)


def build_siglip(path: str | Path) -> Path:
    """A tiny SigLIP with its processor in the folder `path`; always the same weights. Returns the folder."""
    declare_torchvision_operators()
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    tokenizer = _tokenizer([], eos="</s>")
    text = {**_TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "projection_size": 32}
    config = SiglipConfig(text_config=text, vision_config={**_TOWER, "image_size": IMAGE_SIDE, "patch_size": PATCH})
    processor = SiglipProcessor(SiglipImageProcessor(size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}), tokenizer)
    return _saved(SiglipModel, config, processor, Path(path))


def build_clip(path: str | Path) -> Path:
    """A tiny CLIP with its processor in the folder `path`; always the same weights. Returns the folder."""
    declare_torchvision_operators()
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = _tokenizer([], eos="</s>")
    text = {**_TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "eos_token_id": 2}
    vision = {**_TOWER, "image_size": IMAGE_SIDE, "patch_size": PATCH}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    processor = CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": IMAGE_SIDE}, crop_size=side), tokenizer)
    return _saved(CLIPModel, config, processor, Path(path))


_TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def _saved(kind: Any, config: Any, processor: Any, path: Path) -> Path:
    import torch

    torch.manual_seed(0)
    kind(config).save_pretrained(path)
    processor.save_pretrained(path)
    return path


def build_qwen2_5_vl(path: str | Path) -> Path:
    """A tiny Qwen2.5-VL with its processor in the folder `path`; always the same weights. Returns the folder."""
    declare_torchvision_operators()
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    vision_tokens = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = _tokenizer(["<|im_start|>", "<|im_end|>", *vision_tokens], eos="<|im_end|>")
    start, end, image, video = tokenizer.convert_tokens_to_ids(vision_tokens)
    config = Qwen2_5_VLConfig(
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": PATCH,
            "window_size": 4 * PATCH,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 64,
            "initializer_range": 0.2,
        },
        text_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
            "initializer_range": 0.2,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
        },
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    pixels = {"shortest_edge": 4 * PATCH**2, "longest_edge": IMAGE_SIDE**2}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(patch_size=PATCH, size=pixels),
        tokenizer,
        Qwen2VLVideoProcessor(patch_size=PATCH, size=pixels),
        chat_template=QWEN_TEMPLATE,
    )
    _save(model, processor, Path(path))
    return Path(path)
