"""What waits for the workers of a stage, and how busy they are. Knows no Ray."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """Of one stage, at a moment of a session.

    up: actors at work or ready for it; pending: those that wait for room in the cluster, or for their process; takes:
    what one of them takes of a node.
    busy: shards under way, of as many `slots` as the actors that are up have. busy_s, slot_s: seconds that all slots
    have had a shard, and that they have been there. waiting: shards; oldest_s: how long the longest of them has.
    """

    up: int = 0
    pending: int = 0
    takes: str = ""
    busy: int = 0
    slots: int = 0
    busy_s: float = 0.0
    slot_s: float = 0.0
    waiting: int = 0
    oldest_s: float = 0.0


class Line:
    """Shards that wait for a stage. The lowest number is next: one that lost its worker does not begin anew at the end.

    clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shards: asyncio.PriorityQueue[int] = asyncio.PriorityQueue()
        self._since: dict[int, float] = {}

    def put(self, shard: int, waited_s: float = 0.0) -> None:
        """waited_s: seconds for which it has waited already, where it comes back without being done."""
        self._since[shard] = self._clock() - waited_s
        self._shards.put_nowait(shard)

    async def get(self) -> tuple[int, float]:
        """The next shard, as soon as there is one, and the seconds for which it has waited."""
        shard = await self._shards.get()
        return shard, self._clock() - self._since.pop(shard)

    def __len__(self) -> int:
        return len(self._since)

    @property
    def oldest_s(self) -> float:
        """Seconds for which the shard that waits longest has; 0 where none waits. Time under way is none of it."""
        return self._clock() - min(self._since.values()) if self._since else 0.0


@dataclass
class Busyness:
    """Adds up how long the slots of a stage were there, and how long they were busy, in seconds."""

    clock: Callable[[], float] = time.monotonic
    slots: int = 0
    busy: int = 0
    busy_s: float = 0.0
    slot_s: float = 0.0
    _at: float | None = None

    @contextmanager
    def there(self) -> Iterator[None]:
        """One more slot, inside."""
        self.now().slots += 1
        try:
            yield
        finally:
            self.now().slots -= 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """One more slot is busy, inside."""
        self.now().busy += 1
        try:
            yield
        finally:
            self.now().busy -= 1

    def now(self) -> "Busyness":
        """This, with the seconds until now counted."""
        at = self.clock()
        if self._at is not None:
            self.busy_s += self.busy * (at - self._at)
            self.slot_s += self.slots * (at - self._at)
        self._at = at
        return self
