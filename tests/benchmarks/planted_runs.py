"""Runs of planted attempts: the stages in this process, the filter of the product, and what became of each attempt."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from jobs.demo import THOROUGH, job_path, job_text
from jobs.job_file import load_job
from jobs.presets import DEFAULT, preset
from pipeline.demo.faults import FaultyTeacher, altered, missed
from pipeline.demo.film import film_name
from pipeline.demo.plants import SOUND, Kind, Plant
from pipeline.demo.world import film
from pipeline.models.build import chat_model, scorer
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage, ChoiceQuestion, Scorer, Scores
from pipeline.models.replies import visible_text
from pipeline.plan import Planned
from pipeline.shards.cut import cut
from pipeline.shards.funnel import loss_sql
from pipeline.shards.order import Order
from pipeline.shards.table import Rows
from pipeline.sources import video_uri
from pipeline.stages.caption import CaptionStage, VideoJob
from pipeline.stages.items import Care
from pipeline.stages.replay import ReplayStage
from pipeline.stages.teach import TeachStage
from pipeline.stages.teaching import Teaching
from pipeline.store import RunStore, to_parquet
from prompts.judging import Asking
from prompts.protocol import Setting
from prompts.protocols import protocol
from schemas.captions import CaptionTree
from schemas.config import Rollout, RunConfig, stage_settings
from schemas.record import content_id
from schemas.trajectory import Trajectory

ATTEMPTS_AT_ONCE = 16


@dataclass(frozen=True)
class Setup:
    """One run: a protocol, with hints or without, and how many attempts of each kind are planted."""

    protocol: str
    hints: bool
    counts: Mapping[Kind, int]

    @property
    def name(self) -> str:
        return f"{self.protocol}-hints" if self.hints else self.protocol

    def config(self, folder: Path) -> RunConfig:
        """The demo's own job at its thorough pace, with hints where they are wanted."""
        path = job_path(folder, self.protocol)
        path.write_text(job_text(self.protocol, 1, THOROUGH))
        hints = Rollout(hints="after_wrong_answer" if self.hints else "off")
        return load_job(path).relative_to(folder).model_copy(update={"rollout": hints})


@dataclass(frozen=True)
class Judged:
    """What became of an attempt. why: it is not what was planted, "" where it is; reason: None where it was kept."""

    plant: Plant
    run: str
    why: str
    reason: str | None
    p_overview: float | None
    p_evidence: float | None
    hint_leak: bool | None
    gold_leak: bool | None

    @property
    def sound(self) -> bool:
        return self.plant.kind in SOUND


class RememberingScorer:
    """A verifier that answers an equal probe from memory: attempts at one question share many of them."""

    def __init__(self, scorer: Scorer) -> None:
        self.name = scorer.name
        self._scorer = scorer
        self._known: dict[str, tuple[float, ...]] = {}

    def score(self, probes: Sequence[ChoiceQuestion]) -> Scores:
        """See `Scorer`."""
        keys = [content_id([_identity(probe.messages), list(probe.choices)]) for probe in probes]
        new = {key: probe for key, probe in zip(keys, probes, strict=True) if key not in self._known}
        scores = self._scorer.score(list(new.values()))
        self._known |= zip(new, scores.probabilities, strict=True)
        return Scores([self._known[key] for key in keys], scores.tokens_read)


def _identity(messages: Sequence[ChatMessage]) -> list[Any]:
    return [[m.role, [p if isinstance(p, str) else sha256(p).hexdigest() for p in m.parts]] for m in messages]


@dataclass
class Shared:
    """What all runs have in common. trees: captions by protocol and video, made once. show: told of attempts done."""

    folder: Path
    show: Callable[[int], None]
    trees: dict[tuple[str, str], CaptionTree] = field(default_factory=dict)
    verifier: RememberingScorer | None = None


