"""Pools of Ray actors that stream shards through the stages. The only room below `jobs` that knows Ray.

Each stage has a pool, or one pool serves them all; each actor holds its stages' models and takes whole shards. A shard
enters a stage as soon as the stage before has committed it, so captioning, teaching and replay overlap. What is
finished is known from files alone.
"""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from pipeline.blame import Blame, Room, Watch
from pipeline.plan import Planned
from pipeline.stages.items import Care
from pipeline.store import RunStore
from pipeline.worker import Assignment, Progress, ShardReport, Worker
from schemas.config import STAGES, Local, RunConfig
from schemas.errors import Fatal

MAX_DEATHS = 25
"""Deaths of workers on one shard after which the run stops: the machine is at fault, not an item."""


class StageActor:
    """Workers in a process of their own. Errors that stop the run come back as values, so that their type survives."""

    def __init__(self) -> None:
        self._name = ""
        self._watch_name = ""
        self._workers: dict[str, Worker] = {}

    async def assign(self, name: str, assignments: dict[str, Assignment], watch_name: str) -> None:
        """Makes it a run's; no-op where it is that already. Models are loaded from now on, before there is work.

        name: tells the run's actors apart, and is the same after a restart. assignments: by stage.
        """
        if watch_name != self._watch_name:
            self._name, self._watch_name, self._watch = name, watch_name, ray.get_actor(watch_name)
            self._workers = {stage: Worker(assignment) for stage, assignment in assignments.items()}
            # What fails here fails again, and is told, when a shard comes.
            self._preparing = asyncio.gather(*(w.prepare() for w in self._workers.values()), return_exceptions=True)

    async def run(
        self, stage: str, shard: int, planned: list[Planned], suspects: frozenset[str], poison: frozenset[str]
    ) -> ShardReport | Fatal | None:
        """None where this process has been assigned nothing: it took the place of one that died while it was idle."""
        if stage not in self._workers:
            return None

        async def begin(item: str) -> None:
            await self._watch.begin.remote(self._name, stage, shard, item)

        async def end(item: str) -> None:
            await self._watch.end.remote(self._name, stage, shard, item)

        care = Care(suspects=suspects, poison=poison, begin=begin, end=end)
        try:
            return await self._workers[stage].run(shard, planned, care)
        except Fatal as error:
            return error

    async def progress(self) -> dict[str, Progress]:
        """By stage."""
        return {stage: worker.progress() for stage, worker in self._workers.items()}


@dataclass(frozen=True)
class Snapshot:
    """Progress of the whole run. done: committed shards by stage, of `total` shards; deaths: workers lost so far."""

    total: int
    done: dict[str, int]
    workers: dict[str, Progress]
    reports: tuple[ShardReport, ...]
    deaths: int


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


@dataclass(frozen=True)
class Pool:
    """Actors that serve the same stages. gpus: of each actor."""

    stages: tuple[str, ...]
    size: int
    gpus: float


def _pools(config: RunConfig) -> list[Pool]:
    """A pool for each stage, or one for all of them."""
    workers = config.workers
    uses = {"caption": (config.captioner,), "teach": (config.captioner, config.teacher, config.student)}
    gpus = {stage: workers.local_model_gpus * any(isinstance(m, Local) for m in used) for stage, used in uses.items()}
    gpus["replay"] = workers.replay_gpus
    if workers.shared:
        return [Pool(STAGES, workers.shared, max(gpus.values()))]
    return [Pool((stage,), size, gpus[stage]) for stage, size in workers.sizes.items()]


class Cluster:
    """Drives the stages of one run over Ray's actors. Ray must be initialised."""

    def __init__(
        self,
        config: RunConfig,
        run_url: str,
        fingerprints: dict[str, str],
        shards: dict[int, list[Planned]],
        crew: Crew,
        verifier: str = "",
    ) -> None:
        """verifier: the name of a further verifier, "" for the run's own."""
        self._config = config
        self._shards = shards
        self._store = RunStore(run_url, verifier)
        self._assignments = {s: Assignment(config, run_url, s, fingerprints[s], verifier) for s in STAGES}
        self._pools = _pools(config)
        self._queues: dict[str, asyncio.Queue[int]] = {stage: asyncio.Queue() for stage in STAGES}
        self._blame: dict[tuple[str, int], Blame] = defaultdict(Blame)
        self._crew = crew
        self._posts: list[Post] = []
        self._actors: list[Any] = []
        self._done = {stage: self._store.finished(stage) & shards.keys() for stage in STAGES}
        self._reports: list[ShardReport] = []
        self._finished = asyncio.Event()
        # Handed on by name: Ray warns of handles among the arguments of an actor that may restart.
        self._watch_name = f"zoomtrail-watch-{secrets.token_hex(4)}"

    async def run(self, show: Callable[[Snapshot], None], after: Future[None] | None = None) -> None:
        """Until every shard has passed every stage. Raises Fatal as soon as a worker meets one; other work is kept.

        after: no shard is begun before it is done; workers load their models meanwhile.
        """
        watch: Any = (
            ray.remote(Watch).options(name=self._watch_name, num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        )
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
            ray.kill(watch)
            self._crew.give_back(self._posts, self._actors)

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
            blame = self._blame[stage, shard]
            try:
                async with actor.room.entered(alone=bool(blame.suspects)):
                    result = await actor.handle.run.remote(
                        stage, shard, self._shards[shard], frozenset(blame.suspects), frozenset(blame.poison)
                    )
            except RayActorError as error:
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
            self._reports.append(result)
            self._done[stage].add(shard)
            self._enqueue(shard)
            self._check_finished()

    async def _up(self, actor: Actor) -> None:
        """Waits until an actor's process is up, through restarts. Raises Fatal where it never comes up."""
        for _ in range(MAX_DEATHS):
            try:
                await actor.handle.assign.remote(actor.name, actor.assignments, self._watch_name)
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
        workers: dict[str, Progress] = {}
        for stage in STAGES:
            parts = [answer[stage] for answer in answers if stage in answer]
            workers[stage] = Progress(sum(p.items for p in parts), [c for p in parts for c in p.calls])
        return Snapshot(
            total=len(self._shards),
            done={stage: len(done) for stage, done in self._done.items()},
            workers=workers,
            reports=tuple(self._reports),
            deaths=sum(blame.deaths for blame in self._blame.values()),
        )


async def _progress(actor: Any) -> dict[str, Progress]:
    try:
        found: dict[str, Progress] = await asyncio.wait_for(actor.progress.remote(), timeout=2.0)
        return found
    except (RayActorError, TimeoutError):
        return {}
