"""The plan: which question x attempt sits in which shard. Written before any work, and only ever appended to."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.plan_parts import PlannedShard, field_of, numbered, opened, part_name, shards_in
from pipeline.planning import Asked, Known, Lacking, lacking
from pipeline.sources import BadRow
from pipeline.store import RunStore, parquet_of
from schemas.arrow import arrow_schema, from_table
from schemas.errors import Failure, UserError
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
    """All attempts of a run, by shard. generations: its regenerations, in the order in which they were ordered.

    Of a million attempts it holds some figures of each shard, and looks at columns, or at one row group, when it is
    asked for more. Raises Fatal where a part cannot be read.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self.generations: list[Generation] = []
        self._covered: list[dict[str, Any]] = []
        self._generation_of: list[int] = []
        self._shards: dict[int, dict[int, PlannedShard]] = {}
        for _ in store.storage.names("plan", ".parquet"):
            self._note_next()

    @property
    def n_parts(self) -> int:
        return len(self._covered)

    @property
    def n_questions(self) -> int:
        return len(self._known().ids)

    def covers(self, request: dict[str, Any]) -> bool:
        """Whether a part was written for just this request, so that the source need not be read again."""
        return request in self._covered

    def shards(self, generation: int | None = None) -> dict[int, PlannedShard]:
        """How much each shard holds. generation: only that one's (0: the run's own attempts), None: all."""
        found: dict[int, PlannedShard] = {}
        for part, of in enumerate(self._generation_of):
            if generation in (None, of):
                found |= self._shards_of(part)
        return found

    def rows(self) -> Iterator[Planned]:
        """All attempts, in plan order."""
        for part in range(self.n_parts):
            with opened(self._store, part) as file:
                for table in file.tables():
                    yield from from_table(Planned, table)

    def questions(self, ids: Collection[str]) -> Iterator[Planned]:
        """The first attempt at each of some questions, in plan order."""
        left = set(ids)
        for part in range(self.n_parts):
            with opened(self._store, part) as file:
                found = field_of(file.columns("question.question_id"), "question_id")
                firsts = np.sort(np.unique(numbered(found), return_index=True)[1])
                wanted = pc.is_in(found.take(pa.array(firsts)), value_set=pa.array(sorted(left), pa.string()))
                for table in file.tables(firsts[wanted.to_numpy()]):
                    for planned in from_table(Planned, table):
                        left.discard(planned.question.question_id)
                        yield planned

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
        asked = Asked(items)
        found = lacking(asked, attempts, self._known(), videos_per_shard)
        self._append(asked, found, {"covers": request or {}})
        return Extension(len(found.shard), found.duplicates)

    def regenerate(self, questions: Iterable[Question], ordered: Generation, videos_per_shard: int) -> None:
        """Appends further attempts at planned questions, numbered from the next free one on, as one more part.

        Raises as `extend` does.
        """
        asked = Asked(questions)
        found = lacking(asked, ordered.attempts, self._known(), videos_per_shard, anew=True)
        self._append(asked, found, {"covers": {}, "generation": ordered.model_dump(mode="json")})

    def _known(self) -> Known:
        """By question how many of its attempts are the run's own, and the number that its next attempt gets.

        No earlier attempt has that number, so that no reply is taken over.
        """
        columns = {"id": pa.string(), "own": pa.int64(), "attempt": pa.int64()}
        tables = [pa.schema(list(columns.items())).empty_table()]
        for part, generation in enumerate(self._generation_of):
            with opened(self._store, part) as file:
                rows = file.columns("attempt", "question.question_id")
            own = pa.array(np.full(len(rows), int(generation == 0)))
            tables.append(pa.table({"id": field_of(rows, "question_id"), "own": own, "attempt": rows["attempt"]}))
        known = pa.concat_tables(tables).group_by("id").aggregate([("own", "sum"), ("attempt", "max")])
        ids = known["id"].combine_chunks()
        return Known(ids, known["own_sum"].to_numpy(), known["attempt_max"].to_numpy() + 1)

    def _shards_of(self, part: int) -> dict[int, PlannedShard]:
        if part not in self._shards:
            with opened(self._store, part) as file:
                self._shards[part] = shards_in(file, part)
        return self._shards[part]

    def _append(self, asked: Asked, found: Lacking, footer: dict[str, Any]) -> None:
        total = len(found.shard)
        if not total:
            return
        first = max(self.shards(), default=-1) + 1

        def tables() -> Iterator[pa.Table]:
            for group in found.groups():
                numbers = {"shard": found.shard[group] + first, "attempt": found.attempt[group]}
                table = asked.take(found.question[group])
                columns = [*map(pa.array, numbers.values()), *table.columns]
                yield pa.Table.from_arrays(columns, schema=arrow_schema(Planned))

        name = part_name(self.n_parts)
        data = parquet_of(arrow_schema(Planned), tables(), {"rows": total, **footer})
        if not self._store.storage.create(name, data):
            raise UserError(f"{self._store.url}: another command has planned just now; give this one again")
        self._note_next()

    def _note_next(self) -> None:
        with opened(self._store, self.n_parts) as file:
            footer = file.footer
        ordered = generation_in(footer)
        self._covered.append(footer["covers"])
        self._generation_of.append(ordered.number if ordered else 0)
        if ordered is not None:
            self.generations.append(ordered)


def generations_of(store: RunStore) -> list[Generation]:
    """The regenerations of a run, in order, without a look at its rows."""
    footers = list[dict[str, Any]]()
    for part in range(len(store.storage.names("plan", ".parquet"))):
        with opened(store, part) as file:
            footers.append(file.footer)
    return [ordered for ordered in map(generation_in, footers) if ordered is not None]


def generation_in(footer: dict[str, Any]) -> Generation | None:
    """The regeneration that a part of the plan was written for, None for the run's own attempts."""
    found = footer.get("generation")
    return None if found is None else Generation.model_validate(found)
