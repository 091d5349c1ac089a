"""Calls through Ray Data's HTTP processor. Processor time is that of all of Ray's processes.

It starts its workers anew for each dataset: what a dataset of one call takes is its start-up, and is taken off.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import ray
from ray.data.llm import HttpRequestProcessorConfig, build_processor

from tests.benchmarks.caller_children.measuring import Measured, Task, answer
from tests.benchmarks.kills import descendants

_TICKS_S = os.sysconf("SC_CLK_TCK")


def tree_cpu_s() -> float:
    """Of this process and all below it."""
    return sum(map(_cpu_s, (os.getpid(), *descendants(os.getpid()))))


def _cpu_s(pid: int) -> float:
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(values[11]) + int(values[12])) / _TICKS_S


def called(task: Task) -> Measured:
    ray.init(address="local", num_cpus=8, include_dashboard=False, logging_level="ERROR")
    config = HttpRequestProcessorConfig(url=f"{task.base_url}/chat/completions", batch_size=16, concurrency=4)

    def asked(row: dict[str, int]) -> dict[str, object]:
        messages = [{"role": "user", "content": task.text(row["id"])}]
        return {"payload": {"model": "scripted", "max_tokens": 256, "messages": messages}}

    def replied(row: dict[str, dict[str, list[dict[str, dict[str, str]]]]]) -> dict[str, str]:
        return {"reply": row["http_response"]["choices"][0]["message"]["content"]}

    processor = build_processor(config, preprocess=asked, postprocess=replied)

    def run(calls: int) -> Measured:
        began, cpu_began = time.perf_counter(), tree_cpu_s()
        rows = processor(ray.data.range(calls)).take_all()
        seconds, used = time.perf_counter() - began, tree_cpu_s() - cpu_began
        return Measured(seconds, used, replies=sum(bool(row["reply"]) for row in rows))

    run(1)  # imports what every later one finds
    first, all_calls = run(1), run(task.calls)
    ray.shutdown()
    return replace(
        all_calls,
        seconds=max(all_calls.seconds - first.seconds, 1e-9),
        cpu_s=max(all_calls.cpu_s - first.cpu_s, 0.0),
        startup_s=first.seconds,
        version=ray.__version__,
    )


if __name__ == "__main__":
    answer(called)
