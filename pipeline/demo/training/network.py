"""The embedded model's shape: Idefics3 (SmolVLM's class), shrunk, with 16 tokens a picture."""

import importlib
from typing import Any

import numpy as np
import torch

from pipeline.demo.training.meanings import HIDDEN, meanings
from pipeline.demo.training.pictures import GRID, LABELS, PATCHES, SHAPED, SIDE

PATCH = SIDE // PATCHES
SCALE = PATCHES // GRID
TOKENS = GRID * GRID
PATCH_SCALE = 0.1
"""Of what the connector is given, at first: it sums 3072 values, and its image tokens are to be as long as their
meanings, about 2; with values near 1 every step of the optimizer would throw them further than that."""
VISION = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "image_size": SIDE,
    "patch_size": PATCH,
}
Logits = dict[str, torch.Tensor]


def build(tokenizer: Any) -> Any:
    """An untrained Idefics3ForConditionalGeneration for a tokenizer; its patch positions start as sines and cosines."""
    transformers: Any = importlib.import_module("transformers")
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = transformers.Idefics3Config(
        scale_factor=SCALE,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        vision_config=VISION,
        tie_word_embeddings=False,
        text_config={
            **special,
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": HIDDEN,
            "intermediate_size": 640,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        },
    )
    model = transformers.Idefics3ForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(**special, do_sample=True, top_k=0, max_new_tokens=256)
    positions = model.model.vision_model.embeddings.position_embedding.weight
    with torch.no_grad():
        model.model.vision_model.post_layernorm.weight.fill_(PATCH_SCALE)
        positions.copy_(_sines(VISION["hidden_size"], PATCHES))
    return model


def _sines(width: int, grid: int) -> torch.Tensor:
    """Positions of a grid of patches, shape (grid * grid, width)."""
    quarter = width // 4
    rates = 1 / (20 ** (np.arange(quarter) / quarter))
    y, x = np.mgrid[:grid, :grid].astype(float)
    waves = [wave(v.reshape(-1, 1) * rates) for v in (x, y) for wave in (np.sin, np.cos)]
    return torch.tensor(np.concatenate(waves, axis=1), dtype=torch.float32) * 0.3


class Heads(torch.nn.Module):
    """Says of each image token, and of each patch, what it shows. For training only: what it can say, the language
    model can read."""

    def __init__(self) -> None:
        super().__init__()
        of_tokens = {name: torch.nn.Linear(HIDDEN, size) for name, size in LABELS.items()}
        for name, head in of_tokens.items():
            head.weight.data.copy_(2.0 * meanings(name))
            head.weight.requires_grad_(False)  # else the heads learn to read weak traces, and a language model cannot
        self.tokens = torch.nn.ModuleDict(of_tokens)
        self.patches = torch.nn.ModuleDict(
            {name: torch.nn.Linear(VISION["hidden_size"], LABELS[name]) for name in SHAPED}
        )

    def forward(self, patches: torch.Tensor, tokens: torch.Tensor) -> tuple[Logits, Logits]:
        """patches: (pictures, 256, 192); tokens: (pictures, 16, 256). Returns logits by name of tokens, of patches."""
        of_tokens = {name: head(tokens) for name, head in self.tokens.items()}
        return of_tokens, {name: head(patches / PATCH_SCALE) for name, head in self.patches.items()}


def look(model: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The vision tower's patches (n, 256, 192) and the language model's image tokens (n, 16, 256) for uint8 pixels
    (n, 256, 256, 3)."""
    values = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    patches = model.model.vision_model(pixel_values=values).last_hidden_state
    return patches, model.model.connector(patches)
