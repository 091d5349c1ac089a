"""Whole runs over Ray against a scripted server, made once per session."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.jobfiles import write_job
from tests.scripted_server import ScriptedServer

ROOT = Path(__file__).parents[2]

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def zoomtrail() -> Command:
    """Runs the command in a process of its own."""

    def run(*arguments: object, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=env)

    return run


@dataclass(frozen=True)
class FinishedRun:
    """A run that ended well: its job, its directory, its server."""

    protocol: str
    job: Path
    out: Path
    server: ScriptedServer
    said: str


def _finished(folder: Path, protocol: str, zoomtrail: Command) -> Iterator[FinishedRun]:
    write_job(folder, "http://127.0.0.1/v1", protocol, broken=True)
    with ScriptedServer(folder / "calls.jsonl", folder / "questions.jsonl", errors=0.1) as server:
        job = write_job(folder, server.base_url, protocol, broken=True)
        questions = folder / "questions.jsonl"
        questions.write_text(questions.read_text() + '\n{"qid": "bad", "video": "clip0.mp4", "question": "No answer?"}')
        result = zoomtrail("generate", job, "--out", folder / "run")
        assert result.returncode == 0, result.stderr
        yield FinishedRun(protocol, job, folder / "run", server, result.stdout + result.stderr)


@pytest.fixture(scope="session")
def videozoomer_run(tmp_path_factory: pytest.TempPathFactory, zoomtrail: Command) -> Iterator[FinishedRun]:
    yield from _finished(tmp_path_factory.mktemp("vz"), "videozoomer", zoomtrail)


@pytest.fixture(scope="session")
def longvideo_r1_run(tmp_path_factory: pytest.TempPathFactory, zoomtrail: Command) -> Iterator[FinishedRun]:
    yield from _finished(tmp_path_factory.mktemp("lv"), "longvideo_r1", zoomtrail)


@pytest.fixture(params=["videozoomer_run", "longvideo_r1_run"])
def finished(request: pytest.FixtureRequest) -> FinishedRun:
    """Each of the two runs."""
    run = request.getfixturevalue(request.param)
    assert isinstance(run, FinishedRun)
    return run
