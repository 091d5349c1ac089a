"""What the driver takes for the death of an actor, and what not."""

import asyncio
import time
from typing import Any

import pytest

from pipeline import actors
from pipeline.actors import Actor, Fate
from pipeline.cluster import _next
from pipeline.loads import Line
from pipeline.pools import Post
from pipeline.stage_actor import Seat


class Alive:
    """Of a cluster that loses no node."""

    async def alive(self, node: str) -> bool:
        return True


def asked(seat: Seat, answer_s: float, stall_s: float) -> Fate:
    """What becomes of an actor that answers after some seconds, while the driver stands still for some."""

    class Handle:
        class assign:
            @staticmethod
            async def remote(*assignment: object) -> Seat:
                await asyncio.sleep(answer_s)
                return seat

    async def scene() -> Fate:
        actor: Any = Actor("teach-0", Post(cpus=1, gpus=0, calls=1), Handle(), {}, "run")
        actor.seat = seat
        asyncio.get_running_loop().call_later(0.02, time.sleep, stall_s)
        fate: Fate = await actor.fate(seat, Alive())
        return fate

    return asyncio.run(scene())


def test_a_driver_that_stood_still_blames_no_actor_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "_LOOK_S", 0.05)
    monkeypatch.setattr(actors, "_PATIENCE_S", 0.6)
    seat = Seat("node", "process")
    assert asked(seat, answer_s=0.3, stall_s=1.0) is Fate.KEPT
    assert asked(seat, answer_s=5.0, stall_s=0.0) is Fate.PROCESS_DIED


def test_a_slot_of_an_actor_that_died_idle_waits_for_no_shard() -> None:
    async def scene() -> None:
        actor: Any = Actor("teach-0", Post(cpus=1, gpus=0, calls=1), None, {}, "run")
        line = Line()
        assert await _next(line, actor) is None
        actor.seat = Seat("node", "process")
        waiting = asyncio.ensure_future(_next(line, actor))
        await asyncio.sleep(0.01)
        actor.seat = None
        assert await asyncio.wait_for(waiting, 1) is None
        line.put(7)
        await asyncio.sleep(0.01)
        assert len(line) == 1
        actor.seat = Seat("node", "another")
        found = await _next(line, actor)
        assert found is not None and found[0] == 7

    asyncio.run(scene())
