"""Run directories as large as real ones: shards with realistic turns, from a few templates under ids of their own.

A shard holds 640 attempts: 8 videos, as a job has by default, of 10 questions each, as CG-Bench has, tried 8 times.
Pictures of the captions are left out; no figure reads them.
"""

import random
from collections.abc import Sequence
from itertools import pairwise, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.plan import Planned
from pipeline.stages import checks
from pipeline.store import RunStore, to_parquet
from prompts.videozoomer import MAX_FRAMES, OVERVIEW_FRAMES
from schemas.arrow import to_table
from schemas.captions import CaptionTree, Usage
from schemas.config import RunConfig, fingerprint, stage_settings
from schemas.errors import Failure
from schemas.question import Question
from schemas.trajectory import Action, Observation, Overview, Trajectory, Turn
from schemas.verdict import Verdict
from schemas.video import Frame, Video

VIDEOS, QUESTIONS, ATTEMPTS = 8, 10, 8
ROWS_PER_SHARD = VIDEOS * QUESTIONS * ATTEMPTS
TEMPLATES = 4

_PLAN = "plan/part-00000.parquet"
"""Written last, and at once: what was cut short before it is made again."""

_MODEL = {"model": "teacher-1", "base_url": "http://127.0.0.1:1/v1"}
_MEASURED = ("evidence_gain", "claim_min", "grounding_", "p_gold_blind", "p_gold_overview", "p_gold_evidence")
_TEXT = (
    "the video first then person shows frame car door street camera seconds looks zoom near left right holds answer "
    "question because clip evidence table water hand blue red after before scene speaker walks option likely closer"
)
_WORDS = _TEXT.split()


def large_run(folder: Path, rows: int) -> RunStore:
    """A run of at least so many attempts, whole shards; made once for a folder."""
    shards = -(-rows // ROWS_PER_SHARD)
    store = RunStore(str(folder))
    if (folder / _PLAN).exists() and len(store.finished("replay")) == shards:
        return store
    config = RunConfig.model_validate(
        {"source": {"path": "q.jsonl", "videos": "v"}, "teacher": _MODEL, "captioner": _MODEL}
    )
    settings = stage_settings(config, "1")
    store.open_for(config, settings)
    for stage in ("plan", "captions", "trajectories", "verdicts"):
        (folder / stage).mkdir(exist_ok=True)
    marks = {stage: fingerprint(found) for stage, found in settings.items()}
    with get_context("spawn").Pool(2) as pool:
        pool.starmap(_write_shards, [(folder, marks, shards, kind) for kind in range(TEMPLATES)], chunksize=1)
    _write_plan(folder, shards)
    return store


def _write_plan(folder: Path, shards: int) -> None:
    """One part, as a run has that was planned at once; row groups of the size that pyarrow chooses by itself."""
    parts = [_planned(_Template(number).questions, number) for number in range(TEMPLATES)]
    footer = {"rows": shards * ROWS_PER_SHARD, "covers": {}}
    schema = pq.read_schema(pa.BufferReader(to_parquet(Planned, [], footer)))
    tables = []
    for shard in range(shards):
        table = parts[shard % TEMPLATES]
        tables.append(_with(_renamed(table, shard), "shard", pa.array([shard] * len(table))))
    whole = folder / f"{_PLAN}.tmp"
    pq.write_table(pa.concat_tables(tables).cast(schema), whole, compression="zstd")
    whole.replace(folder / _PLAN)


def _planned(questions: Sequence[Question], shard: int) -> pa.Table:
    rows = [Planned(shard=shard, attempt=n, question=q, error=None) for q, n in product(questions, range(ATTEMPTS))]
    return to_table(Planned, rows)


def _write_shards(folder: Path, marks: dict[str, str], shards: int, kind: int) -> None:
    """Each TEMPLATES-th shard, all of one template."""
    template = _Template(kind)
    tables = {
        ("caption", "captions"): to_table(CaptionTree, template.trees()),
        ("teach", "trajectories"): to_table(Trajectory, template.trajectories),
        ("replay", "verdicts"): to_table(Verdict, [template.verdict(t) for t in template.trajectories]),
    }
    for shard in range(kind, shards, TEMPLATES):
        for (stage, name), table in tables.items():
            seconds = round(30 + 20 * kind + shard % 97, 3)
            footer = {"stage": stage, "fingerprint": marks[stage], "rows": len(table), "seconds": seconds}
            written = _shaken(_renamed(table, shard), shard).replace_schema_metadata(_metadata(footer))
            pq.write_table(written, folder / name / f"shard-{shard:05d}.parquet", compression="zstd")


def _metadata(footer: dict[str, Any]) -> dict[bytes, bytes]:
    metadata = pq.read_metadata(pa.BufferReader(to_parquet(Verdict, [], footer))).metadata
    return {b"zoomtrail": metadata[b"zoomtrail"]}


def _renamed(table: pa.Table, shard: int) -> pa.Table:
    """The same rows under ids of this shard: `#` in a template's id stands for the shard's number."""
    for name in ("trajectory_id", "question_id", "video_id"):
        if name in table.column_names:
            table = _with(table, name, _numbered(table[name].combine_chunks(), shard))
    for name in ("question", "video"):
        if name in table.column_names:
            struct = table[name].combine_chunks()
            fields = [
                _numbered(part, shard) if field.name in ("question_id", "video_id", "uri") else part
                for field, part in zip(struct.type, struct.flatten(), strict=True)
            ]
            renamed = pa.StructArray.from_arrays(fields, fields=list(struct.type), mask=struct.is_null())
            table = _with(table, name, renamed)
    return table


def _shaken(table: pa.Table, shard: int) -> pa.Table:
    """The same rows with numbers of this shard's own, as sums of real runs have: no value repeats across shards."""
    for field in table.schema:
        if field.name.startswith(_MEASURED):
            table = _with(table, field.name, pc.multiply(table[field.name], 1 - shard * 1e-8))
    return table


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(place), values)


