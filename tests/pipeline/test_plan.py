"""The plan: it groups by video, only grows, comes out the same at any size, and stays small in the driver's memory."""

import random
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.tally import items_to_do
from pipeline import planning
from pipeline.plan import Plan, Planned
from pipeline.plan_parts import ShardRows, packed, unpacked
from pipeline.sources import BadRow
from pipeline.store import RunStore, to_parquet
from schemas.arrow import from_table
from schemas.errors import UserError
from schemas.generation import Generation
from schemas.question import Question
from tests.pipeline.test_store import question

Item = Question | BadRow


def in_plain_python(
    earlier: Sequence[Planned], items: Sequence[Item], attempts: int, videos_per_shard: int
) -> list[Planned]:
    """What a plan is extended with, record by record: the rule by which all plans so far were made."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for row in earlier:
        numbers[row.question.question_id].append(row.attempt)
    by_video: dict[str, list[Planned]] = defaultdict(list)
    seen: set[str] = set()
    for item in items:
        asked, error = (item.question, item.failure()) if isinstance(item, BadRow) else (item, None)
        if asked.question_id in seen:
            continue
        seen.add(asked.question_id)
        known = numbers[asked.question_id]
        free = max(known, default=-1) + 1
        for number in range(free, free + attempts - len(known)):
            by_video[asked.video_id].append(Planned(shard=0, attempt=number, question=asked, error=error))
    first = max((row.shard for row in earlier), default=-1) + 1
    return [
        row.model_copy(update={"shard": first + place // videos_per_shard})
        for place, rows in enumerate(by_video.values())
        for row in rows
    ]


def some_items(count: int, videos: int, seed: int) -> list[Item]:
    """Questions about videos in disorder, some of them twice, some unusable, some without any video."""
    dice, items = random.Random(seed), list[Item]()
    for number in range(count):
        asked = question(f"q{number} ünï", dice.choice([f"v{dice.randrange(videos)}.mp4"] * 9 + [""]))
        items.append(BadRow(f"row {number}: broken", asked) if dice.random() < 0.1 else asked)
    return items + dice.sample(items, count // 10)


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_is_the_same_as_record_by_record(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_BATCH", 7)
    monkeypatch.setattr(planning, "_GROUP_ROWS", 20)
    store, items, expected = RunStore(str(tmp_path)), some_items(90, 11, seed), list[Planned]()
    for some, attempts, per_shard in ((items[:40], 1, 3), (items, 2, 2), (items, 2, 2), (items[30:], 5, 4)):
        added = in_plain_python(expected, some, attempts, per_shard)
        done = Plan(store).extend(some, attempts, per_shard)
        ids = [item.question.question_id if isinstance(item, BadRow) else item.question_id for item in some]
        assert (done.added, done.duplicates) == (len(added), len(ids) - len(set(ids)))
        expected += added
    assert list(Plan(store).rows()) == expected
    assert pq.read_metadata(tmp_path / "plan" / "part-00001.parquet").num_row_groups > 3


def test_the_plan_groups_by_video_and_only_grows(tmp_path: Path) -> None:
    store = RunStore(str(tmp_path))
    items = [question(f"q{i}", f"v{i % 3}.mp4") for i in range(6)]
    first = Plan(store).extend(items[:4], attempts=2, videos_per_shard=2)
    before = (tmp_path / "plan" / "part-00000.parquet").read_bytes()
    second = Plan(store).extend([*items, items[0]], attempts=3, videos_per_shard=2)
    plan = Plan(store)
    assert (first.added, second.added, second.duplicates) == (8, 10, 1)
    assert (tmp_path / "plan" / "part-00000.parquet").read_bytes() == before
    ids = [row.trajectory_id for row in plan.rows()]
    assert len(ids) == len(set(ids)) == 18
    assert all(shard.videos <= 2 for shard in plan.shards().values())
    assert Plan(store).extend(items, attempts=3, videos_per_shard=2).added == 0


def test_a_bad_row_is_planned_with_its_error(tmp_path: Path) -> None:
    store = RunStore(str(tmp_path))
    Plan(store).extend([BadRow("row 7: no video", question("broken", ""))], attempts=2, videos_per_shard=4)
    rows = list(Plan(store).rows())
    assert len(rows) == 2
    assert all(row.error and row.error.stage == "source" and "no video" in row.error.message for row in rows)


def test_a_shard_is_known_by_a_few_numbers_and_read_when_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_GROUP_ROWS", 20)
    store = RunStore(str(tmp_path))
    Plan(store).extend(some_items(90, 11, 1), 3, 2)
    rows = defaultdict(list)
    for row in Plan(store).rows():
        rows[row.shard].append(row)
    shards = Plan(store).shards()
    reader = ShardRows(store, shards)
    for shard in [*shards, 3, 0, 4]:
        assert from_table(Planned, unpacked(reader.message(shard))) == rows[shard]
        assert shards[shard].attempts == len(rows[shard])
        assert shards[shard].videos == len({r.question.video_id for r in rows[shard] if r.error is None})
    left = items_to_do(shards, {"caption": {0}, "teach": {0, 1}})
    assert left["teach"] == sum(len(of) for shard, of in rows.items() if shard > 1)


def test_a_plan_of_one_row_group_as_earlier_versions_wrote_it_is_read_and_extended(tmp_path: Path) -> None:
    store, items = RunStore(str(tmp_path)), some_items(90, 11, 2)
    earlier = in_plain_python([], items, 2, 2)
    store.storage.write("plan/part-00000.parquet", to_parquet(Planned, earlier, {"covers": {"a": 1}}))
    plan = Plan(store)
    assert list(plan.rows()) == earlier and plan.covers({"a": 1})
    shards = plan.shards()
    assert list(shards) == sorted({row.shard for row in earlier})
    assert from_table(Planned, ShardRows(store, shards).of(2)) == [row for row in earlier if row.shard == 2]
    assert plan.extend(items, 2, 2).added == 0
    assert plan.extend(items, 3, 2).added == plan.n_questions
    assert list(Plan(store).rows()) == earlier + in_plain_python(earlier, items, 3, 2)


def test_a_regeneration_gets_the_next_numbers_and_shards_of_its_own(tmp_path: Path) -> None:
    store, items = RunStore(str(tmp_path)), [question(f"q{n}", f"v{n % 2}.mp4") for n in range(4)]
    Plan(store).extend(items, 2, 1)
    ordered = Generation(
        number=1, where="x", all_attempts=False, limit=None, attempts=2, changes={}, settings={"replay": {}}
    )
    plan = Plan(store)
    chosen = [row.question for row in plan.questions({items[3].question_id, items[1].question_id, "unknown"})]
    assert chosen == [items[1], items[3]]
    plan.regenerate(chosen, ordered, 1)
    assert plan.extend(items, 3, 1).added == 4
    plan = Plan(store)
    assert plan.generations == [ordered]
    assert (list(plan.shards(0)), list(plan.shards(1))) == ([0, 1, 3, 4], [2])
    numbers = {(row.shard, row.attempt) for row in plan.rows() if row.question == items[1]}
    assert numbers == {(1, 0), (1, 1), (2, 2), (2, 3), (4, 4)}


def test_two_planners_at_once_leave_one_plan(tmp_path: Path) -> None:
    store = RunStore(str(tmp_path))
    late = Plan(store)
    Plan(store).extend([question("q0")], 1, 1)
    with pytest.raises(UserError, match="another command has planned"):
        late.extend([question("q1")], 1, 1)


def test_a_slice_is_sent_without_the_rest_of_its_table(tmp_path: Path) -> None:
    store = RunStore(str(tmp_path))
    Plan(store).extend([question(f"q{n}") for n in range(1000)], 1, 1)
    (table,) = [ShardRows(store, Plan(store).shards()).of(0)]
    assert len(packed(table.slice(5, 1))) < len(packed(table)) / 20


def test_what_is_held_of_a_plan_does_not_grow_with_its_attempts(tmp_path: Path) -> None:
    """50,000 attempts in 250 shards, and 25,000 in as many: the figures of shards are all that stays."""
    held = {}
    for per_video in (50, 100):
        store = RunStore(str(tmp_path / str(per_video)))
        asked = (question(f"q{number}", f"v{number % 250}.mp4") for number in range(250 * per_video))
        Plan(store).extend(asked, 2, 1)
        shards = Plan(store).shards()
        ShardRows(store, shards).message(0)  # what is imported and cached once
        tracemalloc.start()
        shards = Plan(store).shards()
        reader = ShardRows(store, shards)
        sizes = [len(reader.message(shard)) for shard in shards]
        held[per_video] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(sizes) == 250 and Counter(s.attempts for s in shards.values()) == {2 * per_video: 250}
    assert held[100] < 300_000
    assert held[100] < 1.2 * held[50]
