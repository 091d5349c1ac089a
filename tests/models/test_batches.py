"""Captions by a provider's batches, against a real server: cheaper, durable, never paid twice, whatever dies when."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.leases import Grant, Need, Report, Used
from pipeline.meter import Meter
from pipeline.models.batch_carrying import Pace
from pipeline.models.batch_log import BatchLog
from pipeline.models.batches import BatchModel
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage, Reply
from pipeline.models.endpoint import EndpointModel
from schemas.config import Budget, EndpointCaptioner, Limits, Price
from schemas.errors import Fatal, Rejected, UserError
from tests.batch_driver import FAST
from tests.batch_driver import ask as ask_again
from tests.batch_server import BatchServer, serving

ROOT = Path(__file__).parents[2]


def chat(text: str) -> list[ChatMessage]:
    return [ChatMessage("user", (text, b"\xff\xd8picture"))]


@asynccontextmanager
async def asking(
    folder: Path, server: BatchServer, pace: Pace = FAST, batch: bool = True, **settings: Any
) -> AsyncIterator[BatchModel]:
    config = EndpointCaptioner(model="m", base_url=server.base_url, batch=batch, retries=2, **settings)
    model = BatchModel(config, "captioner", CallStore(str(folder)), pace=pace)
    try:
        yield model
    finally:
        await model.close()


async def ask(model: BatchModel | EndpointModel, *texts: str) -> list[Reply]:
    return await asyncio.gather(*(model.complete(chat(text)) for text in texts))


def texts(replies: Sequence[Reply]) -> list[str]:
    return [reply.text for reply in replies]


def test_requests_that_come_together_go_in_one_batch_and_cost_its_share_of_the_price(tmp_path: Path) -> None:
    async def scene() -> None:
        price = Price(input=1, output=2, batch=0.5)
        async with serving(BatchServer()) as server, asking(tmp_path, server, price=price) as model:
            replies = await ask(model, "one", "two\u2028lines", "three", "one")
            assert texts(replies) == ["ONE", "TWO\u2028LINES", "THREE", "ONE"]
            assert len(server.batches) == 1 and server.live == [] and set(server.paid.values()) == {1}
            assert {reply.usage.cost_usd for reply in replies} == {0.001}
            assert (model.counts.sent, model.counts.reused, model.counts.retried) == (3, 0, 0)
            line = json.loads(server.files["file_0"].splitlines()[0])
            assert line["body"]["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,")

    asyncio.run(scene())


def test_a_run_may_change_between_batches_and_live_calls_and_pays_nothing_twice(tmp_path: Path) -> None:
    async def scene() -> None:
        price = Price(input=1, output=2, batch=0.5)
        async with serving(BatchServer()) as server:
            async with asking(tmp_path, server, price=price) as model:
                (first,) = await ask(model, "one")
            live_price = Price(input=1, output=2)
            live = EndpointCaptioner(model="m", base_url=server.base_url, price=live_price)
            speaker = EndpointModel(live, "captioner", CallStore(str(tmp_path)))
            again, second = await ask(speaker, "one", "two")
            await speaker.close()
            assert (again.key, again.text) == (first.key, "ONE") and len(server.live) == 1
            assert again.usage.cost_usd is None and second.usage.cost_usd == 0.002
            async with asking(tmp_path, server, price=price) as model:
                once_more = await ask(model, "one", "two")
            assert [reply.usage.cost_usd for reply in once_more] == [0.001, 0.002]
            assert model.counts.reused == 2 and set(server.paid.values()) == {1}

    asyncio.run(scene())


def test_a_refused_request_is_rejected_and_its_neighbours_are_answered(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer()) as server, asking(tmp_path, server) as model:
            good, bad = await asyncio.gather(
                *map(model.complete, (chat("one"), chat("refuse me"))), return_exceptions=True
            )
            assert isinstance(good, Reply) and good.text == "ONE"
            assert isinstance(bad, Rejected) and bad.kind == "bad_request" and "too many pictures" in bad.message
            assert len(server.batches) == 1

    asyncio.run(scene())


REASONING = ("max_tokens", "stop")


def test_a_model_that_takes_another_form_is_asked_again_in_that_and_the_keys_stay(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer(unsupported=REASONING)) as server:
            async with asking(tmp_path, server) as model:
                waiting = (model.complete(chat(f"word {n} END more"), stop=("END",)) for n in range(6))
                replies = await asyncio.gather(*waiting)
                assert texts(replies) == [f"WORD {n} END" for n in range(6)] and len(server.batches) == 3
                (later,) = await asyncio.gather(model.complete(chat("later end x"), stop=("END",)))
                assert later.text == "LATER END" and len(server.batches) == 4 and server.live == []
            assert set(server.paid.values()) == {1}
            body = json.loads(server.files[server.batches["batch_3"]["input_file_id"]])["body"]
            assert body["max_completion_tokens"] and not {"max_tokens", "stop"} & body.keys()
            live = EndpointModel(model._config, "captioner", CallStore(str(tmp_path)))
            again = await live.complete(chat("later end x"), stop=("END",))
            assert again == later and server.live == []
            await live.close()

    asyncio.run(scene())


def test_a_process_that_inherits_refused_requests_asks_them_again_in_the_form_that_it_learns(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer(work_s=1, unsupported=REASONING)) as server:
            for _ in range(2):
                async with asking(tmp_path, server) as model:
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(ask(model, "one", "two"), 0.8)
            async with asking(tmp_path, server) as model:
                assert texts(await ask(model, "one", "two")) == ["ONE", "TWO"]
            assert set(server.paid.values()) == {1} and all(r.closed for r in BatchLog(str(tmp_path)).records())

    asyncio.run(scene())


def test_a_setting_that_the_model_does_not_take_stops_the_run_and_is_named(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer(unsupported=("temperature",))) as server:
            async with asking(tmp_path, server, temperature=0.3) as model:
                with pytest.raises(UserError, match=r"refuses captioner\.temperature, leave it out"):
                    await ask(model, "one")
            assert all(record.closed for record in BatchLog(str(tmp_path)).records())

    asyncio.run(scene())


def test_a_reply_that_an_error_of_the_server_broke_off_is_asked_again_and_not_kept(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer()) as server, asking(tmp_path, server) as model:
            assert texts(await ask(model, "one", "torn two")) == ["ONE", "TORN TWO"]
            assert sorted(server.tried.values()) == [1, 2] and server.live == []
            kept = [json.loads(path.read_text()) for path in tmp_path.glob("calls/*/*.json")]
            assert {call["response"]["choices"][0]["finish_reason"] for call in kept} == {"stop"}

    asyncio.run(scene())


def test_what_a_batch_leaves_unanswered_goes_to_another_and_after_three_to_a_live_call(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer()) as server, asking(tmp_path, server) as model:
            replies = await ask(model, "one", "late 1", "late 2", "mute", "break")
            assert texts(replies) == ["ONE", "LATE 1", "LATE 2", "MUTE", "BREAK"]
            assert sorted(server.tried.values()) == [1, 2, 3, 3, 3] and len(server.batches) == 3
            assert len(server.live) == 2 and set(server.paid.values()) == {1}

    asyncio.run(scene())


@pytest.mark.parametrize("limit", [{"most_requests": 2}, {"most_bytes": 800}])
def test_a_batch_holds_no_more_than_a_provider_takes(tmp_path: Path, limit: dict[str, int]) -> None:
    async def scene() -> None:
        async with serving(BatchServer()) as server, asking(tmp_path, server, replace(FAST, **limit)) as model:
            assert texts(await ask(model, *"abcde")) == list("ABCDE")
            asked = [len(server.files[batch["input_file_id"]].splitlines()) for batch in server.batches.values()]
            assert sorted(asked) == [1, 2, 2]

    asyncio.run(scene())


def test_a_provider_without_room_is_asked_again_later(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer(no_room=4)) as server, asking(tmp_path, server) as model:
            assert texts(await ask(model, "one", "two")) == ["ONE", "TWO"]
            assert len(server.batches) == 5 and server.live == []

    asyncio.run(scene())


def test_a_beginning_whose_answer_was_lost_is_found_in_the_providers_list(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer(lost=1)) as server, asking(tmp_path, server) as model:
            assert texts(await ask(model, "one")) == ["ONE"]
            assert len(server.batches) == 1 and set(server.paid.values()) == {1}

    asyncio.run(scene())


def test_a_refused_batch_stops_the_run_with_one_line_and_not_forever(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer(failing="model m has no batches")) as server:
            async with asking(tmp_path, server) as model:
                with pytest.raises(UserError, match="refused a batch of 1 requests: model m has no batches; check"):
                    await ask(model, "one")
            server.failing = ""
            async with asking(tmp_path, server) as model:
                assert texts(await ask(model, "one")) == ["ONE"]

    asyncio.run(scene())


def test_an_endpoint_that_refuses_every_line_from_the_start_stops_the_run(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer()) as server, asking(tmp_path, server) as model:
            with pytest.raises(UserError, match="too many pictures"):
                await ask(model, *(f"refuse {n}" for n in range(5)))

    asyncio.run(scene())


def test_a_server_without_batches_is_named(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer()) as server:
            server.base_url += "/elsewhere"
            async with asking(tmp_path, server) as model:
                with pytest.raises(UserError, match=r"HTTP 404.*captioner.batch to false"):
                    await ask(model, "one")

    asyncio.run(scene())


def test_a_run_that_wants_live_calls_ends_its_open_batch_and_pays_only_for_what_it_left(tmp_path: Path) -> None:
    async def scene() -> None:
        words = [f"word {n}" for n in range(6)]
        async with serving(BatchServer(work_s=60)) as server:
            async with asking(tmp_path, server) as model:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ask(model, *words), 1.0)
            async with asking(tmp_path, server, batch=False) as model:
                assert texts(await ask(model, *words, "new")) == [*(word.upper() for word in words), "NEW"]
            assert len(server.live) == 4 and set(server.paid.values()) == {1}

    asyncio.run(scene())


def test_an_open_batch_of_another_provider_is_named(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer(work_s=60)) as server, serving(BatchServer()) as other:
            async with asking(tmp_path, server) as model:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ask(model, "one"), 1.0)
            async with asking(tmp_path, other) as model:
                with pytest.raises(UserError, match=f"a batch is open at {server.base_url}"):
                    await ask(model, "one")
            assert other.paid == {}

    asyncio.run(scene())


def test_one_who_gives_up_waiting_leaves_the_others_theirs(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer()) as server, asking(tmp_path, server) as model:
            for moments in range(12):
                impatient = asyncio.ensure_future(model.complete(chat("one")))
                for _ in range(moments):
                    await asyncio.sleep(0.003)
                impatient.cancel()
            assert texts(await asyncio.wait_for(ask(model, "one", "two"), 20)) == ["ONE", "TWO"]
            assert set(server.paid.values()) == {1}

    asyncio.run(scene())


STEPS = ["upload", "on file", "create", "on batch", "poll", "download", "closed"]


@pytest.mark.parametrize("step", STEPS)
def test_a_process_killed_at_any_step_of_a_batch_is_followed_by_one_that_pays_nothing_again(
    tmp_path: Path, step: str
) -> None:
    async def scene() -> None:
        server = BatchServer(work_s=0.5, answer_after_s=1.0 if step == "create" else 0.0)
        async with serving(server):
            killed, _ = await driver(server, tmp_path, step)
            assert killed == -9
            server.answer_after_s = 0.0
            assert await ask_again(server.base_url, str(tmp_path), 7) == [f"SAY {n}" for n in range(7)]
            assert len(server.paid) == 7 and set(server.paid.values()) == {1}
            assert server.live == [] and len(server.batches) == 1
            assert all(record.closed for record in BatchLog(str(tmp_path)).records())

    asyncio.run(scene())


def test_two_workers_that_inherit_a_batch_of_unknown_beginning_begin_it_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer(work_s=0.5)) as server:
            killed, _ = await driver(server, tmp_path, "on file")
            assert killed == -9 and server.batches == {}
            heirs = await asyncio.gather(*(driver(server, tmp_path, "none") for _ in range(2)))
            assert [(status, json.loads(said)[6]) for status, said in heirs] == [(0, "SAY 6")] * 2
            assert len(server.batches) == 1 and set(server.paid.values()) == {1}

    asyncio.run(scene())


async def driver(server: BatchServer, run: Path, step: str) -> tuple[int, str]:
    """The exit status of a driver that asks seven questions, and what it printed."""
    command = [sys.executable, "-m", "tests.batch_driver", server.base_url, str(run), "7", step]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, said.decode()


def test_a_damaged_record_of_a_batch_stops_the_run_instead_of_paying_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer()) as server:
            (tmp_path / "batches" / "b").mkdir(parents=True)
            (tmp_path / "batches" / "b" / "state.json").write_bytes(b"")
            async with asking(tmp_path, server) as model:
                with pytest.raises(Fatal, match="may name a batch that was paid for"):
                    await ask(model, "one")
            assert server.paid == {}

    asyncio.run(scene())


class ToMeter:
    """The way to a meter that the test looks at."""

    worker = "w0"

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    async def exchange(self, report: Report) -> Grant:
        return self.meter.exchange(report)


LIMITS = {"tokens_per_minute": 60_000, "in_flight": 1}
PRICED = {"price": Price(input=1, output=2, batch=0.5), "max_tokens": 1000}


def metered(folder: Path, server: BatchServer, **budget: Any) -> tuple[BatchModel, Meter]:
    config = EndpointCaptioner(model="m", base_url=server.base_url, batch=True, limits=Limits(**LIMITS), **PRICED)
    meter = Meter({"captioner": config}, Budget(**budget))
    return BatchModel(config, "captioner", CallStore(str(folder)), ToMeter(meter), FAST), meter


def test_a_batch_that_the_budget_has_no_room_for_is_not_begun_and_nothing_is_paid(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer()) as server:
            model, _ = metered(tmp_path, server, dollars=0.003)
            with pytest.raises(Fatal, match=r"Raise budget\.dollars"):
                await ask(model, "one", "two", "three", "four")  # 4 x 1,000 tokens at half of $2 a million
            assert server.batches == {} and not server.paid
            await model.close()
            model, meter = metered(tmp_path, server, dollars=0.01)
            assert texts(await ask(model, "one", "two")) == ["ONE", "TWO"]
            spent = meter.spent()["captioner"]
            assert spent.answered == 2 and spent.dollars == pytest.approx(0.002) and spent.batched == 0
            await model.close()

    asyncio.run(scene())


def test_while_a_batch_is_under_way_its_cost_is_set_aside_and_live_calls_have_their_limits_to_themselves(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with serving(BatchServer(work_s=4)) as server:
            model, meter = metered(tmp_path, server, dollars=0.0025)
            waiting = asyncio.ensure_future(ask(model, "one", "two"))
            async with asyncio.timeout(20):
                while meter.spent()["captioner"].batched != 2:
                    await asyncio.sleep(0.05)
            asked = Report(client="w1/captioner/1", role="captioner", used=Used(), waiting=1, wanted=(Need(0, 100),))
            (lease,) = meter.exchange(asked).leases  # $0.0002 of the $0.0005 that are left; the one slot is free
            assert lease.after_s == 0
            too_dear = replace(asked, client="w2/captioner/1", wanted=(Need(0, 500),))
            grant = meter.exchange(too_dear)
            assert grant.leases == () and grant.stop == ""
            assert texts(await waiting) == ["ONE", "TWO"]
            await model.close()

    asyncio.run(scene())


def test_what_a_batch_of_an_earlier_process_answers_is_fetched_and_counted_whatever_the_budget(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer(work_s=0.5)) as server:
            model, _ = metered(tmp_path, server, dollars=0.01)
            dying = asyncio.ensure_future(ask(model, "one", "two", "three", "four"))
            while not server.batches:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)
            dying.cancel()
            await model.close()
            model, meter = metered(tmp_path, server, dollars=0.001)
            assert texts(await ask(model, "one", "two", "three", "four")) == ["ONE", "TWO", "THREE", "FOUR"]
            assert len(server.batches) == 1 and meter.spent()["captioner"].dollars == pytest.approx(0.004)
            await model.close()

    asyncio.run(scene())
