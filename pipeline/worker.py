"""One worker of a stage: builds its models once, then takes whole shards from file to file. Knows nothing of Ray."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.leases import Link
from pipeline.models.build import caption_model, chat_model, drawer, embedder, judge_model, scorer
from pipeline.models.calls import CallStore
from pipeline.models.chat import CallCounts, ChatModel, Connected, Scorer
from pipeline.models.replies import visible_text
from pipeline.plan import Planned
from pipeline.sources import video_uri
from pipeline.stages.caption import CaptionStage, VideoJob
from pipeline.stages.draws import Draws
from pipeline.stages.items import Care
from pipeline.stages.replay import ReplayStage
from pipeline.stages.teach import TeachStage
from pipeline.stages.teaching import Teaching
from pipeline.store import RunStore
from prompts.judging import ONCE_BY_LETTER, Asking
from prompts.protocol import ZoomProtocol
from prompts.protocols import protocol
from schemas.captions import CaptionTree, Usage
from schemas.config import EndpointVerifier, RunConfig
from schemas.errors import Fatal
from schemas.record import Record
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict

_THREADS = 32
"""Threads of a worker: they wait for files and decoders, so there are more of them than cores."""

_INDEXED = 250
"""Calls of which the index of used tokens is written with a shard, so that an idle worker has few unwritten."""

_VIDEOS = 2
"""Videos captioned at once."""

_BATCH_VIDEOS = 16
"""The same where captions come by batches: more go in one, and the frames of all stay in memory meanwhile."""

_LOCAL_VIDEOS, _REMOTE_VIDEOS = 2, 8
"""Videos under replay at once: a model in this process reads one while the next is decoded; a server takes many."""

_LOCAL_ATTEMPTS = 16
"""Attempts under way at once where the teacher runs in this process: as many as its batches can use."""


@dataclass(frozen=True)
class ShardReport:
    """What became of a shard. statuses: rows by status; seconds: wall time."""

    stage: str
    shard: int
    statuses: dict[str, int]
    usage: Usage
    seconds: float


@dataclass
class Progress:
    """Running totals: items done, and calls by model."""

    items: int = 0
    calls: list[CallCounts] = field(default_factory=list)


@dataclass(frozen=True)
class Assignment:
    """All that a worker is told once. config: with absolute paths; fingerprint: of this stage's settings.

    verifier: the name of a further verifier, "" for the run's own.
    """

    config: RunConfig
    run_url: str
    stage: str
    fingerprint: str
    verifier: str = ""


@dataclass
class Worker:
    """Takes shards of one stage. Several may be under way at once in one event loop. link: to the meter of the run."""

    assignment: Assignment
    link: Link | None = None
    _models: dict[str, ChatModel] = field(default_factory=dict)
    _scorer: Scorer | None = None
    _stage: Any = None
    _items: int = 0

    def __post_init__(self) -> None:
        self._store = RunStore(self.assignment.run_url, self.assignment.verifier)
        self._calls = CallStore(self.assignment.run_url)
        self._building = asyncio.Lock()

    async def run(self, shard: int, planned: Sequence[Planned], care: Care) -> ShardReport:
        """Works through a shard and commits it; tells what stands, where another worker has committed it meanwhile.

        Raises Fatal where the run cannot go on.
        """
        began = time.monotonic()
        await self.prepare()
        rows = await self._rows(shard, planned, replace(care, end=self._counting(care)))
        self._conserve(rows, planned)
        report = _report(self.assignment.stage, shard, rows, time.monotonic() - began)
        footer = {
            "stage": self.assignment.stage,
            "fingerprint": self.assignment.fingerprint,
            "rows": len(rows),
            "statuses": report.statuses,
            "usage": report.usage.model_dump(),
            "seconds": round(report.seconds, 3),
        }
        if isinstance(self._stage, ReplayStage):
            footer |= self._stage.seconds()
        if not await asyncio.to_thread(self._store.commit, self.assignment.stage, shard, rows, footer):
            standing = await asyncio.to_thread(self._store.footer, self.assignment.stage, shard)
            report = _reported(self.assignment.stage, shard, standing)
        await asyncio.to_thread(self._calls.index.write, _INDEXED)
        return report

    async def prepare(self) -> None:
        """Loads the stage's models; no-op where they are. Raises Fatal where one cannot be."""
        async with self._building:
            if self._stage is None:
                asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
                self._stage = await asyncio.to_thread(self._build)

    async def close(self) -> None:
        """Ends the connections and threads of its models; those in memory are the process's, and stay there."""
        async with self._building:
            models: list[object] = [*self._models.values(), self._scorer]
            for model in models:
                if isinstance(model, Connected):
                    await model.close()

    def progress(self) -> Progress:
        """Totals since the worker began."""
        return Progress(self._items, [replace(model.counts) for model in self._models.values()])

    def _counting(self, care: Care) -> Any:
        async def end(item: str) -> None:
            self._items += 1
            await care.end(item)

        return end

    def _build(self) -> Any:
        config, stage = self.assignment.config, self.assignment.stage
        zoom = protocol(config.protocol)
        if stage == "caption":
            return self._caption_stage(zoom)
        if stage == "teach":
            captioner = None
            if config.captioner is not None:
                captioner = chat_model(config.captioner, "captioner", self._calls, zoom, self.link)
                self._models["captioner"] = captioner
            teacher = self._models["teacher"] = chat_model(config.teacher, "teacher", self._calls, zoom, self.link)
            student = None
            if config.student is not None:
                student = self._models["student"] = chat_model(config.student, "student", self._calls, zoom, self.link)
            limit = getattr(config.student or config.teacher, "concurrency", _LOCAL_ATTEMPTS)
            chooser = embedder(config.embedder)
            teaching = Teaching(zoom, teacher, captioner, config.rollout, config.view, chooser, student)
            return TeachStage(teaching, limit)
        return self._replay_stage(zoom)

    def _replay_stage(self, zoom: ZoomProtocol) -> ReplayStage:
        config, calls, link = self.assignment.config, self._calls, self.link
        verifier = config.verifier
        asking = Asking(verifier.answer_by, verifier.permutations, verifier.screens) if verifier else ONCE_BY_LETTER
        videos = _REMOTE_VIDEOS if isinstance(verifier, EndpointVerifier) else _LOCAL_VIDEOS
        weigher, chooser = scorer(verifier, calls, link), embedder(config.embedder)
        self._scorer = weigher
        draws = None
        if verifier and (answering := drawer(verifier, calls, link)):
            self._models["verifier"], draws = answering, Draws(answering, verifier.rollouts)
        judge = judge_model(config.judge, calls, zoom, link)
        self._models |= {"judge": judge} if judge else {}
        leaks = bool(getattr(config.judge, "leaks", False))
        return ReplayStage(zoom, weigher, self._reply_text, config.view, asking, videos, chooser, judge, leaks, draws)

    def _caption_stage(self, zoom: ZoomProtocol) -> CaptionStage:
        config, captioner = self.assignment.config, None
        if config.captioner is not None:
            captioner = self._models["captioner"] = caption_model(config.captioner, self._calls, zoom, self.link)
        limit = _BATCH_VIDEOS if getattr(config.captioner, "batch", False) else _VIDEOS
        settings, subtitles, view = config.captions, config.source.subtitles, config.view
        return CaptionStage(zoom, captioner, settings, subtitles, self.assignment.fingerprint, view, limit)

    def _reply_text(self, key: str) -> str | None:
        response = self._calls.get(key)
        return None if response is None else visible_text(response)

    async def _rows(self, shard: int, planned: Sequence[Planned], care: Care) -> Sequence[Record]:
        stage, source = self.assignment.stage, self.assignment.config.source
        if stage == "caption":
            jobs = [VideoJob(video_id, video_uri(source, video_id)) for video_id in _videos(planned)]
            rows: Sequence[Record] = await self._stage.run(jobs, care)
            return rows
        trees = {t.video_id: t for t in await asyncio.to_thread(self._store.rows, CaptionTree, "caption", shard)}
        if stage == "teach":
            return list(await self._stage.run(planned, trees, care))
        trajectories = await asyncio.to_thread(self._store.rows, Trajectory, "teach", shard)
        return list(await self._stage.run(trajectories, trees, care))

    def _conserve(self, rows: Sequence[Record], planned: Sequence[Planned]) -> None:
        """Rows in = rows out, each once. Raises Fatal otherwise: a shard that lost a row is never committed."""
        if self.assignment.stage == "caption":
            expected = Counter(_videos(planned))
            found = Counter(row.video_id for row in rows if isinstance(row, CaptionTree))
        else:
            expected = Counter(p.trajectory_id for p in planned)
            found = Counter(row.trajectory_id for row in rows if isinstance(row, Trajectory | Verdict))
        if expected != found:
            off = sorted(((expected - found) + (found - expected)).keys())[:3]
            raise Fatal(f"{self.assignment.stage}: planned {expected.total()} rows, got {found.total()}; such as {off}")


def _videos(planned: Sequence[Planned]) -> list[str]:
    """The videos that a shard's usable questions ask about, each once, in the plan's order."""
    return list(dict.fromkeys(p.question.video_id for p in planned if p.error is None))


def _report(stage: str, shard: int, rows: Sequence[Record], seconds: float) -> ShardReport:
    statuses: Counter[str] = Counter()
    usage = Usage()
    for row in rows:
        if isinstance(row, CaptionTree | Trajectory):
            statuses[row.status] += 1
            usage += row.usage
        elif isinstance(row, Verdict):
            statuses["failed" if row.error else "judged"] += 1
    return ShardReport(stage, shard, dict(statuses), usage, seconds)


def _reported(stage: str, shard: int, footer: dict[str, Any]) -> ShardReport:
    """What the footer of a committed shard says."""
    return ShardReport(stage, shard, footer["statuses"], Usage.model_validate(footer["usage"]), footer["seconds"])
