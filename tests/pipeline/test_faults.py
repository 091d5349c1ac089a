"""Errors that servers answer with, each in its own way: what passes is waited for, and what is the item's fault is not
taken for the run's, nor the other way round."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage
from pipeline.models.endpoint import EndpointModel
from pipeline.models.refusals import seconds_in
from pipeline.models.request import request_of
from schemas.config import Endpoint
from schemas.errors import Fatal, Rejected
from tests.pipeline.test_endpoint import good
from tests.pipeline.test_gate import asked, crew
from tests.pipeline.test_gate import served as counted

Answer = Callable[[str, int], web.Response | Awaitable[web.Response]]
Scene = Callable[[EndpointModel, list[str]], Awaitable[None]]

NO_KEY = {
    "code": 400,
    "message": "API key expired. Please renew the API key.",
    "status": "INVALID_ARGUMENT",
    "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
}


def played(answer: Answer, run: Path, scene: Scene, **settings: Any) -> None:
    """A scene with a teacher whose server gives `answer(the last message, n)` to its n-th request."""
    seen: list[str] = []

    async def reply(request: web.Request) -> web.Response:
        seen.append((await request.json())["messages"][-1]["content"])
        answered = answer(seen[-1], len(seen))
        return await answered if isinstance(answered, Awaitable) else answered

    async def play() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", reply)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        config = Endpoint(model="m", base_url=url, **{"retries": 1, "timeout_s": 5, "outage_s": 0, **settings})
        model = EndpointModel(config, "teacher", CallStore(str(run)))
        try:
            await scene(model, seen)
        finally:
            await model.close()
            await runner.cleanup()

    asyncio.run(play())


async def outcome(model: EndpointModel, text: str) -> Any:
    """The text of a reply, or the error."""
    try:
        return (await model.complete([ChatMessage("user", (text,))])).text
    except (Rejected, Fatal) as error:
        return error


def raw(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="application/json")


def error_200(code: Any) -> web.Response:
    return web.json_response({"error": {"code": code, "message": "Provider returned error"}})


@pytest.mark.parametrize("code", [503, "502", None, "server_error"])
def test_an_outage_that_is_answered_with_status_200_stops_the_run(tmp_path: Path, code: Any) -> None:
    async def scene(model: EndpointModel, seen: list[str]) -> None:
        outcomes = await asyncio.gather(*(outcome(model, f"question {n}") for n in range(3)))
        assert all(isinstance(one, Fatal) and "does not answer" in str(one) for one in outcomes)
        assert seen.count("Say yes.") == 1  # that ended it: items are never lost to it

    played(lambda *_: error_200(code), tmp_path, scene)


def test_an_error_with_status_200_means_what_its_code_means(tmp_path: Path) -> None:
    codes = {"bad": 400, "key": 401, "credit": 402}

    def answer(text: str, number: int) -> web.Response:
        return error_200(codes[text]) if text in codes else good() if number > 1 else error_200(429)

    async def scene(model: EndpointModel, seen: list[str]) -> None:
        assert await outcome(model, "busy") == "hi" and len(seen) == 2
        bad, key, credit = [await outcome(model, text) for text in codes]
        assert isinstance(bad, Rejected) and bad.kind == "bad_request"
        assert isinstance(key, Fatal) and "key was refused" in str(key)
        assert isinstance(credit, Fatal) and "add credit" in str(credit)

    played(answer, tmp_path, scene)


def test_a_reply_without_choices_is_a_failure_whose_tokens_count(tmp_path: Path) -> None:
    empty = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}

    async def scene() -> None:
        async with counted(lambda n: web.json_response(empty) if n == 1 else good()) as (_, url):
            async with crew(url, tmp_path, 1) as (meter, models):
                assert (await asked(models, 1))[0].text == "hi"
            spent = meter.spent()["teacher"]
            assert (spent.sent, spent.answered, spent.failed) == (2, 1, {"no choices": 1})
            assert (spent.prompt_tokens, spent.completion_tokens) == (17, 6)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("usage", "prompt", "completion"),
    [
        ({"prompt_tokens": "12", "completion_tokens": "3"}, 12, 3),
        ({"prompt_tokens": 12.5, "completion_tokens": 3.0, "prompt_tokens_details": {"cached_tokens": "4"}}, 12, 3),
        ({"prompt_tokens": [1], "completion_tokens": {}, "total_tokens": "many"}, 0, 0),
        ({"prompt_tokens": -5, "completion_tokens": 10**30, "prompt_tokens_details": "none"}, 0, 0),
        ([{"prompt_tokens": 12}], 0, 0),
        ("12 tokens", 0, 0),
    ],
)
def test_tokens_are_read_as_far_as_they_can_be(tmp_path: Path, usage: Any, prompt: int, completion: int) -> None:
    body = json.loads(good().body) | {"usage": usage}  # type: ignore[arg-type]

    async def scene(model: EndpointModel, seen: list[str]) -> None:
        reply = await model.complete([ChatMessage("user", ("hello",))])
        assert (reply.text, reply.usage.prompt_tokens, reply.usage.completion_tokens) == ("hi", prompt, completion)

    played(lambda *_: web.json_response(body), tmp_path, scene)


MISSHAPEN = [
    '{"choices": [{"message": "hi"}]}',
    '{"choices": [{"message": {"content": 7}}]}',
    '{"choices": [{"message": {"content": {"text": "hi"}}}]}',
    '{"choices": ["hi"]}',
    '{"choices": {"0": "hi"}}',
    '{"choices": ' + "[" * 100_000,
]


@pytest.mark.parametrize("body", MISSHAPEN, ids=lambda body: body[:50])
def test_a_reply_in_no_form_that_can_be_read_is_not_kept_but_asked_for_again(tmp_path: Path, body: str) -> None:
    async def scene(model: EndpointModel, seen: list[str]) -> None:
        assert await outcome(model, "hello") == await outcome(model, "hello") == "hi"
        assert len(seen) == 2

    played(lambda _, number: raw(body) if number == 1 else good(), tmp_path, scene)


def test_an_error_nested_too_deeply_to_be_read_is_told_by_its_status(tmp_path: Path) -> None:
    async def scene(model: EndpointModel, seen: list[str]) -> None:
        assert await outcome(model, "hello") == "hi" and len(seen) == 2

    played(lambda _, number: raw("[" * 100_000, 503) if number == 1 else good(), tmp_path, scene)


def test_thoughts_in_parts_without_end_are_no_text(tmp_path: Path) -> None:
    deep: Any = "end"
    for _ in range(300):
        deep = [{"type": "thinking", "thinking": deep}]
    body = {"choices": [{"message": {"content": [*deep, {"type": "text", "text": "hi"}]}}]}

    async def scene(model: EndpointModel, seen: list[str]) -> None:
        reply = await model.complete([ChatMessage("user", ("hello",))])
        assert (reply.text, reply.reasoning) == ("hi", "")

    played(lambda *_: web.json_response(body), tmp_path, scene)


def test_a_misshapen_reply_that_an_earlier_version_kept_is_a_row_and_no_crash(tmp_path: Path) -> None:
    async def scene(model: EndpointModel, seen: list[str]) -> None:
        request, key = request_of(model._config, [ChatMessage("user", ("hello",))], 0, (), 0)
        CallStore(str(tmp_path)).put(key, "teacher", request, json.loads(MISSHAPEN[0]))
        error = await outcome(model, "hello")
        assert isinstance(error, Rejected) and error.kind == "misshapen" and not seen

    played(lambda *_: good(), tmp_path, scene)


def test_a_key_that_expires_while_the_run_goes_on_stops_it_at_once(tmp_path: Path) -> None:
    def answer(_: str, number: int) -> web.Response:
        return good() if number <= 3 else web.json_response([{"error": NO_KEY}], status=400)

    async def scene(model: EndpointModel, seen: list[str]) -> None:
        outcomes = [await outcome(model, f"question {n}") for n in range(4)]
        assert outcomes[:3] == ["hi"] * 3
        assert isinstance(outcomes[3], Fatal) and "the key was refused (API key expired" in str(outcomes[3])

    played(answer, tmp_path, scene)


@pytest.mark.parametrize("plain_too", [False, True])
def test_many_refusals_in_a_row_stop_the_run_only_where_a_plain_request_is_refused_too(
    tmp_path: Path, plain_too: bool
) -> None:
    def answer(text: str, number: int) -> web.Response:
        if number == 1 or (text == "Say yes." and not plain_too):
            return good()
        return web.json_response({"error": {"message": "invalid argument"}}, status=400)

    async def scene(model: EndpointModel, seen: list[str]) -> None:
        assert await outcome(model, "good") == "hi"
        outcomes = [await outcome(model, f"bad {n}") for n in range(12)]
        kinds = [type(one) for one in outcomes[:5]]
        assert kinds == [Rejected] * 4 + [Fatal if plain_too else Rejected]
        if plain_too:
            assert "refuses every request now, even a plain one" in str(outcomes[4])
        else:
            assert all(isinstance(one, Rejected) for one in outcomes) and seen.count("Say yes.") == 2

    played(answer, tmp_path, scene)


async def fails(text: str) -> web.Response:
    if text == "hangs":
        await asyncio.sleep(1.5)
    return web.Response(status=500)


@pytest.mark.parametrize("text", ["fails", "hangs"])
def test_the_last_request_of_a_run_at_which_the_server_always_fails_is_a_row(tmp_path: Path, text: str) -> None:
    def answer(asked: str, number: int) -> web.Response | Awaitable[web.Response]:
        return fails(asked) if asked == text else good()

    async def scene(model: EndpointModel, seen: list[str]) -> None:
        assert await outcome(model, "good") == "hi"
        error = await outcome(model, text)
        assert isinstance(error, Rejected) and error.kind == "server_error"
        assert ("HTTP 500" if text == "fails" else "no reply within 0.5 s") in error.message
        assert seen == ["good", text, text, "Say yes.", text]  # once more, when the server is known to be up
        assert await outcome(model, "another") == "hi"
        assert not model.gate.paused

    played(answer, tmp_path, scene, timeout_s=0.5)


def in_two_seconds() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2.5), usegmt=True)


DELAY = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.2s"}]


@pytest.mark.parametrize(
    ("headers", "details"),
    [
        ({"Retry-After": "1.2"}, []),
        ({"Retry-After": "date"}, []),
        ({"retry-after-ms": "1200", "Retry-After": "30"}, []),
        ({}, DELAY),
        ({"Retry-After": "nan"}, DELAY),
    ],
    ids=["seconds", "date", "milliseconds", "Gemini", "nonsense"],
)
def test_a_server_is_asked_again_when_it_says(tmp_path: Path, headers: dict[str, str], details: list[Any]) -> None:
    times: list[float] = []

    def answer(_: str, number: int) -> web.Response:
        times.append(time.monotonic())
        told = {name: in_two_seconds() if value == "date" else value for name, value in headers.items()}
        error = {"code": 503, "message": "busy", "details": details}
        return good() if number > 1 else web.json_response([{"error": error}], status=503, headers=told)

    async def scene(model: EndpointModel, seen: list[str]) -> None:
        assert await outcome(model, "hello") == "hi"
        assert 1.2 <= times[1] - times[0] < 4.5

    played(answer, tmp_path, scene)


def test_a_wait_that_is_no_number_is_none() -> None:
    assert [seconds_in(told) for told in ("nan", "-3", "soon", None, "1e9", "inf", "7s")] == [0, 0, 0, 0, 600, 600, 7]
