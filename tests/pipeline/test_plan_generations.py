"""The plan with regenerations: attempts only ever grow, and each keeps the settings that it was ordered with."""

from collections import defaultdict
from pathlib import Path

import pytest

from pipeline.ledger import used_before
from pipeline.models.calls import CallStore
from pipeline.plan import Plan
from pipeline.store import RunStore
from schemas.config import Endpoint, RunConfig, stage_settings
from schemas.errors import UserError
from schemas.generation import Generation, with_changes
from tests.pipeline.test_store import config, question


def ordered(number: int = 1, attempts: int = 1, **changes: object) -> Generation:
    written = RunConfig.model_validate(with_changes(config().model_dump(mode="json"), dict(changes)))
    return Generation(
        number=number,
        where="NOT answer_correct",
        all_attempts=False,
        limit=None,
        attempts=attempts,
        changes=dict(changes),
        settings=stage_settings(written, "1"),
    )


def numbers(plan: Plan) -> dict[str, list[int]]:
    """The attempts of each question, by its text."""
    found: dict[str, list[int]] = defaultdict(list)
    for row in plan.rows():
        found[row.question.text].append(row.attempt)
    return dict(found)


def planned(url: str) -> RunStore:
    """Four questions on two videos, two attempts each."""
    store = RunStore(url)
    store.open_for(config(), stage_settings(config(), "1"))
    Plan(store).extend([question(f"q{i}", f"v{i % 2}.mp4") for i in range(4)], attempts=2, videos_per_shard=1)
    return store


def test_regenerated_attempts_are_numbered_on_in_new_shards_and_the_old_part_stays(tmp_path: Path) -> None:
    store = planned(str(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    plan = Plan(store)
    first, *_, last = plan.rows()
    plan.regenerate([first.question, last.question], ordered(attempts=2), videos_per_shard=1)
    assert {path: path.read_bytes() for path in before} == before
    again = Plan(store)
    assert list(again.rows()) == list(plan.rows())
    assert numbers(again) == {"q0": [0, 1, 2, 3], "q1": [0, 1], "q2": [0, 1], "q3": [0, 1, 2, 3]}
    assert sorted(again.shards(0)) == [0, 1] and sorted(again.shards(1)) == [2, 3] and len(again.shards()) == 4
    assert again.generations == [ordered(attempts=2)]


def test_a_run_that_is_to_have_more_attempts_counts_its_own_alone(tmp_path: Path) -> None:
    store = planned(str(tmp_path))
    plan = Plan(store)
    items = list({row.question.question_id: row.question for row in plan.rows()}.values())
    plan.regenerate(items[:1], ordered(), videos_per_shard=1)
    assert Plan(store).extend(items, attempts=2, videos_per_shard=1).added == 0
    assert Plan(store).extend(items, attempts=3, videos_per_shard=1).added == 4
    grown = Plan(store)
    assert numbers(grown) == {"q0": [0, 1, 2, 3], "q1": [0, 1, 2], "q2": [0, 1, 2], "q3": [0, 1, 2]}
    assert [row.attempt for row in grown.rows() if row.shard in grown.shards(1)] == [2]


def test_two_commands_that_plan_at_once_do_not_overwrite_each_other(tmp_path: Path) -> None:
    store = planned(str(tmp_path))
    first, second = Plan(store), Plan(store)
    first.regenerate([next(first.rows()).question], ordered(), videos_per_shard=1)
    with pytest.raises(UserError, match="another command has planned"):
        second.extend([question("new")], attempts=1, videos_per_shard=1)
    assert Plan(store).generations == [ordered()] and len(list(Plan(store).rows())) == 9


def test_orders_are_the_same_where_only_the_way_to_a_model_differs() -> None:
    moved = ordered(2, **{"teacher.base_url": "http://127.0.0.1:2/v1"})
    assert moved.same_order(ordered())
    assert not ordered(2, **{"teacher.model": "other"}).same_order(ordered())
    assert not ordered(2, attempts=2).same_order(ordered())


def test_each_teacher_of_a_run_counts_at_its_own_price(tmp_path: Path) -> None:
    store = planned(str(tmp_path))
    price = {"input": 1.0, "output": 1.0}
    dear = {"teacher.model": "dear", "teacher.price": {"input": 100.0, "output": 100.0}}
    plan = Plan(store)
    plan.regenerate([next(plan.rows()).question], ordered(**dear), videos_per_shard=1)
    usage = {"prompt_tokens": 1_000, "completion_tokens": 0}
    for key, model in (("a", "m"), ("b", "dear"), ("c", "a model in a worker")):
        response = {"choices": [{"message": {"content": "x"}}], "usage": usage}
        CallStore(store.url).put(key * 64, "teacher", {"model": model}, response)
    session = Endpoint.model_validate({"model": "m", "base_url": "http://127.0.0.1:1/v1", "price": price})
    assert used_before(store.url, {"captioner": session})["teacher"].prompt == 2_000
    used = used_before(store.url, {"teacher": session})["teacher"]
    assert used.dollars == pytest.approx(0.001 + 0.1 + 0.001)  # what is unknown counts as this session's model
