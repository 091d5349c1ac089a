"""A training loop that can be cut off: batches follow from the step's number, and checkpoints hold all the rest."""

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

B = TypeVar("B")

_SAVE_EVERY = 100
_SAY_EVERY = 50
_WARM_UP = 80


@dataclass(frozen=True)
class Plan:
    """name: in the log. steps: batches in all. learning_rate: the highest; it rises over 80 steps, then falls as a
    cosine to 2 %. checkpoint: where the state is saved, and taken up again where it is found."""

    name: str
    steps: int
    learning_rate: float
    checkpoint: Path


@dataclass(frozen=True)
class Task(Generic[B]):
    """module: what is trained. batch: makes the batch of a step, in another process. loss: of a batch, by part."""

    module: torch.nn.Module
    batch: Callable[[int], B]
    loss: Callable[[B], dict[str, torch.Tensor]]


def fit(task: Task[B], plan: Plan, device: torch.device, say: Callable[[str], None]) -> None:
    """Trains to the plan's last step, from its checkpoint where there is one. Says the mean loss of each part."""
    parameters = [p for p in task.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.02)
    first = _restored(task.module, optimizer, plan.checkpoint, device)
    if first >= plan.steps:
        return
    began, seen = time.monotonic(), _Means()
    with Feeder(task.batch, range(first, plan.steps)) as feeder:
        for step in range(first, plan.steps):
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * _share(step, plan.steps)
            with half_precision(device):
                losses = task.loss(feeder.take())
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seen.add(losses)
            if (step + 1) % _SAY_EVERY == 0 or step + 1 == plan.steps:
                say(f"{plan.name} {step + 1}/{plan.steps} {time.monotonic() - began:.0f} s {seen.take()}")
            if (step + 1) % _SAVE_EVERY == 0 or step + 1 == plan.steps:
                _save(task.module, optimizer, step + 1, plan.checkpoint)


def _share(step: int, steps: int) -> float:
    """Of the highest learning rate."""
    return min(1.0, (step + 1) / _WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def half_precision(device: torch.device) -> torch.autocast:
    """A context in bfloat16 where the device is faster in it; of no effect elsewhere."""
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


def _restored(module: torch.nn.Module, optimizer: torch.optim.Optimizer, path: Path, device: torch.device) -> int:
    """The step to go on with."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _save(module: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save({"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, part)
    part.replace(path)


class _Means:
    """Mean losses since they were last taken."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        for name, value in losses.items():
            self._values.setdefault(name, []).append(value.item())

    def take(self) -> dict[str, float]:
        means = {name: round(sum(values) / len(values), 3) for name, values in sorted(self._values.items())}
        self._values.clear()
        return means


class Feeder(Generic[B]):
    """Batches in order, made ahead of time by other processes: a thread would fight for the interpreter.

    Forked, so that what a batch is made of need not be pickled. Use it as a context: it ends its processes.
    """

    def __init__(self, make: Callable[[int], B], steps: range) -> None:
        context = multiprocessing.get_context("fork")
        count = max(1, (os.cpu_count() or 2) // 2)
        self._queues: list[Any] = [context.Queue(4) for _ in range(count)]
        self._workers = [
            context.Process(target=_make, args=(make, steps[i::count], queue), daemon=True)
            for i, queue in enumerate(self._queues)
        ]
        self._taken = 0

    def __enter__(self) -> "Feeder[B]":
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.terminate()
            worker.join()

    def take(self) -> B:
        batch: B = self._queues[self._taken % len(self._queues)].get()
        self._taken += 1
        return batch


def _make(make: Callable[[int], B], steps: range, queue: Any) -> None:
    torch.set_num_threads(1)
    for step in steps:
        queue.put(make(step))
    signal.pause()  # the last batches are read out of this process's memory
