"""Pools of Ray actors that stream shards through the stages. The only room below `jobs` that knows Ray.

Each stage has a pool; each actor holds its stage's models and takes whole shards. A shard enters a stage as soon as the
stage before has committed it, so captioning, teaching and replay overlap. What is finished is known from files alone.
"""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from pipeline.plan import Planned
from pipeline.stages.items import Care
from pipeline.store import RunStore
from pipeline.worker import Assignment, Progress, ShardReport, Worker
from schemas.config import STAGES, Local, RunConfig
from schemas.errors import Fatal

MAX_DEATHS = 25
"""Deaths of workers on one shard after which the run stops: the machine is at fault, not an item."""


class Watch:
    """Remembers which items each shard has in flight, so that a worker's death can be blamed. Outlives the workers."""

    def __init__(self) -> None:
        self._in_flight: dict[tuple[str, int], set[str]] = defaultdict(set)

    def begin(self, stage: str, shard: int, item: str) -> None:
        self._in_flight[stage, shard].add(item)

    def end(self, stage: str, shard: int, item: str) -> None:
        self._in_flight[stage, shard].discard(item)

    def take(self, stage: str, shard: int) -> set[str]:
        """The items in flight, forgotten with this call."""
        return self._in_flight.pop((stage, shard), set())


class StageActor:
    """A worker in a process of its own. Errors that stop the run come back as values, so that their type survives."""

    def __init__(self, assignment: Assignment, watch_name: str) -> None:
        self._worker = Worker(assignment)
        self._watch = ray.get_actor(watch_name)
        self._stage = assignment.stage

    async def ready(self) -> None:
        """Answers once the process is up."""

    async def run(
        self, shard: int, planned: list[Planned], suspects: frozenset[str], poison: frozenset[str]
    ) -> ShardReport | Fatal:
        async def begin(item: str) -> None:
            await self._watch.begin.remote(self._stage, shard, item)

        async def end(item: str) -> None:
            await self._watch.end.remote(self._stage, shard, item)

        care = Care(suspects=suspects, poison=poison, begin=begin, end=end)
        try:
            return await self._worker.run(shard, planned, care)
        except Fatal as error:
            return error

    async def progress(self) -> Progress:
        return self._worker.progress()


@dataclass
class Blame:
    """What the deaths of workers on one shard have shown so far."""

    deaths: int = 0
    seen: set[str] = field(default_factory=set)
    alone: set[str] = field(default_factory=set)
    suspects: set[str] = field(default_factory=set)
    poison: set[str] = field(default_factory=set)

    def died_with(self, in_flight: set[str]) -> None:
        """One more death. Alone in flight at two deaths is poison; among others at two deaths is suspect."""
        self.deaths += 1
        if len(in_flight) == 1:
            self.poison |= in_flight & self.alone
            self.alone |= in_flight
        self.suspects |= in_flight & self.seen
        self.seen |= in_flight


@dataclass(frozen=True)
class Snapshot:
    """Progress of the whole run. done: committed shards by stage, of `total` shards; deaths: workers lost so far."""

    total: int
    done: dict[str, int]
    workers: dict[str, Progress]
    reports: tuple[ShardReport, ...]
    deaths: int


