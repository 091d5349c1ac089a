"""How the driver hires actors from Ray, and how it learns what became of one that does not answer."""

import asyncio
import time
from collections.abc import Sequence
from enum import Enum
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.blame import Blame, Room
from pipeline.pools import Post
from pipeline.stage_actor import Seat, StageActor
from pipeline.worker import Assignment, Progress, ShardReport
from schemas.errors import Fatal, UserError

_LOOK_S = 0.5
"""Between two looks at an actor that does not answer."""

_PATIENCE_S = 30.0
"""After so long without an answer, on a node that is alive, its process is taken for dead: Ray finds a dead node within
some fifteen seconds. Counted in looks: while the driver itself stood still, no answer could come.
"""


def named_actor(what: type, name: str, *arguments: object) -> Any:
    """An actor that outlives the workers and is found by its name. It is on the driver's node: lost with it alone."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": name, "num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(what).options(**options).remote(*arguments)


def end(handle: Any) -> None:
    """Ends an actor at once, and not when the last handle is forgotten."""
    ray.kill(handle)


class Crew:
    """Actors that outlive a run: the next one that needs such an actor finds it with its models loaded."""

    def __init__(self, growing: bool) -> None:
        """growing: further nodes may join, so that a post that fits none may fit one later."""
        self._growing = growing
        self._idle: list[tuple[Post, Any]] = []

    def take(self, posts: Sequence[Post]) -> list[Any]:
        """An actor for each post. Idle ones that fit none are ended first, as the run needs their memory.

        Raises UserError where no node has room for a post, and none will.
        """
        found = [self._idle.pop(at) if (at := self._fitting(post)) is not None else None for post in posts]
        self.dismiss()
        if not self._growing and (
            misfit := next((post for post in dict.fromkeys(posts) if not _with_room(post)), None)
        ):
            raise UserError(f"workers: one that takes {misfit} has no room on this machine; change what it takes")
        return [one[1] if one else _hired(post) for one, post in zip(found, posts, strict=True)]

    def give_back(self, posts: Sequence[Post], actors: Sequence[Any]) -> None:
        self._idle += zip(posts, actors, strict=True)

    def dismiss(self) -> None:
        """Ends all idle actors."""
        for _, actor in self._idle:
            end(actor)
        self._idle = []

    def _fitting(self, post: Post) -> int | None:
        return next((i for i, (other, _) in enumerate(self._idle) if other == post), None)


def _with_room(post: Post) -> set[str]:
    """The nodes that would have room for a post if they were empty."""
    wanted = {"CPU": post.cpus, "GPU": post.gpus, "memory": post.memory}
    if post.accelerator:
        wanted[f"accelerator_type:{post.accelerator}"] = 0.001
    return {
        str(node["NodeID"])
        for node in _living_nodes()
        if all(node["Resources"].get(name, 0) >= amount for name, amount in wanted.items())
    }


def _living_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _hired(post: Post) -> Any:
    return (
        ray.remote(StageActor)
        .options(
            num_cpus=post.cpus,
            num_gpus=post.gpus,
            memory=post.memory or None,
            accelerator_type=post.accelerator or None,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=post.calls,
        )
        .remote()
    )


class Nodes:
    """Which nodes of the cluster are alive, looked up at most once in so many seconds."""

    def __init__(self) -> None:
        self._alive: set[str] = set()
        self._looked_at = float("-inf")

    async def alive(self, node: str) -> bool:
        if time.monotonic() - self._looked_at >= _LOOK_S:
            self._looked_at = time.monotonic()
            self._alive = {node["NodeID"] for node in await asyncio.to_thread(_living_nodes)}
        return node in self._alive

    async def with_room(self, post: Post) -> set[str]:
        """Those that would have room for a post if they were empty."""
        return await asyncio.to_thread(_with_room, post)


class Fate(Enum):
    """What became of an actor that does not answer."""

    PROCESS_DIED = "its process died, and may have been killed by an item"
    NODE_DIED = "its node died, which is nobody's fault"
    KEPT = "only the connection broke: it works on"


class Lost(Exception):
    """An actor gave no answer for a shard. Its cause is what Ray says."""


class Actor:
    """A StageActor as the driver knows it.

    seat: of the process that is up, None while there is none. handle: Ray's, of no use while it stands aside.
    room: what its shards share. deaths: of its process. died_with: nodes that died under it.
    """

    def __init__(self, name: str, post: Post, handle: Any, assignments: dict[str, Assignment], run: str) -> None:
        """See `StageActor.assign`."""
        self.name = name
        self.post = post
        self.handle = handle
        self.stages = tuple(assignments)
        self._seat: Seat | None = None
        self._gone = asyncio.Event()
        self._gone.set()
        self._back = asyncio.Event()
        self._back.set()
        self._asked_for = 0
        self.room = Room()
        self.deaths = 0
        self.died_with: set[str] = set()
        self._told: dict[str, Progress] = {}
        self._assignment = (name, assignments, run)
        self._coming: asyncio.Task[Seat] | None = None
        self._fates: dict[Seat, asyncio.Task[Fate]] = {}

    @property
    def seat(self) -> Seat | None:
        return self._seat

    @seat.setter
    def seat(self, seat: Seat | None) -> None:
        self._seat = seat
        self._gone.set() if seat is None else self._gone.clear()

    async def gone(self) -> None:
        """Waits until no process of it is up."""
        await self._gone.wait()

    async def up(self) -> Seat:
        """Waits until its process is up: through restarts, and as long as the cluster has no room for it.

        Raises Fatal where it can never be.
        """
        while self.seat is None:
            await asyncio.shield(self._on_its_way())
        return self.seat

    async def run(self, stage: str, shard: int, planned: bytes, blame: Blame) -> ShardReport | None:
        """See `StageActor.run`. Raises Fatal, what the stage raised, and Lost."""
        suspects, poison = frozenset(blame.suspects), frozenset(blame.poison)
        self._asked_for += 1
        try:
            result = await self.handle.run.remote(stage, shard, planned, suspects, poison)
        except RayActorError as error:
            raise Lost from error
        except RayTaskError as error:
            raise error.cause from None
        finally:
            self._asked_for -= 1
        if isinstance(result, Fatal):
            raise result
        report: ShardReport | None = result
        if report is None:
            self.seat = None
        return report

    async def fate(self, seat: Seat, nodes: Nodes) -> Fate:
        """What became of the process that sat there. All who ask get the same answer, as soon as Ray tells it.

        Raises Fatal where it can never come up again.
        """
        fate = await asyncio.shield(self._asked(seat, nodes))
        if fate is Fate.KEPT:
            self._fates.pop(seat, None)
        return fate

    async def progress(self, nodes: Nodes) -> dict[str, Progress]:
        """Of its workers, as last told. A death while it was idle is noticed here."""
        if seat := self.seat:
            try:
                self._told = await asyncio.wait_for(self.handle.progress.remote(), timeout=2.0)
            except RayActorError:
                self._asked(seat, nodes)
            except TimeoutError:
                pass
        return self._told

    @property
    def idle(self) -> bool:
        """Whether it has no shard."""
        return not self._asked_for

    @property
    def aside(self) -> bool:
        """Whether it has left its room to others."""
        return not self._back.is_set()

    def stand_aside(self) -> None:
        """Leaves its room to others until it comes back. Only for one that is idle."""
        self._back.clear()
        self.seat = None
        end(self.handle)

    def come_back(self) -> None:
        """Waits for room like all others from now on."""
        self.handle = _hired(self.post)
        self._back.set()

    def close(self) -> None:
        """Asks it no more."""
        self.seat = None
        for task in (self._coming, *self._fates.values()):
            if task is not None:
                task.cancel()

    def _asked(self, seat: Seat, nodes: Nodes) -> "asyncio.Task[Fate]":
        if seat not in self._fates:
            self.seat = None if self.seat == seat else self.seat
            self._fates[seat] = asyncio.ensure_future(self._inquire(seat, nodes))
        return self._fates[seat]

    def _on_its_way(self) -> "asyncio.Task[Seat]":
        if self._coming is None or self._coming.done():
            self._coming = asyncio.ensure_future(self._come())
        return self._coming

    async def _come(self) -> Seat:
        while True:
            await self._back.wait()
            try:
                seat: Seat = await self.handle.assign.remote(*self._assignment)
                self.seat = seat
                return seat
            except ActorUnavailableError:  # Ray says so of one that waits for room after a restart, too
                await asyncio.sleep(_LOOK_S)
            except ActorDiedError as error:
                raise Fatal(f"worker {self.name} cannot be started: {' '.join(str(error).split())}") from error

    async def _inquire(self, seat: Seat, nodes: Nodes) -> Fate:
        coming, looks = self._on_its_way(), 0
        while True:
            await asyncio.wait([coming], timeout=_LOOK_S)
            looks += 1
            if coming.done() and coming.result() == seat:
                return Fate.KEPT
            if not await nodes.alive(seat.node):
                self.died_with.add(seat.node)
                return Fate.NODE_DIED
            if coming.done() or looks * _LOOK_S > _PATIENCE_S:
                self.deaths += 1
                return Fate.PROCESS_DIED
