"""Whose fault a worker's death is, where several shards share the worker."""

import asyncio

from pipeline.blame import Blame, Room, Watch


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
    watch.begin("teach-0", "teach", 1, "a")
    watch.begin("teach-0", "teach", 2, "b")
    watch.begin("teach-1", "teach", 3, "c")
    assert watch.take("teach-0", "teach", 1) == ({"a"}, False)
    assert watch.take("teach-0", "teach", 2) == ({"b"}, False)
    assert watch.take("teach-1", "teach", 3) == ({"c"}, True)


def test_what_has_ended_or_been_taken_is_not_blamed() -> None:
    watch = Watch()
    watch.begin("all-0", "caption", 0, "a")
    watch.end("all-0", "caption", 0, "a")
    watch.begin("all-0", "teach", 0, "b")
    assert watch.take("all-0", "teach", 0) == ({"b"}, True)
    assert watch.take("all-0", "teach", 0) == (set(), False)
    assert watch.take("all-0", "caption", 0) == (set(), False)


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