class Cluster:
    """Drives the stages of one run over Ray's actors. Ray must be initialised."""

    def __init__(
        self, config: RunConfig, run_url: str, fingerprints: dict[str, str], shards: dict[int, list[Planned]]
    ) -> None:
        self._config = config
        self._shards = shards
        self._store = RunStore(run_url)
        self._assignments = {s: Assignment(config, run_url, s, fingerprints[s]) for s in STAGES}
        self._queues: dict[str, asyncio.Queue[int]] = {stage: asyncio.Queue() for stage in STAGES}
        self._blame: dict[tuple[str, int], Blame] = defaultdict(Blame)
        self._actors: dict[str, list[Any]] = {stage: [] for stage in STAGES}
        self._done = {stage: self._store.finished(stage) & shards.keys() for stage in STAGES}
        self._reports: list[ShardReport] = []
        self._finished = asyncio.Event()
        # Handed on by name: Ray warns of handles among the arguments of an actor that may restart.
        self._watch_name = f"zoomtrail-watch-{secrets.token_hex(4)}"

    async def run(self, show: Callable[[Snapshot], None]) -> None:
        """Until every shard has passed every stage. Raises Fatal as soon as a worker meets one; other work is kept."""
        for shard in sorted(self._shards):
            self._enqueue(shard)
        self._check_finished()
        watch = (
            ray.remote(Watch).options(name=self._watch_name, num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        )
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._show(show))]
        for stage in STAGES:
            if len(self._done[stage]) < len(self._shards):
                tasks += [asyncio.ensure_future(slot) for slot in self._slots(stage, watch)]
        finished: asyncio.Future[Any] = asyncio.ensure_future(self._finished.wait())
        try:
            await asyncio.wait([finished, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in [finished, *tasks]:
                task.cancel()
            await asyncio.gather(finished, *tasks, return_exceptions=True)
            show(await self._snapshot())
            # At once, and not when the last handle is forgotten: a run that follows needs their memory.
            for actor in [watch, *(actor for pool in self._actors.values() for actor in pool)]:
                ray.kill(actor)

    def _enqueue(self, shard: int) -> None:
        """Puts a shard before the first stage that has not committed it."""
        for stage in STAGES:
            if shard not in self._done[stage]:
                self._queues[stage].put_nowait(shard)
                return

    def _check_finished(self) -> None:
        if all(len(done) == len(self._shards) for done in self._done.values()):
            self._finished.set()

    def _slots(self, stage: str, watch: Any) -> list[Coroutine[Any, Any, None]]:
        """The pool of a stage: per actor as many slots as shards it may have in flight."""
        workers = self._config.workers
        size = {"caption": workers.caption, "teach": workers.teach, "replay": workers.replay}[stage]
        per_actor = workers.shards_in_flight if stage == "teach" else 1
        slots: list[Coroutine[Any, Any, None]] = []
        for _ in range(min(size, len(self._shards))):
            actor = (
                ray.remote(StageActor)
                .options(
                    num_cpus=workers.cpus,
                    num_gpus=self._gpus(stage),
                    max_restarts=-1,
                    max_task_retries=0,
                    max_concurrency=per_actor + 2,
                )
                .remote(self._assignments[stage], self._watch_name)
            )
            self._actors[stage].append(actor)
            slots += [self._slot(stage, actor, watch) for _ in range(per_actor)]
        return slots

    def _gpus(self, stage: str) -> float:
        config, workers = self._config, self._config.workers
        if stage == "replay":
            return workers.replay_gpus
        uses = {"caption": (config.captioner,), "teach": (config.captioner, config.teacher)}[stage]
        return workers.local_model_gpus if any(isinstance(model, Local) for model in uses) else 0.0

    async def _slot(self, stage: str, actor: Any, watch: Any) -> None:
        """Takes shards one after the other; an actor that dies is restarted by Ray, and its shard queued again."""
        up = False
        while True:
            if not up:
                await _alive(actor)
                up = True
            shard = await self._queues[stage].get()
            blame = self._blame[stage, shard]
            call = actor.run.remote(shard, self._shards[shard], frozenset(blame.suspects), frozenset(blame.poison))
            try:
                result = await call
            except RayActorError as error:
                blame.died_with(await watch.take.remote(stage, shard))
                if blame.deaths >= MAX_DEATHS:
                    raise Fatal(f"{stage}: {blame.deaths} workers died on shard {shard}; the last: {error}") from error
                self._queues[stage].put_nowait(shard)
                up = False
                continue
            except RayTaskError as error:
                raise error.cause from None
            if isinstance(result, Fatal):
                raise result
            self._reports.append(result)
            self._done[stage].add(shard)
            self._enqueue(shard)
            self._check_finished()

    async def _show(self, show: Callable[[Snapshot], None]) -> None:
        while True:
            show(await self._snapshot())
            await asyncio.sleep(1.0)

    async def _snapshot(self) -> Snapshot:
        workers: dict[str, Progress] = {}
        for stage, actors in self._actors.items():
            answers = await asyncio.gather(*(_progress(actor) for actor in actors))
            workers[stage] = Progress(sum(p.items for p in answers), [c for p in answers for c in p.calls])
        return Snapshot(
            total=len(self._shards),
            done={stage: len(done) for stage, done in self._done.items()},
            workers=workers,
            reports=tuple(self._reports),
            deaths=sum(blame.deaths for blame in self._blame.values()),
        )


async def _alive(actor: Any) -> None:
    """Waits until an actor's process is up, through restarts. Raises Fatal where it never comes up."""
    for _ in range(MAX_DEATHS):
        try:
            await actor.ready.remote()
            return
        except RayActorError as error:
            last = error
            await asyncio.sleep(0.5)
    raise Fatal(f"a worker process does not come up: {last}")


async def _progress(actor: Any) -> Progress:
    try:
        return await asyncio.wait_for(actor.progress.remote(), timeout=2.0)
    except (RayActorError, TimeoutError):
        return Progress()
