"""What comes over the wire: bounded in time and size, of a named cause where it fails, and without the key."""

import asyncio
import json
import pickle
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from aiohttp import web

from pipeline.models.wire import MOST_BYTES, Unanswered, Wire
from schemas.config import Endpoint
from tests.server_faults import GIGANTIC_BYTES, commit

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello \ud800 there"}]}
REPLY = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}]}
KEY = "sk-recognisable-0123456789"


@asynccontextmanager
async def wire_to(handler: Handler, **settings: Any) -> AsyncIterator[Wire]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    wire = Wire(Endpoint(model="m", base_url=url, **{"timeout_s": 5.0, **settings}))
    try:
        yield wire
    finally:
        await wire.close()
        await runner.cleanup()


async def failure(wire: Wire) -> Exception:
    with pytest.raises((Unanswered, openai.APIStatusError)) as caught:
        await wire.post(BODY, "key")
    return caught.value


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("reset", "connection"),
        ("hang", "timeout"),
        ("truncated", "broken JSON"),
        ("empty", "broken JSON"),
        ("gigantic", "reply too large"),
    ],
)
def test_each_fault_has_a_cause_and_the_next_call_is_not_harmed(fault: str, cause: str) -> None:
    async def scene() -> None:
        faults = [fault]

        async def answer(request: web.Request) -> web.StreamResponse:
            return await commit(faults.pop(), request, 2.0) if faults else web.json_response(REPLY)

        async with wire_to(answer, timeout_s=1.0) as wire:
            error = await failure(wire)
            assert isinstance(error, Unanswered) and error.cause == cause, repr(error)
            assert await wire.post(BODY, "key") == REPLY

    asyncio.run(scene())


def test_a_gigantic_reply_is_broken_off_and_not_taken_into_memory() -> None:
    async def scene() -> None:
        sent = 0

        async def answer(request: web.Request) -> web.StreamResponse:
            nonlocal sent
            response = web.StreamResponse(status=500)
            await response.prepare(request)
            while sent < GIGANTIC_BYTES:
                await response.write(b" " * (1 << 20))
                sent += 1 << 20
            return response

        async with wire_to(answer) as wire:
            assert isinstance(await failure(wire), Unanswered)
        assert MOST_BYTES <= sent < 2 * MOST_BYTES

    asyncio.run(scene())


def test_a_reply_that_only_drips_is_a_timeout_too() -> None:
    async def scene() -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(30):
                await response.write(b" ")
                await asyncio.sleep(0.1)
            return response

        async with wire_to(answer, timeout_s=0.5) as wire:
            began = time.monotonic()
            error = await failure(wire)
            assert isinstance(error, Unanswered) and error.cause == "timeout"
            assert time.monotonic() - began < 2

    asyncio.run(scene())


@pytest.mark.parametrize("reply", [[1], "text", {"choices": ["text"]}, {"choices": {"a": 1}}, {"choices": 7}])
def test_json_that_is_no_completion_is_never_kept_as_one(reply: object) -> None:
    async def scene() -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response(reply)

        async with wire_to(answer) as wire:
            error = await failure(wire)
            assert isinstance(error, Unanswered) and error.cause == "broken JSON"

    asyncio.run(scene())


def test_as_many_calls_are_in_flight_as_the_config_allows() -> None:
    """aiohttp's own limit is 100 connections, `openai`'s is 1,000."""

    async def scene() -> None:
        now = most = 0

        async def answer(_: web.Request) -> web.StreamResponse:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(1.0 if most < 200 else 0)
            now -= 1
            return web.json_response(REPLY)

        async with wire_to(answer, concurrency=200, timeout_s=30.0) as wire:
            await asyncio.gather(*(wire.post(BODY, str(n)) for n in range(200)))
        assert most > 110

    asyncio.run(scene())


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_a_key_that_the_server_echoes_is_in_no_error_and_no_reply(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        headers = dict(request.headers)
        return web.json_response({"error": {"message": f"bad: {headers}"}, "choices": [headers]}, status=status)

    async def scene() -> None:
        async with wire_to(answer) as wire:
            if status == 200:
                assert KEY not in json.dumps(await wire.post(BODY, "key"))
                return
            error = await failure(wire)
            assert isinstance(error, openai.APIStatusError) and "bad: " in str(error.body)
            told = f"{error!r} {error.body} {error.response.text} {''.join(traceback.format_exception(error))}"
            assert KEY not in told
            assert KEY.encode() not in pickle.dumps((error.response, error.body, str(error)))

    asyncio.run(scene())
