"""The endpoint backend against servers that differ as the providers do: one request, one key, one meaning."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage, Reply
from pipeline.models.endpoint import EndpointModel
from pipeline.models.request import request_of
from prompts.protocol import Step
from prompts.protocols import protocol
from schemas.config import Endpoint, Price
from schemas.errors import Fatal, Rejected, UserError
from tests import provider_servers as providers
from tests.models.chats import jpeg
from tests.provider_servers import GEMINI_THINKS, SERVERS, THOUGHT, Body, Server, completion, served

CHAT = [ChatMessage("system", ("Be brief.",)), ChatMessage("user", ("Look: ", jpeg(1), jpeg(2), "Which colour?"))]
STOP = ("</answer>", "</video_zoom>")
PRICE = Price(input=1, output=10)
Scene = Callable[[EndpointModel, list[Body]], Awaitable[Any]]


def played(answer: Server, run: Path, scene: Scene, **settings: Any) -> Any:
    """What a scene gives with a teacher behind such a server."""

    async def play() -> Any:
        async with served(answer) as (url, seen):
            config = Endpoint(
                **{"model": "m", "base_url": url, "price": PRICE, "retries": 2, "max_tokens": 100, **settings}
            )
            model = EndpointModel(config, "teacher", CallStore(str(run)))
            try:
                return await scene(model, seen)
            finally:
                await model.close()

    return asyncio.run(play())


def said(answer: Server, run: Path, chat: list[ChatMessage] = CHAT, **settings: Any) -> Reply:
    async def scene(model: EndpointModel, seen: list[Body]) -> Reply:
        return await model.complete(chat, stop=STOP)

    reply = played(answer, run, scene, **settings)
    assert isinstance(reply, Reply)
    return reply


@pytest.mark.parametrize("answer", SERVERS, ids=lambda server: server.__name__)
def test_the_same_chat_gives_the_same_turn_under_the_same_key_at_every_provider(answer: Server, tmp_path: Path) -> None:
    async def scene(model: EndpointModel, seen: list[Body]) -> tuple[Reply, Reply, int]:
        first = await model.complete(CHAT, stop=STOP)
        sent = len(seen)
        assert await model.complete(CHAT, stop=STOP) == first and len(seen) == sent
        other = await model.complete(CHAT, sample=1, stop=STOP)
        return first, other, len(seen) - sent

    first, other, sent_for_other = played(answer, tmp_path, scene)
    step = protocol("videozoomer").parse(first.text)
    assert isinstance(step, Step) and step.actions[0].answer == "B" and step.think == "The sign is green."
    assert first.text.removesuffix("</answer>") == "<think>The sign is green.</think><answer>B"
    assert (first.finish_reason, first.text) == ("stop", other.text)
    assert first.usage.prompt_tokens == 205 and first.usage.completion_tokens > 0
    assert first.usage.cost_usd == pytest.approx((205 + 10 * first.usage.completion_tokens) / 1e6)
    assert first.key == request_of(Endpoint(model="m", base_url="http://else/v1", max_tokens=100), CHAT, 0, STOP, 0)[1]
    assert sent_for_other == 1  # what a server refuses is learnt once


@pytest.mark.parametrize("answer", SERVERS, ids=lambda server: server.__name__)
def test_a_reply_that_was_cut_off_is_told_from_a_whole_one_at_every_provider(answer: Server, tmp_path: Path) -> None:
    assert said(answer, tmp_path, max_tokens=2).finish_reason == "length"


@pytest.mark.parametrize("answer", [providers.vllm, providers.sglang, providers.mistral, providers.openrouter])
def test_thoughts_that_a_server_reports_stay_apart_from_the_text(answer: Server, tmp_path: Path) -> None:
    reply = said(answer, tmp_path)
    assert reply.reasoning == THOUGHT and THOUGHT not in reply.text
    assert reply.text.startswith("<think>The sign is green.</think>")  # a protocol's own tags are text


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "text", "text": "Hm.", "thought": True}, {"type": "text", "text": "<think>a</think>B"}]},
        {"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "<think>a</think>B"}]},
        {"content": "<think>a</think>B", "reasoning": [{"type": "text", "text": "Hm."}]},
        {"content": "<think>a</think>B", "reasoning_content": "Hm.", "reasoning": None},
    ],
)
def test_thoughts_are_told_from_text_by_their_mark_alone(tmp_path: Path, message: Body) -> None:
    choice = {"index": 0, "finish_reason": "end_turn", "message": {"role": "assistant", **message}}
    reply = said(lambda _: completion(choice, {"prompt_tokens": 1}), tmp_path)
    assert (reply.reasoning, reply.text, reply.finish_reason) == ("Hm.", "<think>a</think>B", "stop")


def test_a_server_that_does_not_say_why_a_reply_ends_may_have_cut_it_off(tmp_path: Path) -> None:
    choice = {"index": 0, "finish_reason": None, "message": {"role": "assistant", "content": "<think>a"}}
    full, short = ({"prompt_tokens": 1, "completion_tokens": n} for n in (100, 99))
    assert said(lambda _: completion(choice, full), tmp_path / "a").finish_reason == "length"
    assert said(lambda _: completion(choice, short), tmp_path / "b").finish_reason == "stop"


def test_thoughts_in_the_total_alone_are_paid_for_as_written(tmp_path: Path) -> None:
    hidden, plain = said(providers.gemini, tmp_path / "a"), said(providers.openai, tmp_path / "b")
    assert hidden.usage.completion_tokens - plain.usage.completion_tokens == GEMINI_THINKS


def test_a_temperature_that_a_model_does_not_take_stops_the_run_with_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"refuses teacher\.temperature, leave it out of the job: Unsupported value"):
        said(providers.openai_reasoning, tmp_path, temperature=0.2)
    assert said(providers.openai_reasoning, tmp_path, temperature=1).finish_reason == "stop"


def test_settings_that_exclude_each_other_are_both_named_unless_one_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"teacher\.temperature and teacher\.top_p"):
        said(providers.anthropic, tmp_path, temperature=0.5, top_p=0.9)
    assert said(providers.anthropic, tmp_path, temperature=1, top_p=0.9).finish_reason == "stop"


def test_a_model_that_said_nothing_can_be_asked_again(tmp_path: Path) -> None:
    silent = [*CHAT, ChatMessage("assistant", ("",)), ChatMessage("user", ("Your reply was empty.",))]

    async def scene(model: EndpointModel, seen: list[Body]) -> list[list[str]]:
        await model.complete(silent)
        return [[message["role"] for message in body["messages"]] for body in seen]

    refused, taken = played(providers.anthropic, tmp_path, scene)
    assert refused == ["system", "user", "assistant", "user"] and taken == ["system", "user", "user"]
    (as_it_is,) = played(providers.openai, tmp_path / "other", scene)
    assert as_it_is == refused


@pytest.mark.parametrize("answer", [providers.gemini, providers.openrouter])
def test_what_a_moderation_withholds_is_the_items_fault(answer: Server, tmp_path: Path) -> None:
    async def scene(model: EndpointModel, seen: list[Body]) -> int:
        with pytest.raises(Rejected) as caught:
            await model.complete([ChatMessage("user", ("a forbidden thing",))])
        assert caught.value.kind == "content_filter"
        return len(seen)

    assert played(answer, tmp_path, scene) == 1


def test_a_request_that_is_too_long_is_told_in_the_servers_words_and_teaches_nothing(tmp_path: Path) -> None:
    async def scene(model: EndpointModel, seen: list[Body]) -> list[bool]:
        with pytest.raises(Rejected, match="At most 2 image"):
            await model.complete([ChatMessage("user", (jpeg(1), jpeg(2), jpeg(3)))])
        await model.complete(CHAT, stop=STOP)
        return ["stop" in body and "max_tokens" in body for body in seen[1:]]

    assert played(providers.vllm, tmp_path, scene) == [True]
    with pytest.raises(Rejected, match="too large"):
        said(providers.vllm, tmp_path / "long", max_tokens=10000)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, Fatal, "add credit"),
        (402, {"error": {"message": "Insufficient credits", "code": 402}}, Fatal, "Insufficient credits"),
        (400, {"error": {"message": "policy", "code": "content_filter"}}, Rejected, "policy"),
        (400, [{"error": {"code": 400, "message": "bad picture"}}], Rejected, "bad picture"),
        (422, {"detail": [{"loc": ["body", "messages"], "msg": "too short"}]}, Rejected, "too short"),
        (400, {"code": "invalid", "error": "not this"}, Rejected, "not this"),
    ],
)
def test_an_error_is_known_by_its_status_and_the_servers_own_code(
    tmp_path: Path, status: int, body: Any, kind: type[Exception], words: str
) -> None:
    async def scene(model: EndpointModel, seen: list[Body]) -> int:
        with pytest.raises(kind, match=words):
            await model.complete(CHAT)
        return len(seen)

    assert played(lambda _: web.json_response(body, status=status), tmp_path, scene) == 1


def test_a_reply_that_the_server_broke_off_is_asked_for_again_and_not_kept(tmp_path: Path) -> None:
    replies = iter(["error", "abort", "stop"])

    def answer(_: Body) -> web.Response:
        message = {"role": "assistant", "content": "half"}
        return completion({"index": 0, "finish_reason": next(replies), "message": message}, {"prompt_tokens": 1})

    reply = said(answer, tmp_path, retries=3)
    assert (reply.finish_reason, reply.text) == ("stop", "half") and len(list(tmp_path.rglob("*.json"))) == 1


def test_a_reply_that_runs_past_a_stop_string_ends_there_and_is_whole(tmp_path: Path) -> None:
    reply = said(providers.deaf, tmp_path, max_tokens=7)
    assert (reply.text, reply.finish_reason) == ("<think>The sign is green.</think><answer>B</answer>", "stop")


def test_an_end_for_an_unknown_reason_is_no_reply(tmp_path: Path) -> None:
    def answer(_: Body) -> web.Response:
        message = {"role": "assistant", "content": "perhaps half"}
        return completion({"index": 0, "finish_reason": "OTHER", "message": message}, {"prompt_tokens": 1})

    with pytest.raises(Rejected, match="not known here: 'other'"):
        said(answer, tmp_path)


def test_cached_and_image_tokens_have_their_own_prices_and_nothing_counted_has_none(tmp_path: Path) -> None:
    price = Price(input=2, output=0, cached_input=1, image=3)

    def counting(usage: Body | None) -> Server:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
        return lambda _: completion(choice, usage)

    details = {"cached_tokens": 100, "image_tokens": 600, "text_tokens": 400}
    usage = said(counting({"prompt_tokens": 1000, "prompt_tokens_details": details}), tmp_path / "a", price=price).usage
    assert usage.cached_tokens == 100 and usage.cost_usd == pytest.approx((300 * 2 + 100 * 1 + 600 * 3) / 1e6)
    by_another_name = {"prompt_tokens": 1000, "cache_read_input_tokens": 1000}
    assert said(counting(by_another_name), tmp_path / "b", price=price).usage.cost_usd == pytest.approx(1e-3)
    for n, nothing in enumerate([None, {}, {"prompt_tokens": 0, "completion_tokens": 0}]):
        assert said(counting(nothing), tmp_path / f"c{n}", price=price).usage.cost_usd is None
    assert said(counting(None), tmp_path / "d", price=Price(input=0, output=0)).usage.cost_usd == 0


def test_models_of_one_name_are_told_apart_by_their_identity_and_not_by_their_address(tmp_path: Path) -> None:
    known = said(providers.openai, tmp_path)
    assert said(providers.vllm, tmp_path) == known  # the same model, on another host
    other = said(providers.vllm, tmp_path, identity="awq")
    assert other.key != known.key and other.reasoning == THOUGHT
