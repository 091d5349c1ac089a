"""Who is at fault when a worker's process dies: what was in flight, what recurs, and what dies alone."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from schemas.errors import Fatal

MAX_DEATHS = 25
"""Deaths of workers and nodes on one shard after which the run stops."""


class Watch:
    """Remembers which items each actor has in flight, so that its death can be blamed. Outlives the actors."""

    def __init__(self) -> None:
        self._in_flight: dict[str, dict[tuple[str, int], set[str]]] = defaultdict(lambda: defaultdict(set))
        self._lost: dict[tuple[str, str, int], tuple[set[str], bool]] = {}

    def begin(self, actor: str, stage: str, shard: int, item: str) -> None:
        self._in_flight[actor][stage, shard].add(item)

    def end(self, actor: str, stage: str, shard: int, item: str) -> None:
        self._in_flight[actor][stage, shard].discard(item)

    def take(self, actor: str, stage: str, shard: int) -> tuple[set[str], bool]:
        """The items of a shard that a dead actor had in flight, and whether it had no other; forgotten with this call.

        Each shard that the actor had in flight asks once, before the actor is up again.
        """
        shards = self._in_flight.pop(actor, {})
        alone = sum(map(len, shards.values())) == 1
        self._lost |= {(actor, *key): (items, alone) for key, items in shards.items() if items}
        return self._lost.pop((actor, stage, shard), (set(), False))


@dataclass
class Blame:
    """What the deaths of workers on one shard have shown so far. nodes: that died under it, which shows nothing."""

    deaths: int = 0
    nodes: int = 0
    seen: set[str] = field(default_factory=set)
    alone: set[str] = field(default_factory=set)
    suspects: set[str] = field(default_factory=set)
    poison: set[str] = field(default_factory=set)

    def check(self, what: str, last: BaseException) -> None:
        """Raises Fatal where so many workers and nodes died on it that the machines must be at fault, not an item."""
        if self.deaths + self.nodes >= MAX_DEATHS:
            lost = f"{self.deaths} workers and {self.nodes} nodes"
            raise Fatal(f"{what}: {lost} died while they worked on it; the last: {last.__cause__ or last}") from last

    def died_with(self, in_flight: set[str], alone: bool) -> None:
        """One more death. Alone in flight at two deaths is poison; among others at two deaths is suspect.

        in_flight: of this shard; alone: the dead actor had one item in flight in all its shards.
        """
        self.deaths += 1
        if alone:
            self.poison |= in_flight & self.alone
            self.alone |= in_flight
        self.suspects |= in_flight & self.seen
        self.seen |= in_flight


class Room:
    """What the shards of one actor share. One that has suspects gets it for itself: so a death can be blamed on it."""

    def __init__(self) -> None:
        self._inside = 0
        self._exclusive = 0
        self._left = asyncio.Condition()

    @asynccontextmanager
    async def entered(self, alone: bool) -> AsyncIterator[None]:
        """Waits until the room is free for this shard; `alone` goes before those that have not entered yet."""
        self._exclusive += alone
        try:
            async with self._left:
                await self._left.wait_for(lambda: not self._inside if alone else not self._exclusive)
                self._inside += 1
            try:
                yield
            finally:
                self._inside -= 1
        finally:
            self._exclusive -= alone
            async with self._left:
                self._left.notify_all()
