"""An actor that a second run finds: the models of the first are closed, once what they work on is through."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import stage_actor
from pipeline.plan import Planned
from pipeline.plan_parts import packed
from pipeline.stage_actor import StageActor
from pipeline.stages.items import Care
from pipeline.worker import Assignment, ShardReport
from schemas.arrow import to_table
from schemas.captions import Usage
from tests.pipeline.test_store import config, question

PLANNED = packed(to_table(Planned, [Planned(shard=0, attempt=0, question=question("q", "a.mp4"), error=None)]))


class SlowWorker:
    """A worker whose shards take as long as a test wants, and whose models note when they are closed."""

    def __init__(self, assignment: Assignment, link: Any) -> None:
        self.run_url = assignment.run_url
        self.go_on = asyncio.Event()
        self.closed = False
        workers.append(self)

    async def prepare(self) -> None:
        return None

    async def run(self, shard: int, planned: Any, care: Care) -> ShardReport:
        await self.go_on.wait()
        assert not self.closed
        return ShardReport("caption", shard, {}, Usage(), 0.0)

    async def close(self) -> None:
        self.closed = True


workers: list[SlowWorker] = []


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    workers.clear()
    here = SimpleNamespace(get_node_id=lambda: "node")
    ray = SimpleNamespace(get_actor=lambda name: SimpleNamespace(), get_runtime_context=lambda: here)
    monkeypatch.setattr(stage_actor, "ray", ray)
    monkeypatch.setattr(stage_actor, "Worker", SlowWorker)
    monkeypatch.setattr(stage_actor, "_blindness", lambda run_url: None)


def assignment(folder: Path) -> dict[str, Assignment]:
    return {"caption": Assignment(config(), str(folder), "caption", "print")}


def test_the_models_of_the_run_before_are_closed_once_its_shards_are_through(tmp_path: Path) -> None:
    async def scene() -> None:
        actor = StageActor()
        await actor.assign("w", assignment(tmp_path / "one"), "one")
        await actor.assign("w", assignment(tmp_path / "one"), "one")
        (first,) = workers  # the same run: nothing is made anew
        shard = asyncio.ensure_future(actor.run("caption", 0, PLANNED, frozenset(), frozenset()))
        await asyncio.sleep(0.05)
        await actor.assign("w", assignment(tmp_path / "two"), "two")
        second = workers[1]
        await asyncio.sleep(0.05)
        assert not first.closed
        anew = asyncio.ensure_future(actor.run("caption", 0, PLANNED, frozenset(), frozenset()))
        first.go_on.set()
        assert isinstance(await shard, ShardReport)
        await asyncio.sleep(0.05)
        assert first.closed and not second.closed and not anew.done()
        second.go_on.set()
        assert isinstance(await anew, ShardReport)

    asyncio.run(scene())
