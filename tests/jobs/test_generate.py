"""`zoomtrail generate` as a user runs it: every attempt a row, resumable, never mixed, never paid twice."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.plan import Plan
from pipeline.store import RunStore
from schemas.captions import CaptionTree
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict
from tests.benchmarks import chaos
from tests.benchmarks.kills import QUICK, start, trial
from tests.interrupts import interrupts
from tests.jobfiles import write_job
from tests.jobs.conftest import ROOT, Command, FinishedRun
from tests.scripted_server import ScriptedServer


def trajectories(out: Path) -> list[Trajectory]:
    store = RunStore(str(out))
    return [row for shard in sorted(store.finished("teach")) for row in store.rows(Trajectory, "teach", shard)]


def verdicts(out: Path) -> list[Verdict]:
    store = RunStore(str(out))
    return [row for shard in sorted(store.finished("replay")) for row in store.rows(Verdict, "replay", shard)]


def test_every_planned_attempt_is_one_trajectory_and_one_verdict(finished: FinishedRun) -> None:
    planned = Counter(row.trajectory_id for row in Plan(RunStore(str(finished.out))).rows())
    assert planned.total() == 14 == len(planned)
    assert Counter(t.trajectory_id for t in trajectories(finished.out)) == planned
    assert Counter(v.trajectory_id for v in verdicts(finished.out)) == planned


def test_a_broken_video_and_a_bad_row_fail_with_their_reason_and_harm_no_other(finished: FinishedRun) -> None:
    rows = trajectories(finished.out)
    broken = [t for t in rows if t.video_id == "broken.mp4"]
    bad = [t for t in rows if t.question.source == "bad"]
    others = [t for t in rows if t not in broken and t not in bad]
    assert len(broken) == 4 and all(t.status == "failed" and t.error and t.error.stage == "caption" for t in broken)
    assert all("broken.mp4" in t.error.message for t in broken if t.error)
    assert len(bad) == 2 and all(t.error and "'answer' is missing" in t.error.message for t in bad)
    assert len(others) == 8 and all(t.error is None for t in others)


def test_replay_finds_the_recorded_observations_again(finished: FinishedRun) -> None:
    judged = [v for v in verdicts(finished.out) if v.status != "failed"]
    assert judged and all(v.observations_match for v in judged), [v.mismatch for v in judged]
    assert any(v.n_zooms for v in judged)
    assert all(v.grounding_iou is not None for v in judged)


def test_errors_of_the_server_are_retried_and_no_call_is_answered_twice(finished: FinishedRun) -> None:
    calls = finished.server.calls()
    answered = Counter(call["key"] for call in calls if call["status"] == 200)
    assert any(call["status"] != 200 for call in calls)
    assert set(answered.values()) == {1}
    assert len(answered) == len(list((finished.out / "calls").rglob("*.json")))


def test_footers_tell_rows_statuses_and_tokens(finished: FinishedRun) -> None:
    store = RunStore(str(finished.out))
    footers = [store.footer("teach", shard) for shard in store.finished("teach")]
    rows = trajectories(finished.out)
    assert sum(f["rows"] for f in footers) == len(rows)
    assert sum((Counter(f["statuses"]) for f in footers), Counter()) == Counter(t.status for t in rows)
    assert sum(f["usage"]["prompt_tokens"] for f in footers) == sum(t.usage.prompt_tokens for t in rows) > 0
    assert {f["fingerprint"] for f in footers} == {
        yaml.safe_load((finished.out / "run.yaml").read_text())["fingerprints"]["teach"]
    }


def test_the_same_command_on_a_finished_run_does_nothing_and_says_so(finished: FinishedRun, zoomtrail: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*") if path.is_file()}
    calls = len(finished.server.calls())
    began = time.monotonic()
    result = zoomtrail("generate", finished.job, "--out", finished.out)
    assert time.monotonic() - began < 5
    assert result.returncode == 0 and "nothing to do: all 14 attempts" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in finished.out.rglob("*") if path.is_file()} == before
    assert len(finished.server.calls()) == calls


def test_a_changed_temperature_stops_with_the_difference(
    finished: FinishedRun, zoomtrail: Command, tmp_path: Path
) -> None:
    changed = yaml.safe_load(finished.job.read_text())
    changed["teacher"]["temperature"] = 0.7
    job = finished.job.with_name("changed.yaml")
    job.write_text(yaml.safe_dump(changed))
    result = zoomtrail("generate", job, "--out", finished.out)
    assert result.returncode == 2
    assert "teacher.temperature: None -> 0.7" in result.stderr and "reuse_from" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_captions_of_an_earlier_run_are_taken_over_without_a_call(
    longvideo_r1_run: FinishedRun, zoomtrail: Command
) -> None:
    changed = yaml.safe_load(longvideo_r1_run.job.read_text())
    changed["teacher"]["temperature"] = 0.5
    changed["captions"] = {"reuse_from": "run"}
    job = longvideo_r1_run.job.with_name("reuse.yaml")
    job.write_text(yaml.safe_dump(changed))
    before = len(longvideo_r1_run.server.calls())
    result = zoomtrail("generate", job, "--out", longvideo_r1_run.out.with_name("reused"), "--limit", 2)
    assert result.returncode == 0, result.stderr
    new = longvideo_r1_run.server.calls()[before:]
    assert {call["kind"] for call in new} <= {"teacher", "answerer"}
    old_tree, new_tree = (
        RunStore(str(out)).rows(CaptionTree, "caption", 0)[0]
        for out in (longvideo_r1_run.out, longvideo_r1_run.out.with_name("reused"))
    )
    assert new_tree == old_tree


def test_more_attempts_are_appended_and_the_old_rows_stay(videozoomer_run: FinishedRun, zoomtrail: Command) -> None:
    out = videozoomer_run.out.with_name("grown")
    job = write_job(videozoomer_run.job.parent / "small", videozoomer_run.server.base_url, "videozoomer", n_videos=1)
    assert zoomtrail("generate", job, "--out", out).returncode == 0
    shard = (out / "trajectories" / "shard-00000.parquet").read_bytes()
    more = {**yaml.safe_load(job.read_text()), "attempts": 3}
    job.write_text(yaml.safe_dump(more))
    result = zoomtrail("generate", job, "--out", out)
    assert result.returncode == 0, result.stderr
    assert (out / "trajectories" / "shard-00000.parquet").read_bytes() == shard
    assert sorted(t.attempt for t in trajectories(out)) == [0, 0, 1, 1, 2, 2]


def test_an_item_that_kills_its_worker_twice_is_recorded_as_poison(tmp_path: Path, zoomtrail: Command) -> None:
    with ScriptedServer(tmp_path / "calls.jsonl", careless=0.0) as server:
        job = write_job(tmp_path, server.base_url, "videozoomer", n_videos=1)
        assert zoomtrail("generate", job, "--out", tmp_path / "first").returncode == 0
        ids = sorted(t.trajectory_id for t in trajectories(tmp_path / "first"))
        path = f"{ROOT / 'tests' / 'faults'}{os.pathsep}{ROOT}"
        env = {**os.environ, "PYTHONPATH": path, "ZOOMTRAIL_TEST_DIES_ON": ids[1]}
        result = zoomtrail("generate", job, "--out", tmp_path / "run", env=env)
    assert result.returncode == 0, result.stderr
    rows = {t.trajectory_id: t for t in trajectories(tmp_path / "run")}
    assert sorted(rows) == ids
    error = rows[ids[1]].error
    assert error is not None and (error.kind, error.stage) == ("poison", "teach")
    assert all(row.error is None for id_, row in rows.items() if id_ != ids[1])


def test_a_run_directory_may_be_given_relative_to_where_the_command_runs(tmp_path: Path, zoomtrail: Command) -> None:
    with ScriptedServer(tmp_path / "calls.jsonl") as server:
        job = write_job(tmp_path, server.base_url, "videozoomer", n_videos=1)
        out = Path(os.path.relpath(tmp_path / "run", ROOT))
        assert zoomtrail("generate", job, "--out", out).returncode == 0
    assert len(trajectories(tmp_path / "run")) == 4


def test_an_outage_stops_the_run_and_the_same_command_goes_on(tmp_path: Path, zoomtrail: Command) -> None:
    with ScriptedServer(tmp_path / "calls.jsonl") as server:
        job = write_job(tmp_path, server.base_url, "videozoomer", n_videos=1, teacher={"retries": 1, "outage_s": 3})
        url = server.base_url
    result = zoomtrail("generate", job, "--out", tmp_path / "run")
    assert result.returncode == 1
    assert "does not answer" in result.stderr and "Run the same command again" in result.stderr
    assert not (tmp_path / "run" / "trajectories").exists()
    with ScriptedServer(tmp_path / "calls.jsonl") as server:
        job.write_text(job.read_text().replace(url, server.base_url))
        assert zoomtrail("generate", job, "--out", tmp_path / "run").returncode == 0
    assert len(trajectories(tmp_path / "run")) == 4


@pytest.mark.parametrize(
    ("number", "handler"),
    [(signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_IGN)],
    ids=["Ctrl-C", "kill of a job that a shell put into the background"],
)
def test_a_stopped_run_is_finished_by_the_same_command(
    tmp_path: Path, zoomtrail: Command, number: signal.Signals, handler: Any
) -> None:
    with ScriptedServer(tmp_path / "calls.jsonl", latency_s=1.0) as server:
        job = write_job(tmp_path, server.base_url, "videozoomer", n_videos=1)
        with interrupts(handler):
            process = start(job, tmp_path / "run")
        while not server.calls() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=60) == 1
        assert "the same command goes on from here" in (tmp_path / "run.log").read_text()
        assert zoomtrail("generate", job, "--out", tmp_path / "run").returncode == 0
    assert len(trajectories(tmp_path / "run")) == 4


@pytest.mark.slow
def test_a_killed_driver_and_a_killed_worker_change_no_row_and_repeat_no_answered_call(tmp_path: Path) -> None:
    outcome = trial(tmp_path, QUICK[0], seed=1)
    assert outcome.driver_kills == 1
    assert outcome.rows_equal and outcome.poisoned == 0
    assert outcome.calls_repeated_though_answered == 0


@pytest.mark.slow
def test_faults_of_every_kind_and_kills_change_no_row_and_repeat_no_answered_call(tmp_path: Path) -> None:
    outcome = trial(tmp_path, chaos.QUICK, seed=1)
    assert outcome.driver_kills == 1 and len(outcome.faults) >= 4
    assert outcome.rows_equal and outcome.poisoned == 0
    assert outcome.calls_repeated_though_answered == 0
    assert outcome.calls_repeated <= 2 * chaos.QUICK.concurrency


def test_a_dry_run_prices_the_run_and_writes_nothing(finished: FinishedRun, zoomtrail: Command) -> None:
    job = yaml.safe_load(finished.job.read_text())
    job["teacher"]["price"] = {"input": 1.0, "output": 4.0}
    path = finished.job.with_name("priced.yaml")
    path.write_text(yaml.safe_dump(job))
    out = finished.out.with_name("never")
    calls = len(finished.server.calls())
    result = zoomtrail("generate", path, "--out", out, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "7 questions (1 unusable) on 3 videos: 12 attempts" in result.stdout
    assert "$" in result.stdout and "broken.mp4" in result.stdout
    assert not out.exists() and len(finished.server.calls()) == calls


def test_doctor_names_each_fault_and_reaches_the_models(finished: FinishedRun, zoomtrail: Command) -> None:
    result = zoomtrail("doctor", finished.job)
    assert result.returncode == 2
    assert "scripted answers at http://127.0.0.1" in result.stdout
    assert "broken.mp4" in result.stdout and "'answer' is missing" in result.stdout
    assert result.stdout.count("decord agrees") == 2
    assert "2 of" in result.stderr


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"protocol": "zoomer"}, "known protocols: videozoomer, longvideo_r1"),
        ({"rollout": {"hints": "after_wrong_answer"}}, "videozoomer has no hints"),
        ({"source": {"path": "none.jsonl", "videos": "videos"}}, "cannot read"),
        ({"verifier": {"path": "./no-model"}}, "there is no model folder"),
    ],
)
def test_a_mistake_in_the_job_is_one_line_and_status_2(
    tmp_path: Path, zoomtrail: Command, change: dict[str, object], complaint: str
) -> None:
    (tmp_path / "q.jsonl").write_text("")
    base = {
        "source": {"path": "q.jsonl", "videos": "v"},
        "teacher": {"model": "m", "base_url": "http://127.0.0.1:9/v1"},
    }
    (tmp_path / "job.yaml").write_text(json.dumps({**base, **change}))
    result = zoomtrail("generate", tmp_path / "job.yaml", "--out", tmp_path / "run")
    assert result.returncode == 2
    assert complaint in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_a_budget_stops_a_run_before_it_is_exceeded_and_the_run_goes_on_when_it_is_raised(
    tmp_path: Path, zoomtrail: Command
) -> None:
    with ScriptedServer(tmp_path / "calls.jsonl", latency_s=0.05) as server:

        def run(tokens: int) -> "tuple[int, str, int]":
            budget = {"budget": {"tokens": tokens}, "teacher": {"max_tokens": 500, "concurrency": 4}}
            job = write_job(tmp_path, server.base_url, "videozoomer", n_videos=1, per_video=3, **budget)
            result = zoomtrail("generate", job, "--out", tmp_path / "run")
            replies = [json.loads(path.read_text()) for path in (tmp_path / "run" / "calls").rglob("*.json")]
            used = sum(reply["response"]["usage"]["total_tokens"] for reply in replies)
            return result.returncode, result.stderr, used

        status, said, used = run(10_000)
        assert status == 1 and "Raise budget.tokens and run the same command again" in said.splitlines()[-1]
        assert 3_000 < used <= 10_000, used
        status, said, used = run(10_000_000)
        assert status == 0, said
        answered = Counter(call["key"] for call in server.calls() if call["status"] == 200)
        assert used > 10_000 and set(answered.values()) == {1}
    assert len(trajectories(tmp_path / "run")) == 6
