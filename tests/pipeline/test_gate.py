"""What a worker's calls meet on their way to a real server: leave of the meter, a free slot, a pause, or an end."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.leases import Grant, Need, Report
from pipeline.ledger import used_before
from pipeline.meter import Meter
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage
from pipeline.models.endpoint import EndpointModel
from schemas.config import Budget, Endpoint, Price
from schemas.errors import Fatal
from tests.pipeline.test_endpoint import good

Answer = Callable[[int], web.Response]


class Here:
    """The link to a meter that several workers of a test share."""

    def __init__(self, meter: Meter, worker: str) -> None:
        self.worker = worker
        self.reports = 0
        self._meter = meter

    async def exchange(self, report: Report) -> Grant:
        self.reports += 1
        await asyncio.sleep(0)
        return self._meter.exchange(report)


class Server:
    """answer: to the n-th request, after `latency_s`; began: when each came; most: in flight at once."""

    def __init__(self, answer: Answer, latency_s: float) -> None:
        self.answer = answer
        self.latency_s = latency_s
        self.began: list[float] = []
        self.most = self._now = 0

    async def chat(self, request: web.Request) -> web.Response:
        await request.read()
        self.began.append(time.monotonic())
        number = len(self.began)
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(self.latency_s)
        self._now -= 1
        return self.answer(number)


@asynccontextmanager
async def served(answer: Answer = lambda _: good(), latency_s: float = 0.0) -> AsyncIterator[tuple[Server, str]]:
    server = Server(answer, latency_s)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield server, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def crew(
    url: str, run: Path, workers: int, budget: Budget | None = None, **settings: Any
) -> AsyncIterator[tuple[Meter, list[EndpointModel]]]:
    """Workers of one run, each with its model."""
    config = Endpoint(model="m", base_url=url, **{"retries": 2, "timeout_s": 5, "max_tokens": 100, **settings})
    meter = Meter({"teacher": config}, budget, partial(used_before, str(run), {"teacher": config}) if budget else dict)
    links = [Here(meter, f"w{n}") for n in range(workers)]
    models = [EndpointModel(config, "teacher", CallStore(str(run)), link=link) for link in links]
    try:
        yield meter, models
    finally:
        for model in models:
            await model.close()


def chat(number: int) -> list[ChatMessage]:
    return [ChatMessage("user", (f"question {number}",))]


async def asked(models: list[EndpointModel], calls: int) -> list[Any]:
    """The outcome of each call, spread over the workers."""
    waiting = [models[n % len(models)].complete(chat(n)) for n in range(calls)]
    return await asyncio.gather(*waiting, return_exceptions=True)


def test_workers_together_keep_the_number_of_calls_in_flight_and_the_rate(tmp_path: Path) -> None:
    async def scene() -> None:
        async with served(latency_s=0.05) as (server, url):
            async with crew(url, tmp_path / "few", 3, limits={"in_flight": 4}) as (_, models):
                outcomes = await asked(models, 30)
                assert server.most == 4 and not any(isinstance(o, BaseException) for o in outcomes)
            server.began.clear()
            async with crew(url, tmp_path / "slow", 3, limits={"requests_per_minute": 1200}) as (_, models):
                await asked(models, 40)
                took = max(server.began) - min(server.began)
                assert 39 / 20 - 1.1 <= took <= 39 / 20 + 1.2

    asyncio.run(scene())


def test_a_worker_never_has_more_calls_under_way_than_its_own_slots(tmp_path: Path) -> None:
    async def scene() -> None:
        for limits in ({}, {"in_flight": 50}):
            async with (
                served(latency_s=0.03) as (server, url),
                crew(url, tmp_path / str(len(limits)), 1, concurrency=3, limits=limits) as (_, models),
            ):
                await asked(models, 12)
                assert server.most == 3

    asyncio.run(scene())


def test_an_outage_that_passes_costs_no_call_and_calls_only_try_one_at_a_time(tmp_path: Path) -> None:
    """Six seconds long, with two retries a call: without the pause every call would be given up."""
    began = time.monotonic()

    def answer(_: int) -> web.Response:
        return good() if time.monotonic() - began > 6 else web.Response(status=503)

    async def scene() -> None:
        async with served(answer) as (server, url), crew(url, tmp_path, 2) as (meter, models):
            outcomes = await asked(models, 40)
            assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert sum(began + 3.5 < at < began + 6 for at in server.began) <= 4
            spent = meter.spent()["teacher"]
            probes = spent.answered - 40  # plain requests: the one that was answered freed all calls
            assert probes == 1 and spent.failed["HTTP 503"] == spent.sent - spent.answered > 40
            assert (spent.in_flight, spent.waiting, spent.paused) == (0, 0, False)

    asyncio.run(scene())


def test_a_call_whose_last_try_was_out_when_a_server_came_back_is_tried_once_more(tmp_path: Path) -> None:
    def answer(number: int) -> web.Response:
        return web.Response(status=503) if number <= 3 else good()

    async def scene() -> None:
        async with served(answer) as (server, url), crew(url, tmp_path, 1) as (_, models):
            first = asyncio.ensure_future(models[0].complete(chat(0)))
            while len(server.began) < 3:
                server.latency_s = 1.0 if len(server.began) == 2 else 0.0  # of the third try, and of no other
                await asyncio.sleep(0.001)
            server.latency_s = 0.0
            await models[0].complete(chat(1))
            assert not first.done()
            await first
            assert len(server.began) == 5

    asyncio.run(scene())


def test_an_outage_that_lasts_ends_the_run_with_the_servers_error(tmp_path: Path) -> None:
    async def scene() -> None:
        async with (
            served(lambda _: web.Response(status=503)) as (_, url),
            crew(url, tmp_path, 2, outage_s=1.0, retries=0) as (_, models),
        ):
            outcomes = await asked(models, 4)
            assert all(isinstance(outcome, Fatal) for outcome in outcomes)
            assert "teacher endpoint does not answer: HTTP 503" in str(outcomes[0])

    asyncio.run(scene())


def test_retry_after_with_429_holds_back_the_calls_of_other_workers(tmp_path: Path) -> None:
    def answer(number: int) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "1"}) if number == 1 else good()

    async def scene() -> None:
        async with served(answer) as (server, url), crew(url, tmp_path, 2) as (_, models):
            first = asyncio.ensure_future(models[0].complete(chat(0)))
            while not models[0].counts.sent or not server.began:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            await models[1].complete(chat(1))
            await first
            assert server.began[1] - server.began[0] > 0.95

    asyncio.run(scene())


def test_a_request_that_is_said_in_another_form_has_leave_of_its_own(tmp_path: Path) -> None:
    error = {"message": "Use 'max_completion_tokens'.", "param": "max_tokens", "code": "unsupported_parameter"}

    def answer(number: int) -> web.Response:
        return web.json_response({"error": error}, status=400) if number == 1 else good()

    async def scene() -> None:
        limits = {"requests_per_minute": 60}
        async with served(answer) as (server, url), crew(url, tmp_path, 1, limits=limits) as (meter, models):
            (outcome,) = await asked(models, 1)
            assert outcome.text == "hi" and server.began[1] - server.began[0] > 0.8
            spent = meter.spent()["teacher"]
            assert spent.sent == spent.answered == 2 and not spent.failed

    asyncio.run(scene())


def test_after_a_hold_calls_come_back_one_after_the_other(tmp_path: Path) -> None:
    def answer(number: int) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "1"}) if number == 1 else good()

    async def scene() -> None:
        async with (
            served(answer, latency_s=0.5) as (server, url),
            crew(url, tmp_path, 1, concurrency=20) as (_, models),
        ):
            first = asyncio.ensure_future(models[0].complete(chat(0)))
            while not server.began:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.7)
            await asyncio.gather(first, *(models[0].complete(chat(n)) for n in range(1, 60)))
            back = sorted(server.began[1:])
            assert back[0] - server.began[0] > 1.45
            assert sum(at < back[0] + 0.15 for at in back) <= 6

    asyncio.run(scene())


PRICE = Price(input=1, output=2)
"""A reply of `good` (10 tokens read, 5 written) costs $0.00002."""


def test_a_run_stops_before_its_budget_is_exceeded_and_goes_on_when_that_is_raised(tmp_path: Path) -> None:
    async def session(url: str, dollars: float) -> tuple[float, list[Any]]:
        budget = Budget(dollars=dollars)
        async with crew(url, tmp_path, 3, budget, price=PRICE, concurrency=4) as (meter, models):
            outcomes = await asked(models, 40)
            spent = meter.spent()["teacher"]
            return spent.dollars + spent.earlier_dollars, outcomes

    async def scene() -> None:
        async with served(latency_s=0.01) as (server, url):
            spent, outcomes = await session(url, 0.0006)
            stopped = [str(outcome) for outcome in outcomes if isinstance(outcome, Fatal)]
            assert spent == pytest.approx(len(server.began) * 20e-6) and 0.0006 - 210e-6 < spent <= 0.0006
            assert len(stopped) == 40 - len(server.began) and "Raise budget.dollars" in stopped[0]
            spent, outcomes = await session(url, 0.0006)
            assert spent <= 0.0006 and any(isinstance(outcome, Fatal) for outcome in outcomes)
            spent, outcomes = await session(url, 0.01)
            assert spent == pytest.approx(40 * 20e-6) and len(server.began) == 40  # none was paid twice
            assert not any(isinstance(outcome, BaseException) for outcome in outcomes)

    asyncio.run(scene())


def test_calls_whose_tokens_the_server_does_not_count_are_taken_at_their_most(tmp_path: Path) -> None:
    def answer(_: int) -> web.Response:
        message = {"role": "assistant", "content": "hi"}
        return web.json_response({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]})

    async def scene() -> None:
        async with served(answer) as (server, url):
            for _ in range(3):  # sessions of one run
                async with crew(url, tmp_path, 1, Budget(tokens=1000)) as (_, models):
                    outcomes = await asked(models, 20)
                    assert len(server.began) == 9  # each of 2 + 100 tokens
                    assert "budget.tokens" in str(next(o for o in outcomes if isinstance(o, Fatal)))

    asyncio.run(scene())


def test_where_nothing_is_limited_reports_are_few_and_the_last_one_is_in_time(tmp_path: Path) -> None:
    async def scene() -> None:
        async with served(latency_s=0.02) as (_, url):
            config = Endpoint(model="m", base_url=url, concurrency=16)
            meter = Meter({"teacher": config})
            link = Here(meter, "w")
            model = EndpointModel(config, "teacher", CallStore(str(tmp_path)), link=link)
            began = time.monotonic()
            await asked([model], 200)
            assert link.reports <= 3 + (time.monotonic() - began) and meter.spent()["teacher"].answered == 200
            await model.close()

    asyncio.run(scene())


def test_a_cancelled_call_gives_back_its_place(tmp_path: Path) -> None:
    async def scene() -> None:
        async with (
            served(latency_s=0.2) as (server, url),
            crew(url, tmp_path, 1, limits={"in_flight": 1}) as (meter, models),
        ):
            tasks = [asyncio.ensure_future(models[0]._sender.send(*_request(n))) for n in range(3)]
            while not server.began:
                await asyncio.sleep(0.01)
            tasks[0].cancel()
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert tasks[2].result()["choices"] and len(server.began) == 2
            assert meter.spent()["teacher"].in_flight == 0

    asyncio.run(scene())


def _request(number: int) -> Any:
    async def body() -> dict[str, Any]:
        return {"model": "m", "messages": [{"role": "user", "content": str(number)}]}

    async def keep(_: Any) -> None:
        return None

    return str(number), Need(10, 10), body, keep
