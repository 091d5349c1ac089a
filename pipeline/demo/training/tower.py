"""First lesson: the vision tower and the connector learn to tell what every part of a crowded picture shows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.demo.training.loop import Plan, Task, fit
from pipeline.demo.training.meanings import meanings
from pipeline.demo.training.network import Heads, Logits, look
from pipeline.demo.training.pictures import LABELS, NONE, SHAPED, Labelled, crowded
from pipeline.demo.world import FIRST_TRAINING_SEED

_WEIGHTS = {"floor": 0.3, "background": 0.5, "kind": 1.5, "size": 1.5, "direction": 0.3}
_NONE_WEIGHT = 0.15
"""Most tokens show no sign and no shape: they count less."""


Batch = tuple[torch.Tensor, Logits, Logits]
"""Pixels uint8 (n, 256, 256, 3); labels int64 (n, 16) by name; of patches (n, 256)."""


def batch(pictures: list[Labelled]) -> Batch:
    pixels = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
    labels = {name: torch.from_numpy(np.stack([p.labels[name] for p in pictures])) for name in LABELS}
    return pixels, labels, {name: torch.from_numpy(np.stack([p.patches[name] for p in pictures])) for name in SHAPED}


def on(sample: Batch, device: torch.device) -> Batch:
    pixels, labels, patches = sample

    def moved(group: Logits) -> Logits:
        return {name: values.to(device) for name, values in group.items()}

    return pixels.to(device), moved(labels), moved(patches)


def loss(logits: Logits, labels: Logits) -> torch.Tensor:
    """The sum over names of their cross entropies."""
    total = next(iter(logits.values())).new_zeros(())
    for name, values in logits.items():
        weight = None
        if name not in ("background", "floor"):
            weight = torch.ones(values.shape[-1], device=values.device)
            weight[NONE] = _NONE_WEIGHT
        entropy = functional.cross_entropy(values.flatten(0, 1).float(), labels[name].flatten(), weight=weight)
        total = total + _WEIGHTS.get(name, 1.0) * entropy
    return total


def distance(tokens: torch.Tensor, labels: Logits, codes: Logits) -> torch.Tensor:
    """Mean squared distance of image tokens from the sum of what they show means; those with a sign count more."""
    meant = torch.stack([codes[name][values.clamp(min=0)] for name, values in labels.items()]).sum(0)
    weight = 1.0 + 4.0 * (labels["word"] > 0) + 2.0 * (labels["kind"] > 0)
    return ((tokens - meant).pow(2).sum(-1) * weight).sum() / weight.sum()


@torch.no_grad()
def accuracy(model: Any, heads: Heads, sample: Batch) -> dict[str, float]:
    """For each name the share of tokens that show something and are told rightly; `none` cells as `empty`."""
    pixels, labels, _ = sample
    logits, _ = heads(*look(model, pixels))
    found, empty = {}, []
    for name, values in logits.items():
        right, truth = values.argmax(-1) == labels[name], labels[name]
        shown = truth >= 0 if name in ("background", "floor") else truth > 0
        found[name] = round(right[shown].float().mean().item(), 3)
        if name not in ("background", "floor"):
            empty.append(right[truth == 0].float().mean().item())
    return {**found, "empty": round(min(empty), 3)}


class Seer(torch.nn.Module):
    """What the first lesson trains: vision tower, connector and heads."""

    def __init__(self, model: Any, heads: Heads) -> None:
        super().__init__()
        self.vision, self.connector, self.heads = model.model.vision_model, model.model.connector, heads


def train(model: Any, plan: Plan, size: int, seed: int, device: torch.device, say: Callable[[str], None]) -> None:
    """Trains tower and connector on batches of `size` fresh pictures, and says how well they tell held-out ones."""
    heads = Heads().to(device)

    def pictures(step: int) -> Batch:
        rng = np.random.default_rng((FIRST_TRAINING_SEED + seed, step))
        return batch([crowded(rng) for _ in range(size)])

    codes = {name: meanings(name).to(device) for name in LABELS}

    def losses(sample: Batch) -> dict[str, torch.Tensor]:
        pixels, labels, patches = on(sample, device)
        seen_patches, tokens = look(model, pixels)
        of_tokens, of_patches = heads(seen_patches, tokens)
        return {
            "tokens": loss(of_tokens, labels),
            "patches": loss(of_patches, patches),
            "meanings": distance(tokens.float(), labels, codes),
        }

    fit(Task(Seer(model, heads), pictures, losses), plan, device, say)
    held_out = on(pictures(plan.steps), device)
    say(f"tower: {accuracy(model, heads, held_out)}")
