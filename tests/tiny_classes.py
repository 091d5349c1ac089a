"""Tiny models of further classes than those two in `tiny_models`: they differ in how they read pictures.

Qwen2-VL; Qwen3-VL, whose vision tower feeds the first text layers, too; SmolVLM; Idefics3 that splits a picture into
tiles; LLaVA-OneVision, which gives a picture that stands alone more tokens than one among others.
"""

from pathlib import Path
from typing import Any

from tests.tiny_models import (
    CORPUS,
    IDEFICS3_TEMPLATE,
    IDEFICS3_TOKENS,
    IMAGE_SIDE,
    PATCH,
    QWEN3_TEMPLATE,
    QWEN_PIXELS,
    QWEN_TEMPLATE,
    QWEN_VISION_TOKENS,
    TOWER,
    idefics3_settings,
    qwen_settings,
    save,
    text_settings,
    tiny_tokenizer,
    transformers_package,
)

LLAVA_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] + ' ' }}{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else '\n' + part['text'] }}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""LLaVA-OneVision's, but for pictures, which stay among the texts: its own puts a message's pictures first."""


def build_qwen2_vl(path: str | Path) -> Path:
    """A tiny Qwen2-VL with its processor in the folder `path`; always the same weights. Returns the folder."""
    transformers = transformers_package()
    tokenizer = tiny_tokenizer(["<|im_start|>", "<|im_end|>", *QWEN_VISION_TOKENS], eos="<|im_end|>")
    processor = transformers.Qwen2VLProcessor(
        transformers.Qwen2VLImageProcessor(patch_size=PATCH, size=QWEN_PIXELS),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(patch_size=PATCH, size=QWEN_PIXELS),
        chat_template=QWEN_TEMPLATE,
    )
    config = transformers.Qwen2VLConfig(
        **qwen_settings(tokenizer, {"embed_dim": 32, "mlp_ratio": 2, "hidden_size": 64})
    )
    return save(transformers.Qwen2VLForConditionalGeneration, config, processor, path)


def build_qwen3_vl(path: str | Path) -> Path:
    """A tiny Qwen3-VL with its processor in the folder `path`; always the same weights. Returns the folder.

    The first of its vision tower's two layers feeds the first text layer.
    """
    transformers = transformers_package()
    tokenizer = tiny_tokenizer(["<|im_start|>", "<|im_end|>", *QWEN_VISION_TOKENS], eos="<|im_end|>")
    processor = transformers.Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessor(patch_size=PATCH, size=QWEN_PIXELS),
        tokenizer,
        transformers.Qwen3VLVideoProcessor(patch_size=PATCH, size=QWEN_PIXELS),
        chat_template=QWEN3_TEMPLATE,
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "out_hidden_size": 64,
        "num_position_embeddings": (IMAGE_SIDE // PATCH) ** 2,
        "deepstack_visual_indexes": [0],
    }
    settings = qwen_settings(tokenizer, vision)
    settings["text_config"]["head_dim"] = 16
    settings["text_config"]["rope_parameters"] |= {"mrope_section": [3, 3, 2], "mrope_interleaved": True}
    return save(transformers.Qwen3VLForConditionalGeneration, transformers.Qwen3VLConfig(**settings), processor, path)


def build_smolvlm(path: str | Path) -> Path:
    """A tiny SmolVLM with its processor in the folder `path`; always the same weights. Returns the folder.

    Its processor needs num2words and torchvision. Pictures are not split.
    """
    transformers = transformers_package()
    tokenizer = tiny_tokenizer(IDEFICS3_TOKENS, eos="<end_of_utterance>")
    side = {"longest_edge": IMAGE_SIDE}
    processor = transformers.SmolVLMProcessor(
        transformers.SmolVLMImageProcessor(do_image_splitting=False, size=side, max_image_size=side),
        tokenizer,
        transformers.SmolVLMVideoProcessor(size=side, max_image_size=side),
        image_seq_len=(IMAGE_SIDE // PATCH) ** 2 // 4,
        chat_template=IDEFICS3_TEMPLATE,
    )
    config = transformers.SmolVLMConfig(**idefics3_settings(tokenizer, IMAGE_SIDE))
    return save(transformers.SmolVLMForConditionalGeneration, config, processor, path)


def build_idefics3_splitting(path: str | Path) -> Path:
    """A tiny Idefics3 with its processor in the folder `path`; always the same weights. Returns the folder.

    A picture becomes up to four tiles, 32 pixels and two tokens a side, and one of the whole: 128 x 96 gives all five.
    """
    transformers = transformers_package()
    tile = IMAGE_SIDE // 2
    places = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    # As in many real vocabularies, the two line feeds between the tiles and the whole are one token.
    corpus = [*CORPUS, *["A.\n\n"] * 4]
    tokenizer = tiny_tokenizer([*IDEFICS3_TOKENS, *places], eos="<end_of_utterance>", corpus=corpus)
    processor = transformers.Idefics3Processor(
        transformers.Idefics3ImageProcessor(size={"longest_edge": IMAGE_SIDE}, max_image_size={"longest_edge": tile}),
        tokenizer,
        image_seq_len=(tile // PATCH) ** 2 // 4,
        chat_template=IDEFICS3_TEMPLATE,
    )
    config = transformers.Idefics3Config(**idefics3_settings(tokenizer, tile))
    return save(transformers.Idefics3ForConditionalGeneration, config, processor, path)


def build_llava_onevision(path: str | Path) -> Path:
    """A tiny LLaVA-OneVision with its processor in the folder `path`; always the same weights. Returns the folder.

    A picture alone in its chat is read as a whole and in two or four tiles, at 24 pixels and nine tokens each, and with
    a token at the end of each row; of several pictures each is read as a whole, ten tokens.
    """
    transformers = transformers_package()
    tokenizer = tiny_tokenizer(["<|im_start|>", "<|im_end|>", "<image>", "<video>"], eos="<|im_end|>")
    tile = 3 * PATCH
    size, grids = {"height": tile, "width": tile}, [[tile, 2 * tile], [2 * tile, tile], [2 * tile, 2 * tile]]
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grids),
        tokenizer,
        transformers.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(tile // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=LLAVA_TEMPLATE,
    )
    vision: dict[str, Any] = {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False}
    config = transformers.LlavaOnevisionConfig(
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grids,
        vision_config={**vision, "image_size": tile, "patch_size": PATCH},
        text_config={**text_settings(tokenizer), "model_type": "qwen2"},
    )
    return save(transformers.LlavaOnevisionForConditionalGeneration, config, processor, path)
