"""A command that cannot drive a run writes nothing to it; one that only reckons needs no right to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from jobs.generate import generate, plan_run
from jobs.regenerate import Wanted, regenerate
from jobs.verify import Another, verify
from pipeline.driver_lock import driving
from schemas.errors import UserError


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def a_question(number: int) -> str:
    row = {"qid": f"q{number}", "video": "a.mp4", "question": f"What {number}?", "choices": ["x", "y"], "answer": "A"}
    return json.dumps(row) + "\n"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Of a run that is planned, and whose source has gained a question since."""
    (tmp_path / "questions.jsonl").write_text(a_question(0))
    document = {"source": {"path": "questions.jsonl", "videos": "."}, "attempts": 1}
    document |= {"teacher": {"model": "m", "base_url": "http://127.0.0.1:9/v1"}}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    plan_run(path, str(tmp_path / "run"))
    (tmp_path / "questions.jsonl").write_text(a_question(0) + a_question(1))
    path.write_text(yaml.safe_dump({**document, "attempts": 2}))
    return path


def test_a_second_generate_neither_plans_nor_rewrites_the_config(job: Path) -> None:
    run = job.with_name("run")
    with driving(str(run)):
        before = files(run)
        with pytest.raises(UserError, match="is being worked on"):
            generate(job, str(run), None, False, "local")
        assert files(run) == before
    assert set(files(run)) == {"run.yaml", "plan/part-00000.parquet"}


@pytest.mark.parametrize(
    "command",
    [
        lambda run: verify(run, Another("demo"), "local"),
        lambda run: regenerate(run, Wanted("NOT answer_correct"), False, "local"),
    ],
    ids=["verify", "regenerate"],
)
def test_neither_does_a_second_command_of_another_kind(job: Path, command: Callable[[str], None]) -> None:
    run = job.with_name("run")
    with driving(str(run)):
        before = files(run)
        with pytest.raises(UserError, match="is being worked on"):
            command(str(run))
        assert files(run) == before


def test_a_dry_run_takes_no_lock_and_writes_nothing(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = job.with_name("run")
    with driving(str(run)):
        before = files(run)
        generate(job, str(run), None, True, "local")
        assert files(run) == before
    assert "4 attempts" in capsys.readouterr().out
