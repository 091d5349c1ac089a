"""The models that the replay benchmark reads with: the embedded one, or one of Qwen2.5-VL-7B's shape at random."""

from typing import Any

import torch

from pipeline.models.build import demo_folder
from pipeline.models.encoding import ChatEncoder
from pipeline.models.loading import load
from tests.tiny_models import QWEN_TEMPLATE, QWEN_VISION_TOKENS, declare_torchvision_operators, tiny_tokenizer


def small() -> tuple[Any, ChatEncoder]:
    """The demo's model in float32 on the CPU."""
    model, processor = load(str(demo_folder()), torch.device("cpu"), torch.float32)
    return model, ChatEncoder(processor)


def qwen_7b() -> tuple[Any, ChatEncoder]:
    """Random weights in bfloat16 on the GPU, in the shape of Qwen/Qwen2.5-VL-7B-Instruct's config.json."""
    declare_torchvision_operators()
    import transformers

    tokenizer = tiny_tokenizer(["<|im_start|>", "<|im_end|>", *QWEN_VISION_TOKENS], eos="<|im_end|>")
    start, end, image, video = tokenizer.convert_tokens_to_ids(QWEN_VISION_TOKENS)
    config = transformers.Qwen2_5_VLConfig(
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "out_hidden_size": 3584,
        },
        text_config={
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "max_position_embeddings": 128000,
            "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
        },
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            model = transformers.Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(),
        chat_template=QWEN_TEMPLATE,
    )
    return model, ChatEncoder(processor)


MODELS = {"small": small, "qwen_7b": qwen_7b}
NEED_GPU = {"qwen_7b"}
