"""Whose fault a worker's death is, where several shards share the worker."""

import asyncio
from collections.abc import Sequence

import pytest

from pipeline.blame import _LATER_S, Blame, Change, Notes, Room, Watch


def test_an_item_alone_in_flight_at_two_deaths_is_poison() -> None:
    blame = Blame()
    blame.died_with({"a", "b", "c"}, alone=False)
    assert not blame.suspects
    blame.died_with({"b", "c"}, alone=False)
    assert blame.suspects == {"b", "c"} and not blame.poison
    blame.died_with({"b"}, alone=True)
    assert not blame.poison
    blame.died_with({"b"}, alone=True)
    assert blame.poison == {"b"}


def test_an_item_that_died_beside_another_shards_item_was_not_alone() -> None:
    watch = Watch()
    watch.note("teach-0", [("teach", 1, "a", True)])
    watch.note("teach-0", [("teach", 2, "b", True)])
    watch.note("teach-1", [("teach", 3, "c", True)])
    assert watch.take("teach-0", "teach", 1) == ({"a"}, False)
    assert watch.take("teach-0", "teach", 2) == ({"b"}, False)
    assert watch.take("teach-1", "teach", 3) == ({"c"}, True)


def test_what_has_ended_or_been_taken_is_not_blamed() -> None:
    watch = Watch()
    watch.note("all-0", [("caption", 0, "a", True)])
    watch.note("all-0", [("caption", 0, "a", False)])
    watch.note("all-0", [("teach", 0, "b", True)])
    assert watch.take("all-0", "teach", 0) == ({"b"}, True)
    assert watch.take("all-0", "teach", 0) == (set(), False)
    assert watch.take("all-0", "caption", 0) == (set(), False)


def test_a_watch_keeps_nothing_of_what_has_ended() -> None:
    watch = Watch()
    for shard in range(1000):
        watch.note("all-0", [("teach", shard, "a", True), ("teach", shard, "b", True), ("teach", shard, "a", False)])
        watch.note("all-0", [("teach", shard, "b", False)])
    assert not any(watch._in_flight.values())


def test_a_shard_with_suspects_has_its_worker_for_itself() -> None:
    trace: list[str] = []

    async def shard(room: Room, name: str, alone: bool) -> None:
        async with room.entered(alone):
            trace.append(f"+{name}")
            await asyncio.sleep(0.01)
            trace.append(f"-{name}")

    async def both() -> None:
        room = Room()
        await asyncio.gather(
            *(shard(room, name, alone) for name, alone in (("a", False), ("b", False), ("suspect", True), ("c", False)))
        )

    asyncio.run(both())
    assert trace == ["+a", "+b", "-a", "-b", "+suspect", "-suspect", "+c", "-c"]


def test_a_cancelled_wait_for_a_worker_lets_others_in() -> None:
    async def wait() -> str:
        room = Room()
        async with room.entered(alone=False):
            waiting = asyncio.ensure_future(_enter(room, alone=True))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            return await asyncio.wait_for(_enter(room, alone=False), 1.0)

    assert asyncio.run(wait()) == "entered"


async def _enter(room: Room, alone: bool) -> str:
    async with room.entered(alone):
        return "entered"


def noted(watch: Watch, messages: list[int]) -> Notes:
    """Notes of an actor that take 10 ms to arrive. messages: the changes in each."""

    async def send(changes: Sequence[Change]) -> None:
        await asyncio.sleep(0.01)
        watch.note("teach-0", changes)
        messages.append(len(changes))

    return Notes(send)


def test_a_beginning_is_on_record_when_it_returns_with_all_ends_before_it() -> None:
    async def scene() -> None:
        watch, messages = Watch(), list[int]()
        notes = noted(watch, messages)
        for number in range(5):
            await notes.begin("teach", 1, f"item {number}")
            assert watch._in_flight["teach-0"]["teach", 1] == {f"item {number}"}
            notes.end("teach", 1, f"item {number}")
        assert messages == [1, 2, 2, 2, 2]
        await asyncio.sleep(_LATER_S + 0.1)
        assert watch.take("teach-0", "teach", 1) == (set(), False) and messages[5:] == [1]

    asyncio.run(scene())


def test_items_that_begin_together_are_told_in_few_messages() -> None:
    async def scene() -> None:
        watch, messages = Watch(), list[int]()
        notes = noted(watch, messages)
        first = asyncio.ensure_future(notes.begin("teach", 1, "first"))
        await asyncio.sleep(0.005)
        await asyncio.gather(first, *(notes.begin("teach", 1, f"item {number}") for number in range(50)))
        assert messages == [1, 50] and len(watch.take("teach-0", "teach", 1)[0]) == 51

    asyncio.run(scene())


def test_nothing_begins_where_it_cannot_be_told() -> None:
    async def send(_: Sequence[Change]) -> None:
        raise ConnectionError("the watch is gone")

    async def scene() -> None:
        notes = Notes(send)
        notes.end("teach", 1, "a")
        with pytest.raises(ConnectionError):
            await notes.begin("teach", 1, "b")
        with pytest.raises(ConnectionError):
            await notes.begin("teach", 1, "c")

    asyncio.run(scene())
