"""A worker takes a shard from file to file, and commits it only if no row was lost."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan import Planned
from pipeline.stages.items import Care
from pipeline.store import RunStore
from pipeline.worker import Assignment, Worker
from schemas.captions import CaptionTree
from schemas.errors import Fatal
from tests.pipeline.test_store import config, question, tree


class Stage:
    """Returns the rows that a test wants."""

    def __init__(self, rows: Sequence[CaptionTree]) -> None:
        self._rows = rows

    async def run(self, jobs: Any, care: Care) -> list[CaptionTree]:
        for row in self._rows:
            await care.end(row.video_id)
        return list(self._rows)


def worker(folder: Path, *rows: CaptionTree) -> Worker:
    made = Worker(Assignment(config(), str(folder), "caption", "print"))
    made._stage = Stage(rows)
    return made


PLANNED = [Planned(shard=0, attempt=0, question=question("q", video), error=None) for video in ("a.mp4", "b.mp4")]


def test_a_complete_shard_is_committed_and_reported(tmp_path: Path) -> None:
    made = worker(tmp_path, tree("a.mp4"), tree("b.mp4"))
    report = asyncio.run(made.run(0, PLANNED, Care()))
    assert report.statuses == {"ok": 2} and made.progress().items == 2
    footer = RunStore(str(tmp_path)).footer("caption", 0)
    assert (footer["rows"], footer["fingerprint"], footer["stage"]) == (2, "print", "caption")


@pytest.mark.parametrize(
    "rows", [[tree("a.mp4")], [tree("a.mp4"), tree("a.mp4")], [tree("a.mp4"), tree("b.mp4"), tree("c.mp4")]]
)
def test_a_shard_that_lost_or_invented_a_row_is_never_committed(tmp_path: Path, rows: list[CaptionTree]) -> None:
    with pytest.raises(Fatal, match="planned 2 rows"):
        asyncio.run(worker(tmp_path, *rows).run(0, PLANNED, Care()))
    assert RunStore(str(tmp_path)).finished("caption") == set()


def test_where_another_worker_was_first_its_rows_are_told(tmp_path: Path) -> None:
    first = asyncio.run(worker(tmp_path, tree("a.mp4"), tree("b.mp4")).run(0, PLANNED, Care()))
    failed = tree("b.mp4").model_copy(update={"status": "failed"})
    late = asyncio.run(worker(tmp_path, tree("a.mp4"), failed).run(0, PLANNED, Care()))
    assert late.statuses == first.statuses == {"ok": 2} and late.usage == first.usage
