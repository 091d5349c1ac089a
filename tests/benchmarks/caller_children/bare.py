"""Calls through a bare `openai` client that keeps nothing: with aiohttp, or as it comes (`bare_httpx`)."""

import asyncio
import base64
from typing import Any

import openai

from tests.benchmarks.caller_children.measuring import Measured, Task, answer, drive


def client_of(task: Task, with_aiohttp: bool) -> openai.AsyncOpenAI:
    if not with_aiohttp:
        return openai.AsyncOpenAI(base_url=task.base_url, max_retries=0, timeout=300.0)
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=task.in_flight)
    http_client = openai.DefaultAioHttpClient(timeout=300.0, limits=limits)
    return openai.AsyncOpenAI(base_url=task.base_url, max_retries=0, timeout=300.0, http_client=http_client)


async def called(task: Task, with_aiohttp: bool) -> Measured:
    jpegs = task.jpegs()
    async with client_of(task, with_aiohttp) as client:

        async def call(number: int) -> str:
            shown = (jpegs[(number + i) % len(jpegs)] for i in range(task.images))
            pictures = [{"type": "image_url", "image_url": {"url": url_of(jpeg)}} for jpeg in shown]
            content: Any = [{"type": "text", "text": task.text(number)}, *pictures] if pictures else task.text(number)
            reply = await client.chat.completions.create(
                model="scripted", max_tokens=256, messages=[{"role": "user", "content": content}]
            )
            return reply.choices[0].message.content or ""

        return await drive(task, call)


def url_of(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def main(with_aiohttp: bool) -> None:
    answer(lambda task: asyncio.run(called(task, with_aiohttp)))


if __name__ == "__main__":
    main(with_aiohttp=True)
