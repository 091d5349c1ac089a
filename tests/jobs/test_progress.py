"""What a run says of itself while it works: reckoned right, unknown where it is not known, logged as JSON lines."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.progress import summary
from jobs.run_log import RunLog
from jobs.tally import _STAGE_OF, Tallier
from pipeline.cluster import Snapshot
from pipeline.leases import Spent
from pipeline.models.chat import CallCounts
from pipeline.storage import Storage
from pipeline.worker import Progress
from schemas.config import MODEL_ROLES
from schemas.errors import Fatal

TO_DO = {"caption": 4, "teach": 20, "replay": 20}
SPENT = Spent(sent=12, answered=9, failed={"HTTP 429": 2, "timeout": 1}, prompt_tokens=900, completion_tokens=100)


def snapshot(taught: int, **spent: Spent) -> Snapshot:
    workers = {"caption": Progress(2), "teach": Progress(taught, [CallCounts(reused=3)]), "replay": Progress(0)}
    return Snapshot(2, {"caption": 1, "teach": 0, "replay": 0}, workers, {"caption": Counter(ok=2)}, 1, spent)


def test_the_cost_to_come_is_projected_from_the_items_left() -> None:
    tally = Tallier(TO_DO, ["teacher"]).of(snapshot(5, teacher=replace(SPENT, dollars=0.5)))
    assert tally.dollars == 0.5
    assert tally.projected_dollars == pytest.approx(2.0)
    assert "$0.50 of about $2.00" in summary(tally)


def test_an_unknown_price_is_never_shown_as_nothing() -> None:
    assert "cost unknown" in summary(Tallier(TO_DO, []).of(snapshot(0, teacher=replace(SPENT, answered=0))))
    uncounted = Tallier(TO_DO, ["teacher"]).of(snapshot(5, teacher=replace(SPENT, dollars=0.5, unpriced=1)))
    assert uncounted.dollars is None and uncounted.projected_dollars is None
    mixed = Tallier(TO_DO, ["teacher"]).of(snapshot(5, teacher=replace(SPENT, dollars=0.5), verifier=Spent()))
    assert mixed.dollars == 0.5 and mixed.projected_dollars is None


def test_nothing_is_projected_before_there_is_something_to_go_by() -> None:
    tally = Tallier(TO_DO, ["teacher"]).of(snapshot(0, teacher=replace(SPENT, dollars=0.5)))
    assert tally.dollars == 0.5 and tally.projected_dollars is None


def test_failed_tries_are_told_by_cause() -> None:
    tally = Tallier(TO_DO, []).of(snapshot(5, teacher=SPENT, captioner=SPENT))
    assert summary(tally).startswith("24 calls sent (6 failed: 4 HTTP 429, 2 timeout); 3 found in calls/")


def test_what_waits_in_a_providers_batch_is_told() -> None:
    tally = Tallier(TO_DO, []).of(snapshot(0, captioner=replace(SPENT, batched=1200)))
    assert "1,200 requests in batches" in summary(tally)
    assert "batches" not in summary(Tallier(TO_DO, []).of(snapshot(0, captioner=SPENT)))


def test_every_role_of_a_job_has_a_stage_to_go_by() -> None:
    assert set(_STAGE_OF) == set(MODEL_ROLES)


def test_the_log_has_a_line_now_and_then_and_one_at_the_end(tmp_path: Path) -> None:
    tallier, log = Tallier(TO_DO, ["teacher"]), RunLog(Storage(str(tmp_path)))
    for taught in (1, 2, 3):
        log.note(tallier.of(snapshot(taught, teacher=SPENT)))
    log.end(Fatal("the disk is full"))
    (path,) = (tmp_path / "logs").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["progress", "end"]
    assert lines[0]["items"]["teach"] == 1 and lines[1]["items"]["teach"] == 3
    assert lines[1]["roles"]["teacher"]["failed"] == {"HTTP 429": 2, "timeout": 1}
    assert lines[1]["error"] == "the disk is full"


def test_the_log_is_kept_on_an_object_store_too() -> None:
    storage = Storage("memory://progress/run")
    log = RunLog(storage)
    log.note(Tallier(TO_DO, []).of(snapshot(1, teacher=SPENT)))
    log.end(None)
    (name,) = storage.names("logs", ".jsonl")
    assert [json.loads(line)["event"] for line in storage.read(f"logs/{name}").splitlines()] == ["progress", "end"]
