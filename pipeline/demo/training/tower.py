"""First lesson: the vision tower and the connector learn to tell what every part of a crowded picture shows."""

import math
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.demo.training.network import Heads, Logits, look
from pipeline.demo.training.pictures import LABELS, NONE, SHAPED, Labelled, crowded
from pipeline.demo.world import FIRST_TRAINING_SEED

_WEIGHTS = {"word": 2.0, "floor": 0.3, "background": 0.5}
_NONE_WEIGHT = 0.15
"""Most tokens show no sign and no shape: they count less."""


Batch = tuple[torch.Tensor, Logits, Logits]
"""Pixels uint8 (n, 256, 256, 3); labels int64 (n, 16) by name; of patches (n, 256)."""


def batch(pictures: list[Labelled]) -> Batch:
    pixels = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
    labels = {name: torch.from_numpy(np.stack([p.labels[name] for p in pictures])) for name in LABELS}
    return pixels, labels, {name: torch.from_numpy(np.stack([p.patches[name] for p in pictures])) for name in SHAPED}


def loss(logits: Logits, labels: Logits) -> torch.Tensor:
    """The sum over names of their cross entropies."""
    total = torch.zeros(())
    for name, values in logits.items():
        weight = None
        if name not in ("background", "floor"):
            weight = torch.ones(values.shape[-1])
            weight[NONE] = _NONE_WEIGHT
        entropy = functional.cross_entropy(values.flatten(0, 1).float(), labels[name].flatten(), weight=weight)
        total = total + _WEIGHTS.get(name, 1.0) * entropy
    return total


@torch.no_grad()
def accuracy(model: Any, heads: Heads, sample: Batch) -> dict[str, float]:
    """For each name the share of tokens that show something and are told rightly; `none` cells as `empty`."""
    pixels, labels, _ = sample
    logits, _ = heads(*look(model, pixels))
    found, empty = {}, []
    for name, values in logits.items():
        right, truth = values.argmax(-1) == labels[name], labels[name]
        shown = truth >= 0 if name in ("background", "floor") else truth > 0
        found[name] = right[shown].float().mean().item()
        if name not in ("background", "floor"):
            empty.append(right[truth == 0].float().mean().item())
    return {**found, "empty": min(empty)}


def _pictures(seed: int, size: int, queue: Any) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    while True:
        queue.put(batch([crowded(rng) for _ in range(size)]))


def train(model: Any, heads: Heads, steps: int, size: int, seed: int, device: str, say: Callable[[str], None]) -> None:
    """Trains tower, connector and heads on `steps` batches of `size` fresh pictures."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue(8)
    workers = [
        context.Process(target=_pictures, args=(FIRST_TRAINING_SEED + seed * 10 + i, size, queue), daemon=True)
        for i in range(1)
    ]
    for worker in workers:
        worker.start()
    rng = np.random.default_rng(FIRST_TRAINING_SEED - 1)
    held_out = batch([crowded(rng) for _ in range(96)])
    parameters = [*model.model.vision_model.parameters(), *model.model.connector.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1.2e-3, betas=(0.9, 0.98), weight_decay=0.02)
    began = time.monotonic()
    for step in range(steps):
        scale = min(1.0, (step + 1) / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = 1.2e-3 * scale
        pixels, labels, patches = queue.get()
        with torch.autocast(device, torch.bfloat16):
            of_tokens, of_patches = heads(*look(model, pixels.to(device)))
        value = loss(of_tokens, labels) + 0.5 * loss(of_patches, patches)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 49:
            shown = {k: round(v, 3) for k, v in accuracy(model, heads, held_out).items()} if step % 100 == 99 else ""
            say(f"tower {step + 1}/{steps} {time.monotonic() - began:.0f} s loss {value.item():.3f} {shown}")
    for worker in workers:
        worker.terminate()
