"""The whole training, from nothing to the folder that `backend: demo` loads."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.demo import world
from pipeline.demo.training import bank, language, network, reader, tower
from pipeline.demo.training.loop import Plan
from pipeline.demo.training.meanings import text_direction

_COPY_SHARE = 0.15
_FIND = 1.5
_TEXT_LENGTH = 1.6
"""Length of a text embedding at the start; a word on a sign has nearly the same."""


@dataclass(frozen=True)
class Curriculum:
    """How long each lesson is: batches of the tower, scenes in the bank, batches of the language model."""

    tower_steps: int
    n_scenes: int
    language_steps: int
    batch: int = 24


def train(
    out: Path, work: Path, curriculum: Curriculum, seed: int, device: torch.device, say: Callable[[str], None]
) -> None:
    """Trains the model and writes it to `out`. Checkpoints lie in `work`: the same call goes on after a cut."""
    torch.manual_seed(seed)
    work.mkdir(parents=True, exist_ok=True)
    model = network.build(_Placeholder()).to(device)
    seeing = Plan("tower", curriculum.tower_steps, 1.2e-3, work / "tower.pt")
    tower.train(model, seeing, curriculum.batch, seed, device, say)
    scenes = bank.kept(work / "bank.pt", lambda: bank.build(model, curriculum.n_scenes, seed, device, say))
    processor = reader.processor(language.texts(scenes))
    say(f"tokenizer: {len(processor.tokenizer)} tokens")
    speaking = with_vocabulary(model, processor.tokenizer, device)
    talking = Plan("language", curriculum.language_steps, 5e-4, work / "language.pt")
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
    """A fresh language model for a tokenizer, behind the trained tower and its connector.

    Its embeddings start on the directions that image tokens were taught, and so does what it says.
    """
    grown = network.build(tokenizer).to(device)
    grown.model.vision_model.load_state_dict(model.model.vision_model.state_dict())
    grown.model.connector.load_state_dict(model.model.connector.state_dict())
    directions = torch.stack([text_direction(tokenizer.decode([i]).strip()) for i in range(len(tokenizer))])
    with torch.no_grad():
        grown.get_input_embeddings().weight.copy_(_TEXT_LENGTH * directions)
        grown.lm_head.weight.copy_(0.5 * _TEXT_LENGTH * directions)
        layers = grown.model.text_model.layers
        _let_find(layers[0].self_attn)
        for layer in layers:
            _let_copy(layer.self_attn)
    return grown


def _let_find(attention: Any) -> None:
    """Lets the heads of the first layer look from a colour, or a word, at the image tokens with a sign of it.

    A colour in a question is then told what its sign says, and a word whether it stands on one: for two fifths of
    them from the start. Found by itself this takes thousands of steps. Half of the key-value heads look for colours.
    """
    size, n_heads = attention.head_dim, attention.k_proj.weight.shape[0] // attention.head_dim
    shared = attention.q_proj.weight.shape[0] // attention.k_proj.weight.shape[0]
    slow = [place for place in range(size) if place % (size // 2) >= size // 4]  # turned little by rotary positions
    for head in range(n_heads):
        label, names = ("board", world.COLOURS) if head < n_heads // 2 else ("word", world.WORDS)
        codes = torch.zeros(len(names), size)
        codes[:, slow] = _apart(len(names), len(slow))
        asked = torch.stack([text_direction(name) for name in names])
        shown = torch.stack([text_direction(f"{label}/{name}") for name in names])
        attention.k_proj.weight[head * size : (head + 1) * size] = _FIND * codes.T @ shown
        for query in range(head * shared, (head + 1) * shared):
            attention.q_proj.weight[query * size : (query + 1) * size] = _FIND * codes.T @ asked


def _apart(count: int, width: int) -> torch.Tensor:
    """Vectors of length 1, shape (count, width): at right angles where there is room for that, else at random."""
    if count <= width:
        return torch.nn.init.orthogonal_(torch.empty(count, width))
    return torch.nn.functional.normalize(torch.randn(count, width), dim=-1)


def _let_copy(attention: Any) -> None:
    """Lets every head pass on what it looks at: what a head writes starts as a part of what it reads.

    To copy is most of what this model does, out of choices and off signs; found by itself it takes thousands of steps.
    """
    values, out = attention.v_proj.weight, attention.o_proj.weight
    rows = torch.nn.init.orthogonal_(torch.empty(values.shape[0], values.shape[1]))
    values.copy_(rows)
    size = attention.head_dim
    groups = out.shape[1] // values.shape[0]
    for head in range(out.shape[1] // size):
        start = head // groups * size
        out[:, head * size : (head + 1) * size] = _COPY_SHARE * rows[start : start + size].T.to(out.device)


def save(model: Any, processor: Any, out: Path) -> None:
    """Weights in half precision and processor, as save_pretrained writes them, beside what lies in the folder."""
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.to(torch.float16).save_pretrained(part)
    processor.save_pretrained(part)
    out.mkdir(parents=True, exist_ok=True)
    for file in part.iterdir():
        file.chmod(0o644)
        file.replace(out / file.name)
    part.rmdir()