class PlantedRun:
    """A run directory whose attempts are planted: caption, teach and replay film by film, and the cut of all."""

    def __init__(self, setup: Setup, shared: Shared) -> None:
        self._setup, self._shared = setup, shared
        self._zoom = zoom = protocol(setup.protocol)
        self._config = config = setup.config(shared.folder)
        self._store = RunStore(str(shared.folder / "runs" / setup.name))
        self._store.open_for(config, stage_settings(config, zoom.version))
        self._calls = calls = CallStore(str(shared.folder))
        self._captioner = chat_model(config.captioner, "captioner", calls, zoom) if config.captioner else None
        self._teacher = chat_model(config.teacher, "teacher", calls, zoom)
        self._whys: dict[str, str] = {}
        if shared.verifier is None and (verifier := scorer(config.verifier, calls)):
            shared.verifier = RememberingScorer(verifier)

    def carry_out(self, seeds: Sequence[int], plants: Sequence[Plant]) -> list[Judged]:
        """All attempts as planted, and what the filter makes of them. Raises RuntimeError for an unusable film."""
        mine = {shard: [p for p in plants if p.question.video_id == film_name(s)] for shard, s in enumerate(seeds)}
        planned = {
            shard: [Planned(shard=shard, attempt=p.attempt, question=p.question, error=None) for p in plants]
            for shard, plants in mine.items()
        }
        rows = [item for items in planned.values() for item in items]
        self._store.storage.write("plan/part-00000.parquet", to_parquet(Planned, rows, {"covers": {}}))
        for shard, seed in enumerate(seeds):
            asyncio.run(self._shard(shard, seed, mine[shard], planned[shard]))
        return self._cut(plants)

    async def _shard(self, shard: int, seed: int, plants: Sequence[Plant], planned: Sequence[Planned]) -> None:
        tree = await self._captioned(film_name(seed))
        trajectories = await self._rolled_out(seed, tree, plants, planned)
        verifier, view = self._config.verifier, self._config.view
        assert verifier is not None
        replay = ReplayStage(self._zoom, self._shared.verifier, self._reply_text, view, Asking(verifier.answer_by))
        verdicts = await replay.run(trajectories, {tree.video_id: tree}, Care())
        self._shared.show(len(verdicts))
        for stage, rows in (("caption", [tree]), ("teach", trajectories), ("replay", verdicts)):
            self._store.commit(stage, shard, rows, {"stage": stage, "rows": len(rows)})

    async def _captioned(self, name: str) -> CaptionTree:
        trees, key = self._shared.trees, (self._setup.protocol, name)
        if key not in trees:
            config = self._config
            stage = CaptionStage(self._zoom, self._captioner, config.captions, None, "", config.view)
            (trees[key],) = await stage.run([VideoJob(name, video_uri(config.source, name))], Care())
        return trees[key]

    async def _rolled_out(
        self, seed: int, tree: CaptionTree, plants: Sequence[Plant], planned: Sequence[Planned]
    ) -> list[Trajectory]:
        """The attempts at a film, spoiled as planned; and, kept apart, why some are not what was planted."""
        if tree.video is None or tree.error:
            raise RuntimeError(f"{tree.video_id}: {tree.error}")
        truth, config = film(seed), self._config
        teacher = FaultyTeacher(self._teacher, self._zoom, truth, Setting.of(tree.video, tree.width), plants)
        teaching = Teaching(self._zoom, teacher, self._captioner, config.rollout, config.view)

        async def end(_: str) -> None:
            self._shared.show(1)

        stage = TeachStage(teaching, ATTEMPTS_AT_ONCE)
        rows = await stage.run(planned, {tree.video_id: tree}, Care(end=end))
        for number, plant in enumerate(plants):
            written = plant.trajectory_id in teacher.spoiled
            changed = altered(rows[number], plant.dice) if plant.kind == "altered_observation" else None
            self._whys[plant.trajectory_id] = missed(plant, rows[number], truth, written or changed is not None)
            rows[number] = changed or rows[number]
        return rows

    def _reply_text(self, key: str) -> str | None:
        response = self._calls.get(key)
        return None if response is None else visible_text(response)

    def _cut(self, plants: Sequence[Plant]) -> list[Judged]:
        rows, condition = Rows(self._store), preset(DEFAULT)
        made = cut(rows, Order("sft", "sft", condition, 1000))
        loss = loss_sql(rows, condition)
        columns = "trajectory_id, p_gold_overview, p_gold_evidence, hint_leak, gold_leak"
        found = {row["trajectory_id"]: row for row in rows.query(f"SELECT {columns}, {loss}[2] AS reason FROM rows")}
        if made.rows != sum(row["reason"] is None for row in found.values()):
            raise RuntimeError(f"the cut holds {made.rows} rows, which is not what its condition keeps")
        judged = []
        for plant in plants:
            row = found[plant.trajectory_id]
            measured = (row[name] for name in ("p_gold_overview", "p_gold_evidence", "hint_leak", "gold_leak"))
            judged.append(Judged(plant, self._setup.name, self._whys[plant.trajectory_id], row["reason"], *measured))
        return judged
