"""A run on several nodes: it goes on when nodes leave and join, and when not all its workers find room."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.store import RunStore
from schemas.verdict import Verdict
from tests.benchmarks import nodes
from tests.benchmarks.kills import finish, log_of
from tests.jobfiles import write_job
from tests.jobs.conftest import Command
from tests.ray_nodes import RayNodes
from tests.scripted_server import ScriptedServer

WAITING_ACTORS = """
import sys
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray._raylet import GcsClient
state = get_cluster_resource_state(GcsClient(address=sys.argv[1]))
print(sum(request.count for request in state.pending_resource_requests))
"""

LAST_FIRST = """
import sys
from pipeline.actors import Crew
take = Crew.take
Crew.take = lambda self, posts: take(self, posts[::-1])[::-1]
sys.argv[0] = "zoomtrail"
from jobs.cli import main
main()
"""
"""The command, where the actors that are asked for last are the first that get room: a cluster promises no order."""


def verdicts(out: Path) -> Counter[str]:
    store = RunStore(str(out))
    return Counter(
        row.trajectory_id for shard in store.finished("replay") for row in store.rows(Verdict, "replay", shard)
    )


@pytest.mark.slow
def test_nodes_that_die_and_join_change_no_row_and_repeat_no_answered_call(tmp_path: Path) -> None:
    setup = replace(nodes.QUICK, minutes=0, n_videos=1, pause_s=5)
    outcome = nodes.trial(tmp_path, setup, seed=1)
    assert outcome.nodes_killed > 0 and outcome.passed(setup), outcome


@pytest.mark.slow
def test_workers_without_room_hold_up_no_others_and_an_autoscaler_sees_them(tmp_path: Path) -> None:
    workers = {"caption": 2, "teach": 2, "replay": 2, "cpus": 0.5}
    with RayNodes() as cluster, ScriptedServer(tmp_path / "calls.jsonl", latency_s=0.5) as server:
        cluster.add(cpus=1)  # room for one that captions and one that teaches; replay comes when those are done
        job = write_job(tmp_path, server.base_url, "videozoomer", n_videos=2, workers=workers)
        process = nodes.start(job, tmp_path / "run", cluster.address)
        waiting = 0
        while process.poll() is None and not waiting:
            asked = [sys.executable, "-c", WAITING_ACTORS, cluster.address]
            waiting = int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[-1])
        finish(process, tmp_path / "run")
    assert 0 < waiting <= 4
    assert verdicts(tmp_path / "run").total() == 8 and set(verdicts(tmp_path / "run").values()) == {1}
    assert "was the bottleneck" in log_of(tmp_path / "run").read_text()


@pytest.mark.slow
def test_workers_that_wait_for_work_leave_their_room_to_those_that_have_some(tmp_path: Path) -> None:
    workers = {"caption": 1, "teach": 1, "replay": 1, "cpus": 1}
    with RayNodes() as cluster, ScriptedServer(tmp_path / "calls.jsonl") as server:
        cluster.add(cpus=1)
        job = write_job(tmp_path, server.base_url, "videozoomer", n_videos=2, workers=workers)
        command = [sys.executable, "-c", LAST_FIRST, "generate", job, "--out", tmp_path / "run"]
        command += ["--address", cluster.address]
        subprocess.run(command, check=True, timeout=280)
    assert verdicts(tmp_path / "run").total() == 8 and set(verdicts(tmp_path / "run").values()) == {1}


def test_a_worker_that_no_node_has_room_for_is_told_at_once_on_one_machine(tmp_path: Path, zoomtrail: Command) -> None:
    workers: dict[str, Any] = {"replay": {"gpus": 1, "accelerator": "H100"}}
    job = write_job(tmp_path, "http://127.0.0.1:9/v1", "videozoomer", n_videos=1, workers=workers)
    result = zoomtrail("generate", job, "--out", tmp_path / "run")
    assert result.returncode == 2
    assert "one that takes 0.5 CPU, 1 GPU (H100) has no room on this machine" in result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_run_that_a_node_does_not_see_stops_with_one_line(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    with RayNodes() as cluster, ScriptedServer(tmp_path / "calls.jsonl") as server:
        job = write_job(tmp_path, server.base_url, "videozoomer", n_videos=1)
        process = nodes.start(job, hidden, cluster.address)
        while process.poll() is None and not (hidden / "run.yaml").exists():
            pass
        (hidden / "run.yaml").rename(tmp_path / "elsewhere.yaml")  # as on a node with a disk of its own
        cluster.add(cpus=2)
        assert process.wait(timeout=240) == 1
    assert "does not see" in log_of(hidden).read_text().splitlines()[-1]
