"""Streams shards through the stages, over pools of Ray actors.

Each stage has a pool, or one pool serves them all; each actor holds its stages' models and takes whole shards. A shard
enters a stage as soon as the stage before has committed it, so captioning, teaching and replay overlap. What is
finished is known from files alone. A pool's size is what it may grow to: actors without room wait for it, and those
that are up do the work.
"""

import asyncio
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.actors import Actor, Crew, Fate, Lost, Nodes, end, named_actor
from pipeline.blame import Blame, Watch
from pipeline.leases import Spent
from pipeline.ledger import merge, used_before
from pipeline.loads import Busyness, Line, Load
from pipeline.meter import Meter
from pipeline.plan_parts import PlannedShard, ShardRows
from pipeline.pools import Pool, pools
from pipeline.relief import Relief
from pipeline.stage_actor import Seat
from pipeline.store import RunStore
from pipeline.worker import Assignment, Progress, ShardReport
from schemas.config import STAGES, Budget, RunConfig

_TIDY_AFTER_S = 60.0
"""Seconds until the index of calls is tidied, which would keep a session's first calls waiting."""

_LOOK_S = 5.0
"""Between two looks for stages that have work and no actor."""


@dataclass(frozen=True)
class Snapshot:
    """Progress of the whole run. done: committed shards by stage, of `total` shards.

    deaths: workers whose process died so far; nodes_lost: nodes that died under workers. rows: committed in this
    session, by stage and status. spent: by role, of those that are endpoints'. loads: by stage.
    """

    total: int
    done: dict[str, int]
    workers: dict[str, Progress]
    rows: dict[str, Counter[str]]
    deaths: int
    nodes_lost: int
    spent: dict[str, Spent]
    loads: dict[str, Load]


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
        self._lines = {stage: Line() for stage in STAGES}
        self._busyness = {stage: Busyness() for stage in STAGES}
        self._blame: dict[tuple[str, int], Blame] = defaultdict(Blame)
        self._crew = crew
        self._nodes = Nodes()
        self._actors: list[Actor] = []
        self._dismissed: list[Actor] = []
        self._slots: dict[Actor, list[asyncio.Task[None]]] = {}
        self._done = {stage: set(done[stage]) for stage in STAGES}
        self._rows: dict[str, Counter[str]] = {stage: Counter() for stage in STAGES}
        # Handed on by name: Ray warns of handles among the arguments of an actor that may restart.
        self._name = f"zoomtrail-{secrets.token_hex(4)}"
        self._meter: Any = None
        self._spent: dict[str, Spent] = {}

    async def run(self, show: Callable[[Snapshot], None], after: Future[None] | None = None) -> None:
        """Until every shard has passed every stage. Raises Fatal as soon as a worker meets one; other work is kept.

        after: no shard is begun before it is done; workers load their models meanwhile.
        """
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watch = named_actor(Watch, f"{self._name}-watch")
        await self._begin_metering()
        beside = [self._begun(work) for work in (self._show(show), self._tidy(), self._relieve())]
        try:
            self._hire()
            if after is not None:
                await asyncio.wrap_future(after)
            for shard in sorted(self._shards):
                self._enqueue(shard)
            self._check_finished()
            await self._finished
        finally:
            tasks = [*beside, *(task for slots in self._slots.values() for task in slots)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            show(await self._snapshot())
            for actor in self._actors:
                actor.close()
            for handle in filter(None, (self._watch, self._meter)):
                end(handle)
            here = [actor for actor in self._actors if not actor.aside]
            self._crew.give_back([a.post for a in here], [a.handle for a in here])

    def _begun(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose error ends the run."""

        def note(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) and not self._finished.done():
                self._finished.set_exception(error)

        task = asyncio.ensure_future(work)
        task.add_done_callback(note)
        return task

    async def _begin_metering(self) -> None:
        config = self._config
        if config.endpoints:
            budgeted = config.budget != Budget()
            earlier = partial(used_before, self._run_url, config.endpoints) if budgeted else dict
            used = await asyncio.to_thread(earlier)  # here, so that what ends the run ends it
            self._meter = named_actor(Meter, f"{self._name}-meter", config.endpoints, config.budget, earlier)
            self._meter.begin.remote(used)

    async def _tidy(self) -> None:
        """What later sessions read is made smaller, once this one is at work."""
        await asyncio.sleep(_TIDY_AFTER_S)
        await asyncio.to_thread(merge, self._run_url)

    async def _relieve(self) -> None:
        """See `Relief`."""
        relief = Relief(self._actors, self._lines)
        while True:
            await asyncio.sleep(_LOOK_S)
            for actor in await relief.look(self._nodes, time.monotonic()):
                if self._meter:
                    await self._meter.forget.remote(actor.name)

    def _enqueue(self, shard: int) -> None:
        """Puts a shard before the first stage that has not committed it."""
        for stage in STAGES:
            if shard not in self._done[stage]:
                self._lines[stage].put(shard)
                return

    def _check_finished(self) -> None:
        if all(self._is_finished(stage) for stage in STAGES) and not self._finished.done():
            self._finished.set_result(None)

    def _is_finished(self, stage: str) -> bool:
        return len(self._done[stage]) == len(self._shards)

    def _hire(self) -> None:
        """The actors of all pools. One of each pool comes before a second of any, so that none is left without room."""
        places = list[tuple[Pool, str, list[str]]]()
        for number in range(min(max(pool.size for pool in self._pools), len(self._shards))):
            for pool in self._pools:
                stages = [stage for stage in pool.stages if not self._is_finished(stage)]
                if stages and number < pool.size:
                    places.append((pool, f"{'+'.join(stages)}-{number}", stages))
        handles = self._crew.take([pool.post for pool, _, _ in places])
        for handle, (pool, name, stages) in zip(handles, places, strict=True):
            actor = Actor(name, pool.post, handle, {stage: self._assignments[stage] for stage in stages}, self._name)
            self._actors.append(actor)
            self._slots[actor] = [self._begun(self._slot(stage, actor)) for stage in pool.slots if stage in stages]

    async def _slot(self, stage: str, actor: Actor) -> None:
        """Takes shards one after the other while the actor is up; the shard of one that is lost is queued again."""
        line, busyness = self._lines[stage], self._busyness[stage]
        while True:
            await actor.up()
            with busyness.there():
                while next_one := await _next(line, actor):
                    shard, waited_s = next_one
                    with busyness.at_work():
                        report = await self._result(stage, shard, actor)
                    if report is None:
                        line.put(shard, waited_s)
                    else:
                        self._pass_on(stage, report)

    async def _result(self, stage: str, shard: int, actor: Actor) -> ShardReport | None:
        """What an actor made of a shard; None where it is to be done again, by this actor or another."""
        planned, blame = await asyncio.to_thread(self._planned.message, shard), self._blame[stage, shard]
        async with actor.room.entered(alone=bool(blame.suspects)):
            while seat := actor.seat:
                try:
                    return await actor.run(stage, shard, planned, blame)
                except Lost as error:
                    if await self._lost(stage, shard, actor, seat) is not Fate.KEPT:
                        blame.check(f"{stage} shard {shard}", error)
                        return None
        return None

    async def _lost(self, stage: str, shard: int, actor: Actor, seat: Seat) -> Fate:
        """Finds out what became of an actor, and blames what it had in flight where that may have killed it."""
        in_flight, alone = await self._watch.take.remote(actor.name, stage, shard)
        if self._meter:
            await self._meter.forget.remote(actor.name)
        fate = await actor.fate(seat, self._nodes)
        if fate is Fate.PROCESS_DIED:
            self._blame[stage, shard].died_with(in_flight, alone)
        elif fate is Fate.NODE_DIED:
            self._blame[stage, shard].nodes += 1
        return fate

    def _pass_on(self, stage: str, report: ShardReport) -> None:
        """A stage has committed a shard."""
        self._rows[stage].update(report.statuses)
        self._done[stage].add(report.shard)
        self._blame.pop((stage, report.shard), None)
        self._enqueue(report.shard)
        self._check_finished()
        if self._is_finished(stage) and not all(actor.seat for actor in self._actors):
            self._make_room()

    def _make_room(self) -> None:
        """Ends the actors that have nothing left to do: others wait for their room."""
        for actor in [a for a in self._actors if all(map(self._is_finished, a.stages))]:
            for task in self._slots.pop(actor):
                task.cancel()
            actor.close()
            if not actor.aside:
                end(actor.handle)
            self._actors.remove(actor)
            self._dismissed.append(actor)

    async def _show(self, show: Callable[[Snapshot], None]) -> None:
        while True:
            show(await self._snapshot())
            await asyncio.sleep(1.0)

    async def _snapshot(self) -> Snapshot:
        actors = [*self._actors, *self._dismissed]
        answers = await asyncio.gather(*(actor.progress(self._nodes) for actor in actors))
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
            deaths=sum(actor.deaths for actor in actors),
            nodes_lost=len(set().union(*(actor.died_with for actor in actors))),
            spent=self._spent,
            loads={stage: self._load(stage) for stage in STAGES},
        )

    def _load(self, stage: str) -> Load:
        actors = [actor for actor in self._actors if stage in actor.stages]
        line, busyness = self._lines[stage], self._busyness[stage].now()
        return Load(
            up=sum(actor.seat is not None for actor in actors),
            pending=sum(actor.seat is None for actor in actors),
            takes=str(actors[0].post) if actors else "",
            busy=busyness.busy,
            slots=busyness.slots,
            busy_s=busyness.busy_s,
            slot_s=busyness.slot_s,
            waiting=len(line),
            oldest_s=line.oldest_s,
        )


async def _next(line: Line, actor: Actor) -> tuple[int, float] | None:
    """What `Line.get` gives; None as soon as the actor is not up: it has no slot then for which a shard could come."""
    if not actor.seat:
        return None
    getting, gone = asyncio.ensure_future(line.get()), asyncio.ensure_future(actor.gone())
    try:
        await asyncio.wait((getting, gone), return_when=asyncio.FIRST_COMPLETED)
        return getting.result() if getting.done() else None
    finally:
        getting.cancel()
        gone.cancel()