def _numbered(ids: pa.Array, shard: int) -> pa.Array:
    return pc.replace_substring(ids, "#", f"{shard:05d}")


class _Template:
    """The records of one shard, drawn by dice of its own."""

    def __init__(self, kind: int) -> None:
        self.dice = random.Random(kind)
        self.kind = kind
        self.videos = [self._video(f"v#-{number}.mp4") for number in range(VIDEOS)]
        self.overviews = {v.video_id: self._frames(0.0, v.duration_s, OVERVIEW_FRAMES) for v in self.videos}
        self.questions = [self._question(v, n) for v, n in product(self.videos, range(QUESTIONS))]
        by_id = {video.video_id: video for video in self.videos}
        self.trajectories = [
            self._trajectory(q, by_id[q.video_id], n) for q, n in product(self.questions, range(ATTEMPTS))
        ]

    def trees(self) -> list[CaptionTree]:
        usage = Usage()
        return [
            CaptionTree(
                video_id=video.video_id,
                status="ok",
                video=video,
                width=None,
                split_rule=None,
                nodes=(),
                overview=(),
                usage=usage,
                error=None,
            )
            for video in self.videos
        ]

    def _video(self, name: str) -> Video:
        duration = self.dice.uniform(300, 3600)
        return Video(
            video_id=name,
            uri=f"/videos/{name}",
            content_hash=self._hash(),
            duration_s=duration,
            fps=30.0,
            n_frames=int(duration * 30),
            width=1280,
            height=720,
            codec="h264",
            pixel_format="yuv420p",
            container="mp4",
            rotation=0,
        )

    def _question(self, video: Video, number: int) -> Question:
        start = self.dice.uniform(0, video.duration_s - 20)
        return Question(
            question_id=f"q#-{video.video_id[3]}-{number}-{self._hash()[:10]}",
            video_id=video.video_id,
            text=self._words(20) + "?",
            kind="multiple_choice",
            choices=tuple(self._words(6) for _ in range(4)),
            answer_letter=self.dice.choice("ABCD"),
            answer_text=self._words(6),
            clue_intervals=((start, start + self.dice.uniform(5, 20)),),
            source="cgbench",
            source_id=str(number),
        )

    def _trajectory(self, question: Question, video: Video, attempt: int) -> Trajectory:
        status = self.dice.choices(("answered", "gave_up", "malformed", "failed"), (90, 4, 3, 3 + 2 * self.kind))[0]
        zooms = self.dice.choices((0, 1, 2, 3, 4), (10, 35, 30, 15, 10))[0]
        turns = [self._zoom(video, number, question) for number in range(zooms)]
        letter = question.answer_letter if self.dice.random() < 0.6 else self.dice.choice("ABCD")
        if status == "answered":
            turns.append(self._answer(zooms, letter))
        elif status == "malformed":
            turns.append(self._turn(zooms, (), (), "bad_json"))
        failure = Failure(stage="teach", kind="content_filter", message=self._words(9)) if status == "failed" else None
        tokens = 5000 + 1500 * len(turns)
        return Trajectory(
            trajectory_id=f"{question.question_id}@{attempt}",
            question_id=question.question_id,
            video_id=question.video_id,
            attempt=attempt,
            protocol="videozoomer",
            protocol_version="1",
            status=status,
            question=question,
            video=video,
            overview=Overview(frames=self.overviews[video.video_id]),
            turns=tuple(turns),
            max_turns=5,
            final_answer=letter if status == "answered" else None,
            teacher=_MODEL["model"],
            hints=(),
            answer_shown=False,
            interval_shown=False,
            usage=sum((turn.usage for turn in turns), Usage())
            if turns
            else Usage(calls=1, prompt_tokens=tokens, completion_tokens=10, cost_usd=0.01),
            error=failure,
        )

    def _zoom(self, video: Video, number: int, question: Question) -> Turn:
        start = self.dice.uniform(0, video.duration_s - 70)
        if self.dice.random() < 0.5:
            start = max(0.0, question.clue_intervals[0][0] - self.dice.uniform(0, 10))
        end = start + self.dice.choice((4.0, 8.0, 15.0, 30.0, 60.0))
        call = f"{number}.0"
        action = Action(call_id=call, kind="zoom", start_s=start, end_s=end, fps=1.0)
        seen = self._frames(start, end, self.dice.randint(4, MAX_FRAMES))
        observation = Observation(call_id=call, kind="frames", text="", frames=seen, start_s=start, end_s=end)
        return self._turn(number, (action,), (observation,), "")

    def _answer(self, number: int, letter: str) -> Turn:
        return self._turn(number, (Action(call_id=f"{number}.0", kind="answer", answer=letter),), (), "")

    def _turn(
        self, number: int, actions: tuple[Action, ...], observations: tuple[Observation, ...], error: str
    ) -> Turn:
        think = self._words(self.dice.randint(20, 90))
        return Turn(
            think=think,
            actions=actions,
            observations=observations,
            raw=f"<think>{think}</think>{{}}",
            reasoning="",
            author="teacher-1",
            trainable=not error,
            error=error,
            finish_reason="stop",
            call_key=self._hash(),
            usage=Usage(calls=1, prompt_tokens=5000 + 1500 * number, completion_tokens=len(think) // 4, cost_usd=0.002),
        )

    def verdict(self, of: Trajectory) -> Verdict:
        done = [a for turn in of.turns for a in turn.actions if a.kind == "zoom"]
        judged, answered = of.status != "failed", of.status == "answered"
        overview = self.dice.betavariate(2, 4)
        steps = [overview]
        for _ in done:
            steps.append(min(1.0, max(0.0, steps[-1] + self.dice.gauss(0.12, 0.15))))
        share = self.dice.random() if done else 0.0
        empty = dict.fromkeys((name for name in Verdict.model_fields), None)
        found: dict[str, Any] = empty | {
            "trajectory_id": of.trajectory_id,
            "question_id": of.question_id,
            "video_id": of.video_id,
            "attempt": of.attempt,
            "protocol": of.protocol,
            "status": of.status,
            "hint_level": -1,
            "n_claims": len(done),
            "n_turns": len(of.turns),
            "n_zooms": len(done),
            "n_frames": sum(len(o.frames) for turn in of.turns for o in turn.observations),
            "redundant_zooms": int(len(done) > 1 and self.dice.random() < 0.1),
            "verifier_tokens": 0,
        }
        if judged:
            found |= {
                "well_formed": answered,
                "in_bounds": self.dice.random() < 0.98,
                "consistent": self.dice.random() < 0.9,
                "zooms_mentioned": 1.0,
                "observations_match": self.dice.random() < 0.995,
                "answer_correct": of.final_answer == of.question.answer_letter if answered else None,
                "gold_leak": self.dice.random() < 0.01,
                "grounding_iou": share * 0.5,
                "grounding_recall": share,
                "grounding_precision": share * 0.7,
            }
        if answered:
            found |= {
                "p_gold_blind": self.dice.betavariate(2, 6),
                "p_gold_overview": overview,
                "p_gold_evidence": steps[-1],
                "p_gold_zooms_only": steps[-1] * 0.9 if done else None,
                "p_gold_steps": tuple(steps),
                "gain_per_step": tuple(b - a for a, b in pairwise(steps)),
                "evidence_gain": steps[-1] - steps[0],
                "claims_supported": 1.0 if self.dice.random() < 0.9 else 0.5,
                "claim_min": self.dice.random(),
                "verifier": "verifier-1",
                "verifier_tokens": 9000 + 3000 * len(done),
            }
        return Verdict.model_validate(found | checks.told(of))

    def _frames(self, start_s: float, end_s: float, count: int) -> tuple[Frame, ...]:
        step = (end_s - start_s) / count
        return tuple(
            Frame(
                index=round((start_s + i * step) * 30),
                time_s=start_s + i * step,
                hash=self._hash(),
                width=448,
                height=252,
            )
            for i in range(count)
        )

    def _words(self, count: int) -> str:
        return " ".join(self.dice.choices(_WORDS, k=count))

    def _hash(self) -> str:
        return f"{self.dice.getrandbits(256):064x}"
