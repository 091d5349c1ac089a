"""The paper calculation of a large run: its figures are those of the pilot, and what nobody measured says so."""

import json
from pathlib import Path

import pytest

from pipeline.store import RunStore
from schemas.config import STAGES
from tests.benchmarks import ten_million
from tests.jobs.conftest import FinishedRun

N = 1000
STORE = {"put": 2.5, "get": 2.25, "head": 0.5, "list": 0.125}


def reckoned(run: Path, file: Path, *settings: str) -> dict[str, dict[str, float | str]]:
    """The rows of the table for a thousand attempts, by what they are about."""
    given = [word for setting in settings for word in ("--set", setting)]
    assert ten_million.main([str(run), "--attempts", str(N), "--json", str(file), *given]) == 0
    return {need["what"]: need for need in json.loads(file.read_text())["needs"]}


def test_what_nobody_measured_is_shown_so_after_the_rest(
    longvideo_r1_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = reckoned(longvideo_r1_run.out, tmp_path / "figures.json")
    unknown = {"the captioner's GPUs", "cores for our own code"} | {f"the store's {kind.upper()}" for kind in STORE}
    assert {what for what, need in found.items() if need["days"] != need["days"]} == unknown
    days = [float(need["days"]) for need in found.values()][: -len(unknown)]
    assert days == sorted(days, reverse=True) and days[-1] > 0
    shown = [line for line in capsys.readouterr().out.splitlines() if "not measured" in line]
    assert all(any(what in line for line in shown) for what in unknown)


def test_figures_that_are_given_are_multiplied_by_the_attempts(longvideo_r1_run: FinishedRun, tmp_path: Path) -> None:
    settings = [f"store_{kind}s_per_attempt={each}" for kind, each in STORE.items()]
    settings += ["captioner_gpu_seconds_per_call=7.2", "cpu_ms_per_attempt=36", "store_reads_per_second=10"]
    found = reckoned(longvideo_r1_run.out, tmp_path / "figures.json", *settings)
    assert {kind: found[f"the store's {kind.upper()}"]["need"] for kind in STORE} == {
        kind: N * each for kind, each in STORE.items()
    }
    assert found["the store's GET"]["days"] == pytest.approx(N * 2.25 / 10 / 86_400)
    captions = float(found["the captioner's requests"]["need"])
    assert found["the captioner's GPUs"]["need"] == pytest.approx(captions * 7.2 / 3600) and captions > 0
    assert found["cores for our own code"]["need"] == pytest.approx(N * 36 / 3.6e6)


def test_what_an_attempt_takes_is_the_runs_own(longvideo_r1_run: FinishedRun) -> None:
    out = longvideo_r1_run.out
    one = ten_million.measure(RunStore(str(out)))
    files = {
        folder: sum(file.stat().st_size for file in (out / folder).rglob("*") if file.is_file()) for folder in one.bytes
    }
    assert {"plan", "ledger", "logs", "calls", "trajectories"} <= files.keys()
    assert {folder: each * one.attempts for folder, each in one.bytes.items()} == pytest.approx(files)
    assert one.attempts * sum(one.calls.values()) == len(list(out.glob("calls/*/*.json")))
    assert one.seconds.keys() == set(STAGES) and all(seconds > 0 for seconds in one.seconds.values())
