"""Pools of Ray actors that stream shards through the stages. The only room below `jobs` that knows Ray.

Each stage has a pool, or one pool serves them all; each actor holds its stages' models and takes whole shards. A shard
enters a stage as soon as the stage before has committed it, so captioning, teaching and replay overlap. What is
finished is known from files alone.
"""

import asyncio
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from pipeline.blame import Blame, Change, Notes, Room, Watch
from pipeline.leases import Spent
from pipeline.ledger import used_before
from pipeline.links import ToActor
from pipeline.meter import Meter
from pipeline.plan import Planned
from pipeline.plan_parts import PlannedShard, ShardRows, unpacked
from pipeline.pools import pools
from pipeline.stages.items import Care
from pipeline.store import RunStore
from pipeline.worker import Assignment, Progress, ShardReport, Worker
from schemas.arrow import from_table
from schemas.config import STAGES, Budget, RunConfig
from schemas.errors import Fatal

MAX_DEATHS = 25
"""Deaths of workers on one shard after which the run stops: the machine is at fault, not an item."""


def named_actor(what: type, name: str, *arguments: object) -> Any:
    """An actor that outlives the workers and is found by its name."""
    options = {"name": name, "num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray.remote(what).options(**options).remote(*arguments)


class StageActor:
    """Workers in a process of their own. Errors that stop the run come back as values, so that their type survives."""

    def __init__(self) -> None:
        self._name = ""
        self._run = ""
        self._workers: dict[str, Worker] = {}

    async def assign(self, name: str, assignments: dict[str, Assignment], run: str) -> None:
        """Makes it a run's; no-op where it is that already. Models are loaded from now on, before there is work.

        name: tells the run's actors apart, and is the same after a restart. assignments: by stage. run: begins the
        names of its watch and its meter.
        """
        if run != self._run:
            self._name, self._run, watch = name, run, ray.get_actor(f"{run}-watch")

            async def note(changes: Sequence[Change]) -> None:
                await watch.note.remote(name, changes)

            self._notes = Notes(note)
            metered = any(assignment.config.endpoints for assignment in assignments.values())
            link = ToActor(name, ray.get_actor(f"{run}-meter")) if metered else None
            self._workers = {stage: Worker(assignment, link) for stage, assignment in assignments.items()}
            # What fails here fails again, and is told, when a shard comes.
            self._preparing = asyncio.gather(*(w.prepare() for w in self._workers.values()), return_exceptions=True)

    async def run(
        self, stage: str, shard: int, planned: bytes, suspects: frozenset[str], poison: frozenset[str]
    ) -> ShardReport | Fatal | None:
        """planned: of `ShardRows.message`.

        None where this process has been assigned nothing: it took the place of one that died while it was idle.
        """
        if stage not in self._workers:
            return None

        async def begin(item: str) -> None:
            await self._notes.begin(stage, shard, item)

        async def end(item: str) -> None:
            self._notes.end(stage, shard, item)

        care = Care(suspects=suspects, poison=poison, begin=begin, end=end)
        try:
            rows = await asyncio.to_thread(from_table, Planned, unpacked(planned))
            return await self._workers[stage].run(shard, rows, care)
        except Fatal as error:
            return error

    async def progress(self) -> dict[str, Progress]:
        """By stage."""
        return {stage: worker.progress() for stage, worker in self._workers.items()}


@dataclass(frozen=True)
class Snapshot:
    """Progress of the whole run. done: committed shards by stage, of `total` shards; deaths: workers lost so far.

    rows: committed in this session, by stage and status. spent: by role, of those that are endpoints'.
    """

    total: int
    done: dict[str, int]
    workers: dict[str, Progress]
    rows: dict[str, Counter[str]]
    deaths: int
    spent: dict[str, Spent]


@dataclass(frozen=True)
class Post:
    """What Ray has to give an actor: CPUs, GPUs, and calls that may be under way in it at once."""

    cpus: float
    gpus: float
    calls: int


class Crew:
    """Actors that outlive a run: the next one that needs such an actor finds it with its models loaded."""

    def __init__(self) -> None:
        self._idle: list[tuple[Post, Any]] = []

    def take(self, posts: Sequence[Post]) -> list[Any]:
        """An actor for each post. Idle ones that fit none are ended first, as the run needs their memory."""
        found = [self._idle.pop(at) if (at := self._fitting(post)) is not None else None for post in posts]
        self.dismiss()
        return [one[1] if one else _hired(post) for one, post in zip(found, posts, strict=True)]

    def give_back(self, posts: Sequence[Post], actors: Sequence[Any]) -> None:
        self._idle += zip(posts, actors, strict=True)

    def dismiss(self) -> None:
        """Ends all idle actors at once, and not when the last handle is forgotten."""
        for _, actor in self._idle:
            ray.kill(actor)
        self._idle = []

    def _fitting(self, post: Post) -> int | None:
        return next((i for i, (other, _) in enumerate(self._idle) if other == post), None)


def _hired(post: Post) -> Any:
    return (
        ray.remote(StageActor)
        .options(
            num_cpus=post.cpus,
            num_gpus=post.gpus,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=post.calls,
        )
        .remote()
    )


@dataclass(frozen=True)
class Actor:
    """A StageActor's handle, with its name, what it works on and what its shards share."""

    name: str
    handle: Any
    assignments: dict[str, Assignment]
    room: Room


class Cluster:
    """Drives the stages of one run over Ray's actors. Ray must be initialised."""

    def __init__(
        self,
        config: RunConfig,
        run_url: str,
        fingerprints: dict[str, str],
        shards: dict[int, PlannedShard],
        crew: Crew,
        verifier: str,
        done: dict[str, set[int]],
    ) -> None:
        """verifier: the name of a further verifier, "" for the run's own. done: by stage, the shards it has committed.

        Of what is planned and done it keeps sums and a few numbers for each shard, however many attempts there are.
        """
        self._config = config
        self._run_url = run_url
        self._shards = shards
        self._planned = ShardRows(RunStore(run_url), shards)
        self._assignments = {s: Assignment(config, run_url, s, fingerprints[s], verifier) for s in STAGES}
        self._pools = pools(config)
        self._queues: dict[str, asyncio.Queue[int]] = {stage: asyncio.Queue() for stage in STAGES}
        self._blame: dict[tuple[str, int], Blame] = defaultdict(Blame)
        self._crew = crew
        self._posts: list[Post] = []
        self._actors: list[Any] = []
        self._done = {stage: set(done[stage]) for stage in STAGES}
        self._rows: dict[str, Counter[str]] = {stage: Counter() for stage in STAGES}
        self._deaths = 0
        self._finished = asyncio.Event()
        # Handed on by name: Ray warns of handles among the arguments of an actor that may restart.
        self._name = f"zoomtrail-{secrets.token_hex(4)}"
        self._meter: Any = None
        self._spent: dict[str, Spent] = {}

    async def run(self, show: Callable[[Snapshot], None], after: Future[None] | None = None) -> None:
        """Until every shard has passed every stage. Raises Fatal as soon as a worker meets one; other work is kept.

        after: no shard is begun before it is done; workers load their models meanwhile.
        """
        watch = named_actor(Watch, f"{self._name}-watch")
        await self._begin_metering()
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._show(show))]
        tasks += [asyncio.ensure_future(slot) for slot in self._slots(watch)]
        finished: asyncio.Future[Any] = asyncio.ensure_future(self._finished.wait())
        try:
            if after is not None:
                await asyncio.wrap_future(after)
            for shard in sorted(self._shards):
                self._enqueue(shard)
            self._check_finished()
            await asyncio.wait([finished, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in [finished, *tasks]:
                task.cancel()
            await asyncio.gather(finished, *tasks, return_exceptions=True)
            show(await self._snapshot())
            for actor in filter(None, (watch, self._meter)):
                ray.kill(actor)
            self._crew.give_back(self._posts, self._actors)

    async def _begin_metering(self) -> None:
        config = self._config
        if config.endpoints:
            budgeted = config.budget != Budget()
            earlier = await asyncio.to_thread(used_before, self._run_url, config.endpoints) if budgeted else {}
            self._meter = named_actor(Meter, f"{self._name}-meter", config.endpoints, config.budget, earlier)

    def _enqueue(self, shard: int) -> None:
        """Puts a shard before the first stage that has not committed it."""
        for stage in STAGES:
            if shard not in self._done[stage]:
                self._queues[stage].put_nowait(shard)
                return

    def _check_finished(self) -> None:
        if all(len(done) == len(self._shards) for done in self._done.values()):
            self._finished.set()

    def _slots(self, watch: Any) -> list[Coroutine[Any, Any, None]]:
        """Of all actors: each has as many slots as shards that it may have in flight."""
        workers = self._config.workers
        posts, places = list[Post](), list[tuple[str, list[str], list[str]]]()
        for pool in self._pools:
            stages = [stage for stage in pool.stages if len(self._done[stage]) < len(self._shards)]
            in_flight = [s for s in pool.stages for _ in range(workers.shards_in_flight if s == "teach" else 1)]
            for number in range(min(pool.size, len(self._shards)) if stages else 0):
                posts.append(Post(workers.cpus, pool.gpus, len(in_flight) + 2))
                places.append((f"{'+'.join(stages)}-{number}", stages, in_flight))
        self._posts, self._actors = posts, self._crew.take(posts)
        slots: list[Coroutine[Any, Any, None]] = []
        for handle, (name, stages, in_flight) in zip(self._actors, places, strict=True):
            one = Actor(name, handle, {stage: self._assignments[stage] for stage in stages}, Room())
            slots += [self._slot(stage, one, watch) for stage in in_flight if stage in stages]
        return slots

    async def _slot(self, stage: str, actor: Actor, watch: Any) -> None:
        """Takes shards one after the other; an actor that dies is restarted by Ray, and its shard queued again."""
        up = False
        while True:
            if not up:
                await self._up(actor)
                up = True
            shard = await self._queues[stage].get()
            planned, blame = await asyncio.to_thread(self._planned.message, shard), self._blame[stage, shard]
            try:
                async with actor.room.entered(alone=bool(blame.suspects)):
                    result = await actor.handle.run.remote(
                        stage, shard, planned, frozenset(blame.suspects), frozenset(blame.poison)
                    )
            except RayActorError as error:
                if self._meter:
                    await self._meter.forget.remote(actor.name)
                self._deaths += 1
                blame.died_with(*await watch.take.remote(actor.name, stage, shard))
                if blame.deaths >= MAX_DEATHS:
                    raise Fatal(f"{stage}: {blame.deaths} workers died on shard {shard}; the last: {error}") from error
                self._queues[stage].put_nowait(shard)
                up = False
                continue
            except RayTaskError as error:
                raise error.cause from None
            if isinstance(result, Fatal):
                raise result
            if result is None:
                self._queues[stage].put_nowait(shard)
                up = False
                continue
            self._rows[stage].update(result.statuses)
            self._done[stage].add(shard)
            del self._blame[stage, shard]
            self._enqueue(shard)
            self._check_finished()

    async def _up(self, actor: Actor) -> None:
        """Waits until an actor's process is up, through restarts. Raises Fatal where it never comes up."""
        for _ in range(MAX_DEATHS):
            try:
                await actor.handle.assign.remote(actor.name, actor.assignments, self._name)
                return
            except RayActorError as error:
                last = error
                await asyncio.sleep(0.5)
        raise Fatal(f"a worker process does not come up: {last}")

    async def _show(self, show: Callable[[Snapshot], None]) -> None:
        while True:
            show(await self._snapshot())
            await asyncio.sleep(1.0)

    async def _snapshot(self) -> Snapshot:
        answers = await asyncio.gather(*(_progress(actor) for actor in self._actors))
        if self._meter:
            self._spent = await self._meter.spent.remote()
        workers: dict[str, Progress] = {}
        for stage in STAGES:
            parts = [answer[stage] for answer in answers if stage in answer]
            workers[stage] = Progress(sum(p.items for p in parts), [c for p in parts for c in p.calls])
        return Snapshot(
            total=len(self._shards),
            done={stage: len(done) for stage, done in self._done.items()},
            workers=workers,
            rows=self._rows,
            deaths=self._deaths,
            spent=self._spent,
        )


async def _progress(actor: Any) -> dict[str, Progress]:
    try:
        found: dict[str, Progress] = await asyncio.wait_for(actor.progress.remote(), timeout=2.0)
        return found
    except (RayActorError, TimeoutError):
        return {}
