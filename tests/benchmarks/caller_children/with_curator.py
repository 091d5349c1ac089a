"""Calls through bespokelabs-curator's litellm backend (that for OpenAI downloads a tokenizer when it starts)."""

import os
import time
from importlib.metadata import version

from tests.benchmarks.caller_children.measuring import Measured, Task, answer, cpu_s

os.environ |= {"TELEMETRY_ENABLED": "0", "CURATOR_DISABLE_RICH_DISPLAY": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def called(task: Task) -> Measured:
    os.environ["CURATOR_CACHE_DIR"] = f"{task.scratch}/cache"
    from bespokelabs import curator

    class Asked(curator.LLM):  # type: ignore[misc]
        def prompt(self, row: dict[str, str]) -> str:
            return row["text"]

        def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
            return {"reply": response}

    limits = {"max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**10}
    asked = Asked(
        model_name="openai/scripted",
        backend="litellm",
        generation_params={"max_tokens": 256},
        backend_params={
            "base_url": task.base_url,
            "max_concurrent_requests": task.in_flight,
            "require_all_responses": False,
            "request_timeout": 300,
            **limits,
        },
    )
    asked([{"text": task.text(-1)}])
    began, cpu_began = time.perf_counter(), cpu_s()
    response = asked([{"text": task.text(number)} for number in range(task.calls)])
    seconds, used = time.perf_counter() - began, cpu_s() - cpu_began
    rows = getattr(response, "dataset", response)
    replies = sum(bool(row["reply"]) for row in rows)
    return Measured(seconds, used, replies=replies, version=version("bespokelabs-curator"))


if __name__ == "__main__":
    answer(called)
