"""From the table `kept` to records, some shards at a time; by several processes where enough rows pay for them."""

import gc
import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
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
from pipeline.shards.spill import PLACE, Shelves, Spill
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.errors import Fatal

_ROWS_AT_A_TIME, _SHARDS_AT_A_TIME = 2_000, 64
"""What is made at a time: shards with so many kept rows together, and no more of them than that."""

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


@contextmanager
def helpers(rows: Rows, exporter: Exporter, alone: bool) -> Iterator[ProcessPoolExecutor | None]:
    """Other processes, which start at once; None where there are to be none, or a cut of all rows would not pay."""
    planned, most = _work(exporter, rows.planned, len(rows.known["teach"]))
    processes = min(os.cpu_count() or 1, _MOST_PROCESSES)
    if alone or planned <= most or processes == 1:
        yield None
        return
    begin = (rows.store.url, rows.store.verifier, exporter)
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin, begin)
    try:
        for _ in range(processes):
            pool.submit(_ready)
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def collect(
    rows: Rows, exporter: Exporter, spills: Mapping[Split, Spill], show: Show, pool: ProcessPoolExecutor | None
) -> Counter[str]:
    """Puts all kept rows into the spills as records; gives those that were dropped, by reason. pool: see `helpers`.

    Raises Fatal where a kept row is not found again or cannot be rendered faithfully.
    """
    pictured, dropped, done = exporter.media != "reference", Counter[str](), 0
    unit = "shard, video_id" if pictured else "shard"
    (kept,) = rows.query(f"SELECT count(*) AS n, count(DISTINCT ({unit})) AS tasks FROM kept")
    work, most = _work(exporter, kept["n"], kept["tasks"])
    tasks = _tasks(rows, pictured, _rendered(rows, exporter))
    if pool is None or work <= most:
        made = _here(rows.store, exporter, tasks, spills)
    else:
        made = _there(pool, tasks, spills)
    for count, lost in made:
        dropped += lost
        show(done := done + count, kept["tasks"])
    return dropped


def _work(exporter: Exporter, rows: int, tasks: int) -> tuple[int, int]:
    """How much work there is, and how much of it one process does by itself."""
    if exporter.media != "reference":
        return rows, _PICTURED_ALONE
    return rows + _SHARD * tasks, _ALONE


def _here(
    store: RunStore, exporter: Exporter, tasks: Iterable[Sequence[Task]], spills: Mapping[Split, Spill]
) -> Iterator[tuple[int, Counter[str]]]:
    """Puts the records of all tasks into the spills; gives how many are done, and the rows dropped, by reason."""
    for batch in tasks:
        tables, dropped = _collected(store, exporter, batch)
        for split, table in tables.items():
            spills[split].add(table)
        yield len(batch), dropped


def _there(
    pool: ProcessPoolExecutor, tasks: Iterable[Sequence[Task]], spills: Mapping[Split, Spill]
) -> Iterator[tuple[int, Counter[str]]]:
    """The same by other processes, a few tasks ahead of what is asked for."""
    shelves = {split: spill.shelves for split, spill in spills.items()}
    waiting: deque[tuple[int, Future[tuple[dict[Split, Counter[int]], Counter[str]]]]] = deque()

    def first() -> tuple[int, Counter[str]]:
        count, future = waiting.popleft()
        rows, dropped = future.result()
        for split, counts in rows.items():
            spills[split].note(counts)
        return count, dropped

    for batch in tasks:
        waiting.append((len(batch), pool.submit(_scattered, batch, shelves)))
        if len(waiting) > 2 * _MOST_PROCESSES:
            yield first()
    while waiting:
        yield first()


_ours: list[tuple[RunStore, Exporter]] = []
"""In a process of the pool: what it works with."""


def _begin(url: str, verifier: str, exporter: Exporter) -> None:
    gc.freeze()
    Finalize(None, gc.unfreeze, exitpriority=0)  # else libraries complain at its end that objects are left
    _ours[:] = [(RunStore(url, verifier), exporter)]


def _ready() -> None:
    """What a process does first, and is up then."""


def _scattered(
    batch: Sequence[Task], shelves: Mapping[Split, Shelves]
) -> tuple[dict[Split, Counter[int]], Counter[str]]:
    """Puts the records of tasks on shelves; gives how many, by split and bucket, and the rows dropped, by reason."""
    ((store, exporter),) = _ours
    tables, dropped = _collected(store, exporter, batch)
    return {split: shelves[split].put(table, str(os.getpid())) for split, table in tables.items()}, dropped


def _collected(
    store: RunStore, exporter: Exporter, batch: Sequence[Task]
) -> tuple[dict[Split, pa.Table], Counter[str]]:
    """The records of tasks with the columns of their places, by split; and the rows dropped, by reason."""
    tables: dict[Split, list[pa.Table]] = {}
    for task in batch:
        picked = rendered.picked(store, task.shard, task.facts, exporter.kept_by) if task.rendered else None
        ids = [] if picked is None else pc.struct_field(picked["provenance"], "trajectory_id").to_pylist()
        left = task.facts.keys() - set(ids)
        found = [_made(store, exporter, task.shard, {name: task.facts[name] for name in left})] if left else []
        if picked is not None and ids:
            found.append(_placed(picked, ids, task.facts, exporter))
        for by_split in found:
            for split, table in by_split.items():
                tables.setdefault(split, []).append(table)
    dropped, exporter.dropped = exporter.dropped, Counter()
    return {split: pa.concat_tables(parts) for split, parts in tables.items()}, dropped


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


def _tasks(rows: Rows, by_video: bool, ready: Collection[int]) -> Iterator[list[Task]]:
    """The kept rows by shard, or by a shard's videos, so that the pictures of one at a time are held; those that are
    made at a time together. ready: shards whose records are rendered.
    """
    shards = rows.query("SELECT shard, count(*) AS n FROM kept GROUP BY 1 ORDER BY 1")
    while shards:
        some, n = list[int](), 0
        while shards and n < _ROWS_AT_A_TIME and len(some) < _SHARDS_AT_A_TIME:
            one = shards.pop(0)
            some.append(int(one["shard"]))
            n += one["n"]
        which = f"shard BETWEEN {some[0]} AND {some[-1]}"
        known = rows.query(f"SELECT * FROM kept WHERE {which} ORDER BY shard, video_id, rank")
        tasks = list[Task]()
        for (shard, _), facts in groupby(known, key=lambda row: (row["shard"], by_video and row["video_id"])):
            made_by = {"run_fingerprint": rows.fingerprints_of(shard)["replay"]}
            tasks.append(Task(shard, {row["trajectory_id"]: row | made_by for row in facts}, shard in ready))
        yield from ([task] for task in tasks) if by_video else [tasks]
