"""From the table `kept` to records, a shard at a time; by several processes where enough rows pay for them."""

import gc
import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import get_context
from multiprocessing.util import Finalize

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.shards import rendered
from pipeline.shards.attempts import kept_attempts
from pipeline.shards.building import uncollected
from pipeline.shards.export import Exporter, Made, Split, split_of
from pipeline.shards.packing import pack
from pipeline.shards.samples import Facts
from pipeline.shards.spill import PLACE
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.errors import Fatal

_ROWS_AT_A_TIME = 2_000
"""Kept rows whose facts are asked for at a time, at least."""

_ALONE, _PICTURED_ALONE = 20_000, 1_000
"""Up to so much work one process does, for others take seconds to start; less where each row has pictures to decode."""

_SHARD = 50
"""To read a shard takes as long as to render so many rows."""

_MOST_PROCESSES = 8

Show = Callable[[int, int], None]
"""Called with shards done and in all (of rows with pictures, videos of shards)."""


@dataclass(frozen=True)
class Task:
    """Kept rows of a shard, or of one of its videos: what SQL knows of each, by trajectory id.

    rendered: whether the rows of this shard may be there already.
    """

    shard: int
    facts: dict[str, Facts]
    rendered: bool


@dataclass(frozen=True)
class Collected:
    """What became of a task: records with the columns of their places, by split; rows dropped, by reason."""

    tables: dict[Split, pa.Table]
    dropped: Counter[str]


def collect(rows: Rows, exporter: Exporter, show: Show, alone: bool) -> Iterator[Collected]:
    """All kept rows as records. alone: in this process, however many there are.

    Raises Fatal where a kept row is not found again or cannot be rendered faithfully.
    """
    pictured = exporter.media != "reference"
    unit = "shard, video_id" if pictured else "shard"
    (kept,) = rows.query(f"SELECT count(*) AS n, count(DISTINCT ({unit})) AS tasks FROM kept")
    work, most = (kept["n"], _PICTURED_ALONE) if pictured else (kept["n"] + _SHARD * kept["tasks"], _ALONE)
    alone = alone or work <= most
    processes = 1 if alone else min(os.cpu_count() or 1, _MOST_PROCESSES, kept["tasks"])
    tasks = _tasks(rows, pictured, _rendered(rows, exporter))
    made = _here(rows.store, exporter, tasks) if processes == 1 else _there(rows.store, exporter, tasks, processes)
    for done, found in enumerate(made):
        show(done, kept["tasks"])
        yield found
    show(kept["tasks"], kept["tasks"])


def _here(store: RunStore, exporter: Exporter, tasks: Iterator[Task]) -> Iterator[Collected]:
    for task in tasks:
        yield _collected(store, exporter, task)


def _there(store: RunStore, exporter: Exporter, tasks: Iterator[Task], processes: int) -> Iterator[Collected]:
    """The same by other processes, a few tasks ahead of what is asked for."""
    waiting: deque[Future[Collected]] = deque()
    begin = (store.url, store.verifier, exporter)
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, begin) as pool:
        for task in tasks:
            waiting.append(pool.submit(_work, task))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_ours: list[tuple[RunStore, Exporter]] = []
"""In a process of the pool: what it works with."""


def _begin(url: str, verifier: str, exporter: Exporter) -> None:
    gc.freeze()
    Finalize(None, gc.unfreeze, exitpriority=0)  # else libraries complain at its end that objects are left
    _ours[:] = [(RunStore(url, verifier), exporter)]


def _work(task: Task) -> Collected:
    ((store, exporter),) = _ours
    return _collected(store, exporter, task)


def _collected(store: RunStore, exporter: Exporter, task: Task) -> Collected:
    picked = rendered.picked(store, task.shard, task.facts, exporter.kept_by) if task.rendered else None
    ids = [] if picked is None else pc.struct_field(picked["provenance"], "trajectory_id").to_pylist()
    left = task.facts.keys() - set(ids)
    tables = _made(store, exporter, task.shard, {name: task.facts[name] for name in left}) if left else {}
    if picked is not None and ids:
        for split, table in _placed(picked, ids, task.facts, exporter).items():
            tables[split] = pa.concat_tables([table, tables[split]]) if split in tables else table
    dropped, exporter.dropped = exporter.dropped, Counter()
    return Collected(tables, dropped)


def _made(store: RunStore, exporter: Exporter, shard: int, facts: dict[str, Facts]) -> dict[Split, pa.Table]:
    """Records of attempts, rendered now."""
    schema, made = pa.schema([*exporter.schema, *PLACE]), dict[Split, list[Made]]()
    with uncollected():
        found = kept_attempts(store, shard, facts)
        if len(found) != len(facts):
            raise Fatal(f"shard {shard}: {len(facts)} rows are kept, {len(found)} were found again")
        for records in exporter.records(found, facts):
            for record in records:
                made.setdefault(record.split, []).append(record)
        return {split: _table(records, schema) for split, records in made.items()}


def _placed(
    picked: pa.Table, ids: Sequence[str], facts: Mapping[str, Facts], exporter: Exporter
) -> dict[Split, pa.Table]:
    """Records that were rendered ahead, with the columns of their places, by split."""
    steps = pc.struct_field(picked["provenance"], "step").fill_null(0)
    places = [pa.array([facts[one]["rank"] for one in ids], pa.int64()), steps]
    for field, values in zip(PLACE, places, strict=True):
        picked = picked.append_column(field, values)
    videos = {facts[one]["video_id"] for one in ids}
    split_by = {video: split_of(video, exporter.seed, exporter.test_share) for video in videos}
    splits = pa.array([split_by[facts[one]["video_id"]] for one in ids])
    return {split: picked.filter(pc.equal(splits, split)) for split in sorted(set(split_by.values()))}


def _rendered(rows: Rows, exporter: Exporter) -> frozenset[int]:
    """The shards whose records are there as this exporter would make them."""
    if exporter.layout is not rendered.LAYOUT or exporter.learn != "all" or exporter.tokenizer:
        return frozenset()
    return rendered.there(rows.store, {shard: one.size for shard, one in rows.known["teach"].items()})


def _table(records: Sequence[Made], schema: pa.Schema) -> pa.Table:
    """Records with the columns of their places."""
    rank, number = (field.name for field in PLACE)
    return pack([{**record.columns, rank: record.rank, number: record.number} for record in records], schema)


def _tasks(rows: Rows, by_video: bool, ready: Collection[int]) -> Iterator[Task]:
    """The kept rows by shard, or by a shard's videos, so that the pictures of one at a time are held. ready: shards
    whose records are rendered."""
    shards = rows.query("SELECT shard, count(*) AS n FROM kept GROUP BY 1 ORDER BY 1")
    while shards:
        first, n = int(shards[0]["shard"]), 0
        while shards and n < _ROWS_AT_A_TIME:
            last = shards.pop(0)
            n += last["n"]
        which = f"shard BETWEEN {first} AND {int(last['shard'])}"
        known = rows.query(f"SELECT * FROM kept WHERE {which} ORDER BY shard, video_id, rank")
        for (shard, _), facts in groupby(known, key=lambda row: (row["shard"], by_video and row["video_id"])):
            made_by = {"run_fingerprint": rows.fingerprints_of(shard)["replay"]}
            yield Task(shard, {row["trajectory_id"]: row | made_by for row in facts}, shard in ready)
