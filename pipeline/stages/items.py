"""How a stage walks its items: concurrently and bounded, each item's fault recorded where it happened."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from schemas.errors import Failure, Fatal, Rejected

T = TypeVar("T")
R = TypeVar("R")

_MOST_INTERNAL = 0.5
"""Share of a shard's items beyond which errors of our own are no longer an item's fault: the run stops instead."""


async def _ignore(_: str) -> None:
    return None


@dataclass(frozen=True)
class Care:
    """What a stage must know of earlier deaths of workers on this shard, and whom it tells what it is doing.

    suspects: items in flight at two deaths; each is walked alone, so that a further death can be blamed on it.
    poison: items that were alone in flight at two deaths; they are not tried again.
    begin, end: awaited with an item's name around its work: `begin` must be on record before the item can do harm.
    """

    suspects: frozenset[str] = frozenset()
    poison: frozenset[str] = frozenset()
    begin: Callable[[str], Awaitable[None]] = _ignore
    end: Callable[[str], Awaitable[None]] = _ignore


@dataclass(frozen=True)
class Work(Generic[T, R]):
    """What to do with the items of a shard.

    stage: its name, for failures; name: an item's name; do: an item's result; failed: the row of an item that has none.
    limit: items under way at once.
    """

    stage: str
    name: Callable[[T], str]
    do: Callable[[T], Awaitable[R]]
    failed: Callable[[T, Failure], R]
    limit: int


async def walk(items: Sequence[T], work: Work[T, R], care: Care) -> list[R]:
    """One result per item, in their order. This is the one place where an unforeseen error becomes a failure row.

    Raises Fatal as it is, and where more than half of the items met unforeseen errors.
    """
    slots = asyncio.Semaphore(work.limit)
    results: dict[int, R] = {}
    internal: list[str] = []

    async def one(number: int) -> None:
        item = items[number]
        async with slots:
            await care.begin(work.name(item))
            results[number] = await _attempt(item, work, care, internal)
            await care.end(work.name(item))

    for number, item in enumerate(items):
        if work.name(item) in care.suspects:
            await one(number)
    tasks = [asyncio.ensure_future(one(n)) for n in range(len(items)) if n not in results]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    if len(internal) > max(1, _MOST_INTERNAL * len(items)):
        raise Fatal(f"{work.stage}: {len(internal)} of {len(items)} items met an error of ours, such as {internal[0]}")
    return [results[n] for n in range(len(items))]


async def _attempt(item: T, work: Work[T, R], care: Care, internal: list[str]) -> R:
    name = work.name(item)
    if name in care.poison:
        message = f"{name}: two workers died while they worked on nothing else"
        return work.failed(item, Failure(stage=work.stage, kind="poison", message=message, attempts=2))
    try:
        return await work.do(item)
    except Rejected as error:
        return work.failed(item, Failure(stage=work.stage, kind=error.kind, message=error.message))
    except Fatal:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{name}: {type(error).__name__}: {error} ({place.name}, line {place.lineno})"
        internal.append(message)
        return work.failed(item, Failure(stage=work.stage, kind="internal_error", message=message))
