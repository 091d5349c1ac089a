"""The figures of a run as Prometheus sees them: scraped from a local Ray, they are those of the run's end."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobfiles import write_job
from tests.scripted_server import ScriptedServer


@pytest.fixture
def ended_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, object]]]:
    """The address of the metrics of a Ray that still runs, and the last line of the log of the run that ended on it."""
    import ray

    from jobs.generate import carry_out, plan_run, ray_session
    from pipeline.driver_lock import driving

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with ScriptedServer(tmp_path / "calls.jsonl", errors=0.2) as server:
        job = write_job(tmp_path, server.base_url, "videozoomer", teacher={"price": {"input": 10, "output": 40}})
        run = plan_run(job, str(tmp_path / "run"))
        with driving(run.url) as driver, ray_session(run.config.workers, "local") as crew:
            carry_out(run, crew, driver)
            (node,) = ray.nodes()
            (log,) = (tmp_path / "run" / "logs").iterdir()
            address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            yield address, json.loads(log.read_text().splitlines()[-1])


_LINE = re.compile(r"^ray_(zoomtrail_\w+?)(?:_total)?\{(.*)\} (\S+)$", re.MULTILINE)


def scraped(address: str) -> dict[tuple[str, ...], float]:
    """By name and the values of our own tags, sorted by their names."""
    text = urllib.request.urlopen(address, timeout=10).read().decode()
    figures = {}
    for name, tags, value in _LINE.findall(text):
        ours = dict(re.findall(r'(role|stage|outcome|cause|kind|state|what)="([^"]*)"', tags))
        figures[(name, *(ours[tag] for tag in sorted(ours)))] = float(value)
    return figures


def expected(end: dict[str, object]) -> dict[tuple[str, ...], float]:
    """What the last line of the log says, under the same names."""
    rows, roles, pools = end["rows"], end["roles"], end["pools"]
    assert isinstance(rows, dict) and isinstance(roles, dict) and isinstance(pools, dict)
    teacher = roles["teacher"]
    figures: dict[tuple[str, ...], float] = {
        ("zoomtrail_rows", outcome, stage): count for stage in rows for outcome, count in rows[stage].items()
    }
    figures |= {("zoomtrail_failed_tries", cause, "teacher"): n for cause, n in teacher["failed"].items()}
    figures |= {("zoomtrail_tokens", kind, "teacher"): teacher[f"{kind}_tokens"] for kind in ("prompt", "completion")}
    figures["zoomtrail_calls", "teacher"] = teacher["answered"]
    figures["zoomtrail_dollars", "teacher"] = teacher["dollars"]
    figures |= {("zoomtrail_queue_age_seconds", stage): 0.0 for stage in pools}
    figures |= {("zoomtrail_shards", stage, "done"): 2 for stage in pools}
    figures |= {("zoomtrail_busy_share", stage): pools[stage]["busy_lately"] for stage in pools}
    return figures


def test_prometheus_sees_the_figures_of_the_runs_end(ended_run: tuple[str, dict[str, object]]) -> None:
    address, end = ended_run
    wanted = {key: pytest.approx(value, abs=1e-5) for key, value in expected(end).items()}
    deadline, found = time.monotonic() + 60, dict[tuple[str, ...], float]()
    while time.monotonic() < deadline and {key: found.get(key) for key in wanted} != wanted:
        time.sleep(1)
        found = scraped(address)
    assert {key: found.get(key) for key in wanted} == wanted
    assert found["zoomtrail_dollars", "teacher"] > 0 and found["zoomtrail_rows", "answered", "teach"] > 0
    assert any(name == "zoomtrail_failed_tries" for name, *_ in found)
