"""What a run says of itself while it works: reckoned right, unknown where it is not known, logged as JSON lines."""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from jobs import run_log
from jobs.progress import bottleneck, summary
from jobs.run_log import RunLog
from jobs.tally import _STAGE_OF, Tallier
from pipeline.cluster import Snapshot
from pipeline.leases import Spent
from pipeline.loads import Load
from pipeline.models.chat import CallCounts
from pipeline.storage import Storage
from pipeline.worker import Progress
from schemas.config import MODEL_ROLES
from schemas.errors import Fatal

TO_DO = {"caption": 4, "teach": 20, "replay": 20}
SPENT = Spent(sent=12, answered=9, failed={"HTTP 429": 2, "timeout": 1}, prompt_tokens=900, completion_tokens=100)


LOADS = {
    "caption": Load(up=1, slots=1, busy_s=12, slot_s=100),
    "teach": Load(up=2, pending=1, busy=4, slots=4, busy_s=388, slot_s=400, waiting=3, oldest_s=40),
    "replay": Load(pending=2, takes="0.5 CPU, 1 GPU (H100)", waiting=1, oldest_s=25),
}


def snapshot(taught: int, **spent: Spent) -> Snapshot:
    workers = {"caption": Progress(2), "teach": Progress(taught, [CallCounts(reused=3)]), "replay": Progress(0)}
    done, rows = {"caption": 1, "teach": 0, "replay": 0}, {"caption": Counter(ok=2)}
    return Snapshot(2, done, workers, rows, deaths=1, nodes_lost=2, spent=spent, loads=LOADS)


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


def test_the_stage_whose_workers_were_busiest_is_named_the_bottleneck() -> None:
    assert bottleneck(Tallier(TO_DO, []).of(snapshot(5))) == "teach was the bottleneck: busy 97 %; caption 12 %"


def test_no_bottleneck_is_named_where_nothing_worked() -> None:
    idle = replace(snapshot(0), loads={stage: Load() for stage in LOADS})
    assert bottleneck(Tallier(TO_DO, []).of(idle)) == ""


def test_shards_that_wait_for_workers_without_room_are_told_with_what_each_takes() -> None:
    said = summary(Tallier(TO_DO, []).of(snapshot(5)))
    assert "replay waits for room: each of its 2 workers takes 0.5 CPU, 1 GPU (H100)" in said
    assert "teach waits" not in said


def test_workers_that_died_are_told_apart_from_nodes_that_did() -> None:
    assert "1 workers lost; 2 nodes lost" in summary(Tallier(TO_DO, []).of(snapshot(5)))


def test_the_live_figure_is_of_the_last_minute() -> None:
    tallier = Tallier(TO_DO, [])
    tallier.of(snapshot(5))
    teach = replace(LOADS["teach"], busy_s=390, slot_s=410)
    pool = tallier.of(replace(snapshot(6), loads={**LOADS, "teach": teach})).pools["teach"]
    assert pool.busy_lately == pytest.approx(0.2) and pool.busy_share == pytest.approx(390 / 410)


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
    assert lines[0]["pools"]["teach"]["load"]["waiting"] == 3 and lines[0]["pools"]["teach"]["busy_share"] == 0.97
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


def test_a_long_log_on_an_object_store_goes_on_in_further_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "_EVERY_S_REMOTE", 0.0)
    storage, put = Storage("memory://progress/long"), list[int]()
    write = storage.write
    monkeypatch.setattr(storage, "write", lambda name, data: (put.append(len(data)), write(name, data)))
    log, tallier = RunLog(storage), Tallier(TO_DO, [])
    for taught in range(300):
        log.note(tallier.of(snapshot(taught % 3)))
        if log._writing:
            log._writing.result()
    log.end(None)
    names = storage.names("logs", ".jsonl")
    assert len(names) > 2 and names[-1].endswith(f"-{len(names):04d}.jsonl")
    lines = [json.loads(line) for name in names for line in storage.read(f"logs/{name}").splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * 300 + ["end"]
    assert max(put) <= run_log._FILE_BYTES


def test_a_store_that_answers_late_or_never_neither_holds_up_nor_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_log, "_EVERY_S_REMOTE", 0.0)
    storage, away = Storage("memory://progress/away"), Event()

    def write(name: str, data: bytes) -> None:
        away.wait(10)
        raise Fatal(f"cannot write {name}: no answer")

    monkeypatch.setattr(storage, "write", write)
    log, tally = RunLog(storage), Tallier(TO_DO, []).of(snapshot(1))
    began = time.monotonic()
    for _ in range(100):
        log.note(tally)
    assert time.monotonic() - began < 1.0
    away.set()
    log.end(None)
    said = capsys.readouterr().err
    assert said.count("the run goes on without its log: cannot write logs/progress-") == 1 and said.count("\n") == 1


def test_a_full_disk_does_not_end_the_run_by_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").write_text("no folder")
    log = RunLog(Storage(str(tmp_path)))
    log.note(Tallier(TO_DO, []).of(snapshot(1)))
    log.end(None)
    assert capsys.readouterr().err.count("goes on without its log") == 1
