"""Calls through `EndpointModel`, every reply durable among the calls of a run directory."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage
from pipeline.models.endpoint import EndpointModel
from schemas.config import Endpoint
from tests.benchmarks.caller_children.measuring import Measured, Task, answer, drive


async def called(task: Task) -> Measured:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))  # as a worker has
    config = Endpoint(model="scripted", base_url=task.base_url, max_tokens=256, concurrency=task.in_flight)
    model = EndpointModel(config, "teacher", CallStore(task.scratch))
    jpegs = task.jpegs()

    async def call(number: int) -> str:
        shown = [jpegs[(number + i) % len(jpegs)] for i in range(task.images)]
        return (await model.complete([ChatMessage("user", (task.text(number), *shown))])).text

    try:
        return await drive(task, call)
    finally:
        await model.close()


if __name__ == "__main__":
    answer(lambda task: asyncio.run(called(task)))
