"""From questions to the attempts that a plan lacks: as columns, since there may be millions of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.plan_parts import Numbers, field_of, numbered
from pipeline.sources import BadRow
from schemas.arrow import arrow_schema
from schemas.errors import Failure
from schemas.question import Question

_BATCH = 4096
"""Questions that are records at a time. Beyond them they are columns."""

_GROUP_ROWS = 4096
"""Rows after which a row group ends with its last shard: few enough to be read for one shard, many enough to pack."""

_ASKED = pa.schema(
    [
        pa.field("question", pa.struct(list(arrow_schema(Question))), nullable=False),
        pa.field("error", pa.struct(list(arrow_schema(Failure)))),
    ]
)


@dataclass(frozen=True)
class Known:
    """The questions that a plan has. own: attempts of the run's own; free: the number that the next attempt gets."""

    ids: pa.Array
    own: Numbers
    free: Numbers


class Asked:
    """Questions in their order, as columns: `question`, and `error` where the source's row is unusable."""

    def __init__(self, items: Iterable[Question | BadRow]) -> None:
        left = iter(items)
        self._batches = []
        while some := list(islice(left, _BATCH)):
            self._batches.append(pa.Table.from_pylist([_row(item) for item in some], schema=_ASKED))
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])

    def field(self, name: str) -> pa.ChunkedArray:
        """A field of all questions."""
        return field_of(pa.concat_tables([_ASKED.empty_table(), *self._batches]), name)

    def take(self, numbers: Numbers) -> pa.Table:
        """Some questions by their numbers, in that order."""
        batches = np.searchsorted(self._starts, numbers, side="right") - 1
        by_batch = np.argsort(batches, kind="stable")
        found = [
            self._batches[batch].take(pa.array(numbers[by_batch][batches[by_batch] == batch] - self._starts[batch]))
            for batch in np.unique(batches).tolist()
        ]
        return pa.concat_tables(found).combine_chunks().take(pa.array(np.argsort(by_batch)))


def _row(item: Question | BadRow) -> dict[str, object]:
    if isinstance(item, BadRow):
        return {"question": item.question.model_dump(), "error": item.failure().model_dump()}
    return {"question": item.model_dump(), "error": None}


@dataclass(frozen=True)
class Lacking:
    """The attempts that a plan lacks, by video and in order. question: its number among those asked.

    shard: numbered from 0. duplicates: questions that were asked more than once.
    """

    question: Numbers
    attempt: Numbers
    shard: Numbers
    duplicates: int

    def groups(self) -> Iterator[slice]:
        """The attempts of some whole shards, group by group."""
        (ends,) = np.nonzero(np.diff(self.shard, append=-1))
        begin = 0
        for end in (ends + 1).tolist():
            if end - begin >= _GROUP_ROWS or end == len(self.shard):
                yield slice(begin, end)
                begin = end


def lacking(asked: Asked, attempts: int, known: Known, videos_per_shard: int, anew: bool = False) -> Lacking:
    """What is to be planned. anew: so many attempts more, however many there are."""
    ids = asked.field("question_id")
    questions = np.sort(np.unique(numbered(ids), return_index=True)[1])
    duplicates = len(ids) - len(questions)
    place = pc.index_in(ids.take(pa.array(questions)), value_set=known.ids)
    is_known, at = pc.is_valid(place).to_numpy(), pc.fill_null(place, 0).to_numpy()
    free, own = (_where(is_known, numbers, at) for numbers in (known.free, known.own))
    counts = np.full(len(questions), attempts) if anew else np.maximum(attempts - own, 0)
    questions, free, counts = (numbers[counts > 0] for numbers in (questions, free, counts))
    videos = _by_appearance(numbered(asked.field("video_id"))[questions])
    order = np.argsort(videos, kind="stable")
    questions, free, counts, videos = (numbers[order] for numbers in (questions, free, counts, videos))
    begins = np.cumsum(counts) - counts
    return Lacking(
        question=np.repeat(questions, counts),
        attempt=np.arange(counts.sum()) + np.repeat(free - begins, counts),
        shard=np.repeat(videos // videos_per_shard, counts),
        duplicates=duplicates,
    )


def _where(chosen: Numbers, numbers: Numbers, at: Numbers) -> Numbers:
    """The numbers at some places where chosen, elsewhere 0."""
    return np.where(chosen, numbers[at], 0) if len(numbers) else np.zeros(len(at), np.int64)


def _by_appearance(codes: Numbers) -> Numbers:
    """The same with the first one to appear as 0, the next one as 1."""
    _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    return ranks[codes]
