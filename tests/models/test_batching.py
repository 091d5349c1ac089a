"""Requests that wait for a busy model share a batch, and get what each would get alone."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from typing import Any

import pytest
import torch

from pipeline.models.batching import SharedRuns
from pipeline.models.chat import ChatMessage, Reply
from pipeline.models.local import LocalModel
from schemas.errors import Rejected
from tests.models.chats import QUESTION, chat, jpeg

Asked = tuple[tuple[ChatMessage, ...], tuple[str, ...]]


def held(serve: Any) -> tuple[SharedRuns[int, int], threading.Event]:
    """Runs whose first request waits until the event is set, so that others gather behind it."""
    go = threading.Event()

    def serve_late(requests: Sequence[int]) -> Iterator[tuple[int, int | Exception]]:
        go.wait(5)
        yield from serve(requests)

    return SharedRuns(serve_late, "test"), go


def test_what_comes_while_a_run_is_under_way_is_one_run() -> None:
    runs: list[list[int]] = []

    def serve(requests: Sequence[int]) -> Iterator[tuple[int, int]]:
        runs.append(list(requests))
        yield from reversed([(number, 10 * request) for number, request in enumerate(requests)])

    shared, go = held(serve)
    replies = [shared.submit(request) for request in range(5)]
    assert replies[3].cancel()
    go.set()
    assert [replies[i].result(5) for i in (0, 1, 2, 4)] == [0, 10, 20, 40]
    assert [request for run in runs for request in run] == [0, 1, 2, 4] and len(runs) <= 2


def test_an_error_is_that_of_its_own_request_and_a_broken_run_is_no_hang() -> None:
    def serve(requests: Sequence[int]) -> Iterator[tuple[int, int | Exception]]:
        yield 1, Rejected("odd", "as the test wants")
        raise ArithmeticError("broken")

    go = threading.Event()
    both = [7, 8]

    def all_at_once(requests: Sequence[int]) -> Iterator[tuple[int, int | Exception]]:
        if len(requests) == 1 and not go.is_set():
            go.wait(5)
            return iter([(0, 0)])
        return serve(requests)

    shared = SharedRuns(all_at_once, "test")
    first = shared.submit(0)
    while not first.running():
        pass
    broken, refused = (shared.submit(request) for request in both)
    go.set()
    wait([first, broken, refused], 5)
    assert first.result() == 0
    with pytest.raises(ArithmeticError):
        broken.result()
    with pytest.raises(Rejected):
        refused.result()


def asked() -> list[Asked]:
    """Chats that differ in length and pictures, some with a stop string."""
    return [
        *((chat([jpeg(n)], QUESTION + " Why?" * n), ()) for n in range(5)),
        *((chat([], "What? " * n), ()) for n in range(1, 5)),
        *((chat([jpeg(n), jpeg(n + 9)], "Which? " * (n + 1)), ("e", "zq")) for n in range(4)),
    ]


def together(model: LocalModel, requests: list[Asked]) -> list[Reply]:
    async def replies() -> list[Reply]:
        return await asyncio.gather(*(model.complete(messages, stop=stop) for messages, stop in requests))

    return asyncio.run(replies())


def alone(model: LocalModel, requests: list[Asked]) -> list[Reply]:
    return [asyncio.run(model.complete(messages, stop=stop)) for messages, stop in requests]


@pytest.fixture
def batches(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What the model generates for each batch, prompt and padding included: (batch, tokens)."""
    outputs: list[torch.Tensor] = []
    generate = model._model.generate

    def watched(**inputs: Any) -> torch.Tensor:
        outputs.append(generate(**inputs))
        return outputs[-1]

    monkeypatch.setattr(model._model, "generate", watched)
    return outputs


def test_concurrent_replies_equal_separate_ones(model: LocalModel, batches: list[torch.Tensor]) -> None:
    separate = alone(model, asked())
    assert [len(batch) for batch in batches] == [1] * len(asked())
    assert len({reply.usage.completion_tokens for reply in separate}) > 1
    batches.clear()
    assert together(model, asked()) == separate
    assert len(batches) <= 5 and sum(map(len, batches)) == len(asked())


def test_a_reply_ends_at_its_own_end_token_whatever_others_do(
    model: LocalModel, batches: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = asked()[:5]
    alone(model, requests)
    ends = [int(batches[1][0, -8]), int(batches[3][0, -3])]
    monkeypatch.setattr(model, "_end_tokens", ends)
    monkeypatch.setattr(model._model.generation_config, "eos_token_id", ends)
    separate = alone(model, requests)
    assert len({reply.usage.completion_tokens for reply in separate}) > 1
    assert together(model, requests) == separate


def test_batches_stay_within_the_token_budget(
    model: LocalModel, batches: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_max_batch_tokens", 300)
    together(model, asked())
    assert all(len(batch) == 1 or batch.numel() <= 300 for batch in batches)
    assert max(map(len, batches)) > 1


def test_a_refused_chat_does_not_touch_those_beside_it(model: LocalModel) -> None:
    async def replies() -> list[Reply | BaseException]:
        chats = [chat([jpeg(1)]), chat([b"no jpeg"]), chat([jpeg(2)]), chat([jpeg(3)])]
        return await asyncio.gather(*map(model.complete, chats), return_exceptions=True)

    first, refused, *rest = asyncio.run(replies())
    assert isinstance(refused, Rejected) and refused.kind == "bad_prompt"
    assert all(isinstance(reply, Reply) and reply.text for reply in (first, *rest))


def test_out_of_memory_halves_the_batch(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    separate = alone(model, asked())
    generate = model._model.generate

    def small_memory(**inputs: Any) -> Any:
        if len(inputs["input_ids"]) > 1:
            raise torch.cuda.OutOfMemoryError("full")
        return generate(**inputs)

    monkeypatch.setattr(model, "_max_batch_tokens", model._max_batch_tokens)
    monkeypatch.setattr(model._model, "generate", small_memory)
    assert together(model, asked()) == separate


def test_a_chat_too_large_for_the_memory_is_refused(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(**inputs: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("full")

    monkeypatch.setattr(model._model, "generate", no_memory)
    with pytest.raises(Rejected) as caught:
        asyncio.run(model.complete(chat([])))
    assert caught.value.kind == "out_of_memory"
