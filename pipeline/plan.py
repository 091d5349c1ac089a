"""The plan: which question x attempt sits in which shard. Written before any work, and only ever appended to."""

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from pipeline.sources import BadRow
from pipeline.store import RunStore, footer_of, to_parquet
from schemas.arrow import from_table
from schemas.errors import Failure, Fatal
from schemas.generation import Generation
from schemas.question import Question
from schemas.record import Record


class Planned(Record):
    """One attempt to be made. error: why a source row cannot be used (its attempts then fail, and are counted)."""

    shard: int
    attempt: int
    question: Question
    error: Failure | None

    @property
    def trajectory_id(self) -> str:
        return f"{self.question.question_id}@{self.attempt}"


@dataclass(frozen=True)
class Extension:
    """What a call of `extend` did: attempts appended, and source rows that repeat an earlier one word for word."""

    added: int
    duplicates: int


class Plan:
    """All attempts of a run, by shard. generations: its regenerations, in the order in which they were ordered."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self.rows: list[Planned] = []
        self.generations: list[Generation] = []
        self.n_parts = 0
        self._covered: list[dict[str, Any]] = []
        self._generation_of: dict[int, int] = {}
        for name in store.storage.names("plan", ".parquet"):
            file = pq.ParquetFile(io.BytesIO(store.storage.read(f"plan/{name}")))
            footer = footer_of(file.metadata)
            self._covered.append(footer["covers"])
            self._note(from_table(Planned, file.read(use_threads=False)), generation_in(footer))

    def covers(self, request: dict[str, Any]) -> bool:
        """Whether a part was written for just this request, so that the source need not be read again."""
        return request in self._covered

    @property
    def n_questions(self) -> int:
        return len({row.question.question_id for row in self.rows})

    def shards(self, generation: int | None = None) -> dict[int, list[Planned]]:
        """The attempts of each shard, in plan order. generation: only that one's (0: the run's own), None: all."""
        shards: dict[int, list[Planned]] = defaultdict(list)
        for row in self.rows:
            if generation in (None, self._generation_of.get(row.shard, 0)):
                shards[row.shard].append(row)
        return dict(shards)

    def extend(
        self,
        items: Iterable[Question | BadRow],
        attempts: int,
        videos_per_shard: int,
        request: dict[str, Any] | None = None,
    ) -> Extension:
        """Appends what questions lack of so many attempts of the run's own, by video in new shards, as one more part.

        request: what the items are (see `covers`), kept in the part's footer. Raises Fatal where another command plans
        in this run meanwhile.
        """
        own = Counter(row.question.question_id for row in self.rows if row.shard not in self._generation_of)
        free = self._free_numbers()
        by_video: dict[str, list[Planned]] = defaultdict(list)
        seen: set[str] = set()
        duplicates = 0
        for item in items:
            question, error = (item.question, item.failure()) if isinstance(item, BadRow) else (item, None)
            if question.question_id in seen:
                duplicates += 1
                continue
            seen.add(question.question_id)
            missing = range(
                free[question.question_id], free[question.question_id] + attempts - own[question.question_id]
            )
            planned = [Planned(shard=0, attempt=number, question=question, error=error) for number in missing]
            if planned:
                by_video[question.video_id] += planned
        self._append(list(by_video.values()), videos_per_shard, {"covers": request or {}}, None)
        return Extension(sum(map(len, by_video.values())), duplicates)

    def regenerate(self, questions: Sequence[Question], ordered: Generation, videos_per_shard: int) -> None:
        """Appends further attempts at planned questions, numbered from the next free one on, as one more part.

        Raises as `extend` does.
        """
        free = self._free_numbers()
        by_video: dict[str, list[Planned]] = defaultdict(list)
        for question in questions:
            for number in range(free[question.question_id], free[question.question_id] + ordered.attempts):
                planned = Planned(shard=0, attempt=number, question=question, error=None)
                by_video[question.video_id].append(planned)
        footer = {"covers": {}, "generation": ordered.model_dump(mode="json")}
        self._append(list(by_video.values()), videos_per_shard, footer, ordered)

    def _free_numbers(self) -> Counter[str]:
        """For each question the number that its next attempt gets: no earlier one's, so that no reply is taken over."""
        free: Counter[str] = Counter()
        for row in self.rows:
            free[row.question.question_id] = max(free[row.question.question_id], row.attempt + 1)
        return free

    def _append(
        self,
        groups: Sequence[Sequence[Planned]],
        videos_per_shard: int,
        footer: dict[str, Any],
        ordered: Generation | None,
    ) -> None:
        if not groups:
            return
        first = max((row.shard for row in self.rows), default=-1) + 1
        part = [
            row.model_copy(update={"shard": first + number // videos_per_shard})
            for number, group in enumerate(groups)
            for row in group
        ]
        name = f"plan/part-{self.n_parts:05d}.parquet"
        if not self._store.storage.create(name, to_parquet(Planned, part, {"rows": len(part), **footer})):
            raise Fatal(f"another command plans in {self._store.url}; run this one again when it is done")
        self._note(part, ordered)

    def _note(self, part: Sequence[Planned], ordered: Generation | None) -> None:
        self.n_parts += 1
        self.rows.extend(part)
        if ordered is not None:
            self.generations.append(ordered)
            self._generation_of |= dict.fromkeys((row.shard for row in part), ordered.number)


def generation_in(footer: dict[str, Any]) -> Generation | None:
    """The regeneration that a part of the plan was written for, None for the run's own attempts."""
    found = footer.get("generation")
    return None if found is None else Generation.model_validate(found)
