"""Walking a shard's items: bounded, every fault recorded, deaths blamed on the right item."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pipeline.stages.items import Care, Work, walk
from schemas.errors import Failure, Fatal, Rejected


def work(do: Callable[[str], Awaitable[str]], limit: int = 4) -> Work[str, str]:
    return Work(stage="teach", name=str, do=do, failed=lambda _, f: f"{f.kind}: {f.message}", limit=limit)


def test_results_keep_the_items_order_and_the_limit_holds() -> None:
    running = most = 0

    async def do(item: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01 * (5 - int(item)))
        running -= 1
        return item * 2

    results = asyncio.run(walk(list("01234"), work(do, limit=2), Care()))
    assert results == ["00", "11", "22", "33", "44"]
    assert most == 2


def test_a_rejected_item_is_a_row_and_the_rest_goes_on() -> None:
    async def do(item: str) -> str:
        if item == "b":
            raise Rejected("video_damaged", "b.mp4 is broken")
        return item

    assert asyncio.run(walk(list("abc"), work(do), Care())) == ["a", "video_damaged: b.mp4 is broken", "c"]


def test_an_unforeseen_error_is_a_row_but_many_stop_the_run() -> None:
    async def one(item: str) -> str:
        return item if item != "c" else str(1 // 0)

    async def all_of_them(item: str) -> str:
        return str(1 // 0)

    results = asyncio.run(walk(list("abc"), work(one), Care()))
    assert results[:2] == ["a", "b"] and results[2].startswith("internal_error: c: ZeroDivisionError")
    with pytest.raises(Fatal, match="3 of 3 items met an error of ours"):
        asyncio.run(walk(list("abc"), work(all_of_them), Care()))


def test_a_fatal_error_stops_at_once() -> None:
    async def do(item: str) -> str:
        if item == "a":
            raise Fatal("disk full")
        await asyncio.sleep(30)
        return item

    with pytest.raises(Fatal, match="disk full"):
        asyncio.run(asyncio.wait_for(walk(list("abc"), work(do), Care()), timeout=5))


def test_poison_is_recorded_untried_and_suspects_go_alone() -> None:
    trace: list[str] = []

    async def do(item: str) -> str:
        await asyncio.sleep(0.01)
        return item

    async def begin(item: str) -> None:
        trace.append(f"+{item}")

    async def end(item: str) -> None:
        trace.append(f"-{item}")

    care = Care(suspects=frozenset("c"), poison=frozenset("d"), begin=begin, end=end)
    results = asyncio.run(walk(list("abcd"), work(do), care))
    assert trace[:2] == ["+c", "-c"]
    assert results[:3] == ["a", "b", "c"] and results[3].startswith("poison: d")


def test_the_failure_of_an_item_names_stage_and_attempts() -> None:
    seen: list[Failure] = []
    fails = Work[str, str](
        stage="replay",
        name=str,
        do=lambda item: asyncio.sleep(0, item),
        failed=lambda i, f: seen.append(f) or i,
        limit=1,
    )
    asyncio.run(walk(["a"], fails, Care(poison=frozenset("a"))))
    assert (seen[0].stage, seen[0].kind, seen[0].attempts) == ("replay", "poison", 2)
