"""How long a model works: by CUDA's own events on a GPU, by the clock on a CPU."""

import time
from collections.abc import Callable
from typing import Any

import torch


class CpuClock:
    """Sums up the seconds of passes; one within another counts once."""

    def __init__(self) -> None:
        self._seconds, self._depth = 0.0, 0

    def run(self, work: Callable[[], Any]) -> Any:
        began, self._depth = time.perf_counter(), self._depth + 1
        try:
            return work()
        finally:
            self._depth -= 1
            self._seconds += 0.0 if self._depth else time.perf_counter() - began

    def taken(self) -> tuple[float, float]:
        """Seconds since this was last asked, and no memory."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds, 0.0


class GpuClock:
    """As `CpuClock`, from when the GPU begins with a pass to when it ends."""

    def __init__(self) -> None:
        self._passes: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._depth = 0

    def run(self, work: Callable[[], Any]) -> Any:
        event: Any = torch.cuda.Event  # untyped in torch
        begin, end = event(enable_timing=True), event(enable_timing=True)
        begin.record()
        self._depth += 1
        try:
            return work()
        finally:
            self._depth -= 1
            end.record()
            if not self._depth:
                self._passes.append((begin, end))

    def taken(self) -> tuple[float, float]:
        """Seconds since this was last asked, and the most memory meanwhile, in GiB; all work is done."""
        torch.cuda.synchronize()
        seconds = sum(begin.elapsed_time(end) for begin, end in self._passes) / 1000
        peak = torch.cuda.max_memory_allocated() / 2**30
        self._passes.clear()
        torch.cuda.reset_peak_memory_stats()
        return seconds, peak


def watch(model: Any, clock: CpuClock | GpuClock) -> None:
    """Has a model's passes, of its vision tower by itself, too, counted from now on."""
    for name in ("forward", "get_image_features"):
        setattr(model, name, _watched(getattr(model, name), clock))


def _watched(run: Callable[..., Any], clock: CpuClock | GpuClock) -> Callable[..., Any]:
    def watched(*arguments: Any, **named: Any) -> Any:
        return clock.run(lambda: run(*arguments, **named))

    return watched
