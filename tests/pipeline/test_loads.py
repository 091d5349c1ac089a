"""What waits for workers, and how busy they are: counted to the second."""

import asyncio

import pytest

from pipeline.loads import Busyness, Line


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_shard_that_is_queued_again_goes_before_later_ones() -> None:
    async def scene() -> list[int]:
        line = Line()
        for shard in (3, 1, 2):
            line.put(shard)
        first, _ = await line.get()
        line.put(4)
        line.put(first)
        return [first, *[(await line.get())[0] for _ in range(4)]]

    assert asyncio.run(scene()) == [1, 1, 2, 3, 4]


def test_the_age_of_a_line_is_that_of_its_oldest_shard() -> None:
    async def scene() -> list[tuple[int, float]]:
        clock = Clock()
        line, seen = Line(clock), []
        for shard in (7, 5):
            line.put(shard)
            clock.now += 10
        seen.append((len(line), line.oldest_s))
        await line.get()  # 5, the younger one
        seen.append((len(line), line.oldest_s))
        await line.get()
        seen.append((len(line), line.oldest_s))
        return seen

    assert asyncio.run(scene()) == [(2, 20.0), (1, 20.0), (0, 0.0)]


def test_a_shard_that_comes_back_has_waited_for_all_of_its_time_in_the_line() -> None:
    async def scene() -> list[float]:
        clock = Clock()
        line = Line(clock)
        line.put(1)
        clock.now += 10
        shard, waited_s = await line.get()
        line.put(2)
        clock.now += 5  # under way
        line.put(shard, waited_s)
        seen = [line.oldest_s]
        clock.now += 3
        return [*seen, line.oldest_s, (await line.get())[1], line.oldest_s]

    assert asyncio.run(scene()) == [10.0, 13.0, 13.0, 8.0]


def test_only_the_time_in_which_slots_are_there_and_busy_counts() -> None:
    clock = Clock()
    busyness = Busyness(clock)
    clock.now += 50  # no slot yet
    with busyness.there(), busyness.there():
        clock.now += 10
        with busyness.at_work():
            clock.now += 5
            with pytest.raises(RuntimeError), busyness.at_work():
                clock.now += 3
                raise RuntimeError
            assert (busyness.now().slots, busyness.busy) == (2, 1)
    clock.now += 50
    assert (busyness.now().slot_s, busyness.busy_s) == (36.0, 11.0)
    assert (busyness.slots, busyness.busy) == (0, 0)
