"""The plan: which question x attempt sits in which shard. Written before any work, and only ever appended to."""

import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from pipeline.sources import BadRow
from pipeline.store import RunStore, footer_of, to_parquet
from schemas.arrow import from_table
from schemas.errors import Failure, UserError
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
    """All attempts of a run, by shard."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self.rows: list[Planned] = []
        self.n_parts = 0
        self._covered: list[dict[str, Any]] = []
        for name in store.storage.names("plan", ".parquet"):
            file = pq.ParquetFile(io.BytesIO(store.storage.read(f"plan/{name}")))
            self.rows.extend(from_table(Planned, file.read(use_threads=False)))
            self._covered.append(footer_of(file.metadata)["covers"])
            self.n_parts += 1

    def covers(self, request: dict[str, Any]) -> bool:
        """Whether a part was written for just this request, so that the source need not be read again."""
        return request in self._covered

    @property
    def n_questions(self) -> int:
        return len({row.question.question_id for row in self.rows})

    def shards(self) -> dict[int, list[Planned]]:
        """The attempts of each shard, in plan order."""
        shards: dict[int, list[Planned]] = defaultdict(list)
        for row in self.rows:
            shards[row.shard].append(row)
        return dict(shards)

    def extend(
        self,
        items: Iterable[Question | BadRow],
        attempts: int,
        videos_per_shard: int,
        request: dict[str, Any] | None = None,
    ) -> Extension:
        """Appends the attempts that are not planned yet, grouped by video into new shards, as one more part.

        request: what the items are (see `covers`), kept in the part's footer.
        """
        known = {row.trajectory_id for row in self.rows}
        by_video: dict[str, list[Planned]] = defaultdict(list)
        seen: set[str] = set()
        duplicates = 0
        for item in items:
            question, error = (item.question, item.failure()) if isinstance(item, BadRow) else (item, None)
            if question.question_id in seen:
                duplicates += 1
                continue
            seen.add(question.question_id)
            for attempt in range(attempts):
                planned = Planned(shard=0, attempt=attempt, question=question, error=error)
                if planned.trajectory_id not in known:
                    by_video[question.video_id].append(planned)
        self._append(list(by_video.values()), videos_per_shard, request or {})
        return Extension(sum(map(len, by_video.values())), duplicates)

    def _append(self, groups: Sequence[Sequence[Planned]], videos_per_shard: int, request: dict[str, Any]) -> None:
        if not groups:
            return
        first = max((row.shard for row in self.rows), default=-1) + 1
        part = [
            row.model_copy(update={"shard": first + number // videos_per_shard})
            for number, group in enumerate(groups)
            for row in group
        ]
        name = f"plan/part-{self.n_parts:05d}.parquet"
        if not self._store.storage.create(name, to_parquet(Planned, part, {"rows": len(part), "covers": request})):
            raise UserError(f"{self._store.url}: another command has planned just now; give this one again")
        self.rows.extend(part)
        self.n_parts += 1
