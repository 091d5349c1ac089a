"""The whole training, from nothing to the folder that `backend: demo` loads."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.demo.training import bank, language, meanings, network, reader, tower
from pipeline.demo.training.loop import Plan

_EMBEDDING_SCALE = 5.0
"""Text embeddings start this many times larger than transformers makes them, so that image tokens do not drown them."""


@dataclass(frozen=True)
class Curriculum:
    """How long each lesson is: batches of the tower, scenes in the bank, batches of the language model."""

    tower_steps: int = 1400
    n_scenes: int = 5000
    language_steps: int = 2600
    batch: int = 24


def train(
    out: Path, work: Path, curriculum: Curriculum, seed: int, device: torch.device, say: Callable[[str], None]
) -> None:
    """Trains the model and writes it to `out`. Checkpoints lie in `work`: the same call goes on after a cut."""
    torch.manual_seed(seed)
    work.mkdir(parents=True, exist_ok=True)
    model = network.build(_Placeholder()).to(device)
    seeing = Plan("tower", curriculum.tower_steps, 1.2e-3, work / "tower.pt")
    heads = tower.train(model, seeing, curriculum.batch, seed, device, say)
    scenes = bank.build(model, curriculum.n_scenes, seed, device, say)
    processor = reader.processor(language.texts(scenes))
    say(f"tokenizer: {len(processor.tokenizer)} tokens")
    speaking = with_vocabulary(model, processor.tokenizer, device)
    meanings.align(speaking, heads, processor.tokenizer, scenes)
    talking = Plan("language", curriculum.language_steps, 1.5e-3, work / "language.pt")
    language.train(speaking, scenes, processor.tokenizer, talking, seed, device, say)
    save(speaking, processor, out)


class _Placeholder:
    """Stands for the tokenizer while only the tower is trained."""

    pad_token_id = 0
    eos_token_id = 2

    def convert_tokens_to_ids(self, token: str) -> int:
        return 4

    def __len__(self) -> int:
        return 8


def with_vocabulary(model: Any, tokenizer: Any, device: torch.device) -> Any:
    """A fresh language model for a tokenizer, behind the trained tower and its connector."""
    grown = network.build(tokenizer).to(device)
    grown.model.vision_model.load_state_dict(model.model.vision_model.state_dict())
    grown.model.connector.load_state_dict(model.model.connector.state_dict())
    with torch.no_grad():
        grown.get_input_embeddings().weight.mul_(_EMBEDDING_SCALE)
        grown.lm_head.weight.copy_(0.5 * grown.get_input_embeddings().weight)
    return grown


def save(model: Any, processor: Any, out: Path) -> None:
    """Weights in half precision and processor, as save_pretrained writes them, beside what lies in the folder."""
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.to(torch.float16).save_pretrained(part)
    processor.save_pretrained(part)
    out.mkdir(parents=True, exist_ok=True)
    for file in part.iterdir():
        file.replace(out / file.name)
    part.rmdir()
