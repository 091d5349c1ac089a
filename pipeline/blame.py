"""Who is at fault when a worker's process dies: what was in flight, what recurs, and what dies alone."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from schemas.errors import Fatal

Change = tuple[str, int, str, bool]
"""Stage, shard and item, and whether it begins or ends."""

MAX_DEATHS = 25
"""Deaths of workers and nodes on one shard after which the run stops."""

_LATER_S = 0.2
"""Seconds after which the end of an item is told at the latest, where no other begins."""


class Watch:
    """Remembers which items each actor has in flight, so that its death can be blamed. Outlives the actors."""

    def __init__(self) -> None:
        self._in_flight: dict[str, dict[tuple[str, int], set[str]]] = defaultdict(lambda: defaultdict(set))
        self._lost: dict[tuple[str, str, int], tuple[set[str], bool]] = {}

    def note(self, actor: str, changes: Sequence[Change]) -> None:
        """What an actor has begun and ended, in order."""
        for stage, shard, item, begun in changes:
            items = self._in_flight[actor][stage, shard]
            items.add(item) if begun else items.discard(item)
            if not items:
                del self._in_flight[actor][stage, shard]

    def take(self, actor: str, stage: str, shard: int) -> tuple[set[str], bool]:
        """The items of a shard that a dead actor had in flight, and whether it had no other; forgotten with this call.

        Each shard that the actor had in flight asks once, before the actor is up again.
        """
        shards = self._in_flight.pop(actor, {})
        alone = sum(map(len, shards.values())) == 1
        self._lost |= {(actor, *key): (items, alone) for key, items in shards.items() if items}
        return self._lost.pop((actor, stage, shard), (set(), False))


class Notes:
    """Tells a watch what begins and ends, several items in one message: a message costs more than most items do.

    A beginning is on record when `begin` returns. An end waits for the next beginning, or a moment: what is on record
    at a beginning is exact; at other times an item may be among it that has just ended.
    """

    def __init__(self, send: Callable[[Sequence[Change]], Awaitable[None]]) -> None:
        self._send = send
        self._changes: list[Change] = []
        self._told: asyncio.Future[None] | None = None
        self._talk: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None

    async def begin(self, stage: str, shard: int, item: str) -> None:
        """Raises what `send` raises."""
        self._changes.append((stage, shard, item, True))
        await asyncio.shield(self._tell())

    def end(self, stage: str, shard: int, item: str) -> None:
        self._changes.append((stage, shard, item, False))
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(_LATER_S, self._tell)

    def _tell(self) -> "asyncio.Future[None]":
        """Done when all changes so far are on record. What comes while a message is under way goes with the next."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._told is None:
            self._told = asyncio.get_running_loop().create_future()
        if self._talk is None or self._talk.done():
            self._talk = asyncio.ensure_future(self._talk_on())
        return self._told

    async def _talk_on(self) -> None:
        while self._told is not None:
            told, changes = self._told, self._changes
            self._told, self._changes = None, []
            try:
                await self._send(changes)
            except Exception as error:
                told.set_exception(error)
                told.exception()  # nobody waits where only ends were told
            else:
                told.set_result(None)


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
