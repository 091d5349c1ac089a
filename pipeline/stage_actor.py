"""What runs in a process of its own on some node: the workers of one or more stages, as a Ray actor."""

import asyncio
import platform
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import ray

from pipeline.blame import Change, Notes
from pipeline.links import ToActor
from pipeline.plan import Planned
from pipeline.plan_parts import unpacked
from pipeline.stages.items import Care
from pipeline.store import RunStore
from pipeline.worker import Assignment, Progress, ShardReport, Worker
from schemas.arrow import from_table
from schemas.errors import Fatal, UserError


@dataclass(frozen=True)
class Seat:
    """One life of an actor. node: Ray's id of the node that it is on; process: another one after each restart."""

    node: str
    process: str


class StageActor:
    """Workers in a process of their own. Errors that stop the run come back as values, so that their type survives."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(8)
        self._name = ""
        self._run = ""
        self._workers: dict[str, Worker] = {}
        self._under_way: dict[tuple[str, int], asyncio.Task[ShardReport]] = {}
        self._trouble: Fatal | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    async def assign(self, name: str, assignments: dict[str, Assignment], run: str) -> Seat:
        """Makes it a run's; no-op where it is that already. Models are loaded from now on, before there is work.

        name: tells the run's actors apart, and is the same after a restart. assignments: by stage. run: begins the
        names of its watch and its meter.
        """
        if run != self._run:
            self._retire()
            self._name, self._run, watch = name, run, ray.get_actor(f"{run}-watch")

            async def note(changes: Sequence[Change]) -> None:
                await watch.note.remote(name, changes)

            self._notes = Notes(note)
            metered = any(assignment.config.endpoints for assignment in assignments.values())
            link = ToActor(name, ray.get_actor(f"{run}-meter")) if metered else None
            self._workers = {stage: Worker(assignment, link) for stage, assignment in assignments.items()}
            self._trouble = await asyncio.to_thread(_blindness, next(iter(assignments.values())).run_url)
            # What fails here fails again, and is told, when a shard comes.
            self._preparing = asyncio.ensure_future(_prepared(list(self._workers.values())))
        return Seat(ray.get_runtime_context().get_node_id(), self._process)

    async def run(
        self, stage: str, shard: int, planned: bytes, suspects: frozenset[str], poison: frozenset[str]
    ) -> ShardReport | Fatal | None:
        """planned: of `ShardRows.message`.

        None where this process has been assigned nothing: it took the place of one that died while it was idle.

        A shard that is under way here is joined, not begun twice: the driver asks again where a connection broke.
        """
        if stage not in self._workers:
            return None
        if self._trouble:
            return self._trouble

        async def begin(item: str) -> None:
            await self._notes.begin(stage, shard, item)

        async def end(item: str) -> None:
            self._notes.end(stage, shard, item)

        care = Care(suspects=suspects, poison=poison, begin=begin, end=end)
        under_way = self._under_way
        if (stage, shard) not in under_way:
            under_way[stage, shard] = asyncio.ensure_future(self._made(stage, shard, planned, care))
        try:
            return await under_way[stage, shard]
        except Fatal as error:
            return error
        finally:
            under_way.pop((stage, shard), None)

    async def _made(self, stage: str, shard: int, planned: bytes, care: Care) -> ShardReport:
        rows = await asyncio.to_thread(from_table, Planned, unpacked(planned))
        return await self._workers[stage].run(shard, rows, care)

    def _retire(self) -> None:
        """Ends the models of the run before, once its shards are through: what they have asked for is kept."""
        workers, shards = list(self._workers.values()), list(self._under_way.values())
        preparing, self._under_way = self._preparing, {}

        async def close() -> None:
            if preparing is not None:
                await preparing
            await asyncio.gather(*shards, return_exceptions=True)
            await asyncio.gather(*(worker.close() for worker in workers), return_exceptions=True)

        retiring = asyncio.ensure_future(close())
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def progress(self) -> dict[str, Progress]:
        """By stage."""
        return {stage: worker.progress() for stage, worker in self._workers.items()}


async def _prepared(workers: Sequence[Worker]) -> None:
    await asyncio.gather(*(worker.prepare() for worker in workers), return_exceptions=True)


def _blindness(run_url: str) -> Fatal | None:
    """Why this node cannot work on a run: it does not see it, as a folder of another node, or may not read it."""
    try:
        RunStore(run_url).require()
    except UserError:
        return Fatal(
            f"node {platform.node()} does not see {run_url}: a run on several nodes needs a folder that "
            "all of them share, or a URL such as s3://bucket/run"
        )
    except Fatal as error:
        return error
    return None
