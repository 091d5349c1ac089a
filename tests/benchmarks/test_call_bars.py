"""A system that was asked for and gives no figures misses a bar: nothing passes for want of a neighbour."""

import sys
from pathlib import Path

import pytest

from tests.benchmarks import calls
from tests.benchmarks.calls import BARE, OURS, Bench, Case, bars, install, medians, rounds

PEER = "with_distilabel"


def test_a_system_that_fails_or_is_not_there_misses_a_bar_and_the_others_are_measured(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {OURS: Path(sys.executable), BARE: Path("/bin/false")})
    case = Case("few", (OURS, BARE, PEER), 0.01, 8, 4, rounds=2)
    figures = medians(list(rounds(bench, case)))
    assert [(one.system, one.lost) for one in figures] == [(OURS, 0)]
    found = {bar.text: bar.met for bar in bars(case, figures)}
    assert not found["few: bare gets through"] and not found["few: with_distilabel gets through"]
    assert found["few: calls lost"]


def test_an_environment_that_cannot_be_installed_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calls, "PEERS", {"broken": (f"nothing @ file://{tmp_path}/nothing",), "there": ()})
    bench = Bench(tmp_path, {})
    install(bench, tmp_path / "envs")
    assert bench.pythons == {"there": Path(sys.executable)}
    assert "broken cannot be installed" in capsys.readouterr().err
