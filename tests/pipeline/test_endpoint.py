"""The endpoint backend against a real HTTP server: durable, never twice, errors by their kind."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage
from pipeline.models.endpoint import EndpointModel
from pipeline.models.request import request_of
from schemas.config import Endpoint, Price
from schemas.errors import Fatal, Rejected

Answer = Callable[[int], web.Response]
HELLO = [ChatMessage("user", ("hello",))]


def good(text: str = "hi", finish: str = "stop") -> web.Response:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return web.json_response(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    )


@asynccontextmanager
async def endpoint(
    tmp_path: Path, answer: Answer, **settings: Any
) -> AsyncIterator[tuple[EndpointModel, list[dict[str, Any]]]]:
    """A model whose server gives `answer(n)` to its n-th request, and the bodies that the server saw."""
    seen: list[dict[str, Any]] = []

    async def chat(request: web.Request) -> web.Response:
        seen.append(await request.json())
        return answer(len(seen))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    config = Endpoint(model="m", base_url=url, **{"retries": 3, "timeout_s": 5, "outage_s": 0, **settings})
    model = EndpointModel(config, "teacher", CallStore(str(tmp_path)))
    try:
        yield model, seen
    finally:
        await model.close()
        await runner.cleanup()


def test_an_identical_request_is_sent_once_even_at_the_same_time(tmp_path: Path) -> None:
    async def scene() -> None:
        async with endpoint(tmp_path, lambda _: good()) as (model, seen):
            replies = await asyncio.gather(*(model.complete(HELLO) for _ in range(5)))
            again = await model.complete(HELLO)
            other = await model.complete(HELLO, sample=1)
            assert len(seen) == 2
            assert {reply.key for reply in replies} == {again.key} != {other.key}

    asyncio.run(scene())


def test_a_reply_survives_its_process(tmp_path: Path) -> None:
    async def scene() -> None:
        async with endpoint(tmp_path, lambda _: good()) as (model, _):
            first = await model.complete(HELLO)
        async with endpoint(tmp_path, lambda _: web.Response(status=500)) as (model, seen):
            assert await model.complete(HELLO) == first
            assert seen == [] and model.counts.reused == 1

    asyncio.run(scene())


def test_usage_and_cost_are_the_servers_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with endpoint(tmp_path, lambda _: good(), price=Price(input=1, output=2)) as (model, _):
            usage = (await model.complete(HELLO)).usage
            assert (usage.calls, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (1, 10, 5, 4)
            assert usage.cost_usd == pytest.approx(20e-6)
        async with endpoint(tmp_path / "other", lambda _: good()) as (model, _):
            assert (await model.complete(HELLO)).usage.cost_usd is None

    asyncio.run(scene())


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_passing_error_is_retried(tmp_path: Path, status: int) -> None:
    async def scene() -> None:
        def answer(number: int) -> web.Response:
            return good() if number == 3 else web.Response(status=status, headers={"Retry-After": "0.05"})

        async with endpoint(tmp_path, answer) as (model, seen):
            assert (await model.complete(HELLO)).text == "hi"
            assert len(seen) == 3 and model.counts.retried == 2

    asyncio.run(scene())


def test_broken_json_is_retried(tmp_path: Path) -> None:
    async def scene() -> None:
        def answer(number: int) -> web.Response:
            return good() if number == 2 else web.Response(text='{"choices": [', content_type="application/json")

        async with endpoint(tmp_path, answer) as (model, seen):
            assert (await model.complete(HELLO)).text == "hi"
            assert len(seen) == 2

    asyncio.run(scene())


def test_a_bad_request_is_the_items_fault_and_is_not_retried(tmp_path: Path) -> None:
    async def scene() -> None:
        refusal = {"error": {"message": "too long"}}
        async with endpoint(tmp_path, lambda _: web.json_response(refusal, status=400)) as (model, seen):
            with pytest.raises(Rejected, match="too long") as caught:
                await model.complete(HELLO)
            assert caught.value.kind == "bad_request" and len(seen) == 1

    asyncio.run(scene())


def test_an_endpoint_that_refuses_every_request_from_the_start_stops_the_run(tmp_path: Path) -> None:
    async def scene() -> None:
        refusal = {"error": {"message": "unknown parameter"}}
        async with endpoint(tmp_path, lambda _: web.json_response(refusal, status=400)) as (model, _):
            for sample in range(4):
                with pytest.raises(Rejected):
                    await model.complete(HELLO, sample=sample)
            with pytest.raises(Fatal, match=r"first 5 requests were all refused.*unknown parameter"):
                await model.complete(HELLO, sample=4)

    asyncio.run(scene())


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_unknown_model_stops_the_run(tmp_path: Path, status: int) -> None:
    async def scene() -> None:
        async with endpoint(tmp_path, lambda _: web.Response(status=status)) as (model, seen):
            with pytest.raises(Fatal, match="check teacher"):
                await model.complete(HELLO)
            assert len(seen) == 1

    asyncio.run(scene())


def test_an_outage_stops_the_run_but_one_cursed_request_does_not(tmp_path: Path) -> None:
    async def scene() -> None:
        later = web.Response
        async with endpoint(tmp_path, lambda _: later(status=500, headers={"Retry-After": "0.01"})) as (model, _):
            with pytest.raises(Fatal, match="Run the same command again"):
                await model.complete(HELLO)

    async def cursed() -> None:
        seen_cursed = 0

        async def chat(request: web.Request) -> web.Response:
            nonlocal seen_cursed
            if "cursed" in json.dumps(await request.json()):
                seen_cursed += 1
                return web.Response(status=500, headers={"Retry-After": "0.05"})
            return good()

        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        model = EndpointModel(Endpoint(model="m", base_url=url, retries=3), "teacher", CallStore(str(tmp_path / "c")))
        task = asyncio.ensure_future(model.complete([ChatMessage("user", ("cursed",))]))
        await asyncio.sleep(0.03)
        await model.complete(HELLO)
        with pytest.raises(Rejected, match="tried 4 times"):
            await task
        assert seen_cursed == 4
        await model.close()
        await runner.cleanup()

    asyncio.run(scene())
    asyncio.run(cursed())


def test_withheld_and_refused_replies_are_named_outcomes(tmp_path: Path) -> None:
    async def scene() -> None:
        async with endpoint(tmp_path, lambda _: good("", "content_filter")) as (model, _):
            with pytest.raises(Rejected) as caught:
                await model.complete(HELLO)
            assert caught.value.kind == "content_filter"

    asyncio.run(scene())


def test_images_are_sent_and_change_the_key(tmp_path: Path) -> None:
    async def scene() -> None:
        async with endpoint(tmp_path, lambda _: good()) as (model, seen):
            one = await model.complete([ChatMessage("user", ("see", b"\xff\xd8one"))])
            two = await model.complete([ChatMessage("user", ("see", b"\xff\xd8two"))])
            assert one.key != two.key
            assert seen[0]["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,")

    asyncio.run(scene())


def test_the_keys_of_earlier_versions_stand() -> None:
    config = Endpoint(model="m", base_url="http://a/v1", temperature=0.5)
    chat = [ChatMessage("system", ("be brief",)), ChatMessage("user", ("see", b"\xff\xd8one"))]
    _, key = request_of(config, chat, 1, ("</answer>",), 0)
    assert key == "2ad2e0a3eb93e389f380eaee369239dd0ebfee6bf7e0f1324e5e8770015e0932"
    _, listed = request_of(config.model_copy(update={"temperature": None}), [ChatMessage("user", ("hi",))], 0, (), 5)
    assert listed == "a0563bbaa9048a9246409dadaaeeb36ab2b16d973ab3ce2d3ccb8bac57d4ff03"


def test_the_key_stays_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY_VARIABLE", "sk-very-secret")

    async def scene() -> None:
        async with endpoint(tmp_path, lambda _: good(), api_key_env="SECRET_KEY_VARIABLE") as (model, _):
            await model.complete(HELLO)

    asyncio.run(scene())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(b"sk-very-secret" in path.read_bytes() for path in files)
