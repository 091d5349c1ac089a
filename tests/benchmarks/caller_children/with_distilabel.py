"""Calls through distilabel's `OpenAILLM`, in batches of as many as may be in flight."""

import time
from importlib.metadata import version

from distilabel.models.llms import OpenAILLM

from tests.benchmarks.caller_children.measuring import Measured, Task, answer, cpu_s


def called(task: Task) -> Measured:
    llm = OpenAILLM(model="scripted", base_url=task.base_url, api_key="none", timeout=300)
    llm.load()

    def batch(numbers: range) -> int:
        chats = [[{"role": "user", "content": task.text(number)}] for number in numbers]
        outputs = llm.generate_outputs(inputs=chats, max_new_tokens=256)
        return sum(bool(output["generations"][0]) for output in outputs)

    batch(range(-1, 0))
    began, cpu_began = time.perf_counter(), cpu_s()
    replies = sum(batch(range(i, min(i + task.in_flight, task.calls))) for i in range(0, task.calls, task.in_flight))
    seconds, used = time.perf_counter() - began, cpu_s() - cpu_began
    return Measured(seconds, used, replies=replies, version=version("distilabel"))


if __name__ == "__main__":
    answer(called)
