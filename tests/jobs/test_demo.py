"""`zoomtrail demo`: the whole pipeline in one command, and its mistakes in one line."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from jobs.demo import demo, job_path, run_path
from jobs.demo_report import _print_next, report
from jobs.job_file import load_job
from jobs.presets import preset
from pipeline.shards.agreement import agreements
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.config import Demo
from schemas.errors import UserError
from tests.jobs.conftest import ROOT, Command
from tests.models.test_endpoint_scorer import reply, server
from tests.shards.runs import whole_run

PROTOCOLS = ("videozoomer", "longvideo_r1")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, zoomtrail: Command) -> Path:
    """A demo of one film that ran to its end; what it said lies beside it."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    result = zoomtrail("demo", "--out", out, "--films", 1, "--seed", 11)
    assert result.returncode == 0, result.stderr
    (out / "said.txt").write_text(result.stdout)
    return out


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_attempt_is_kept_or_has_a_reason(out: Path, name: str) -> None:
    rows = Rows(RunStore(str(run_path(out, name))))
    statuses = {row["trajectory_id"]: row for row in rows.query("SELECT * FROM rows")}
    assert len(statuses) == 8
    failed = [row for row in statuses.values() if row["status"] == "failed"]
    assert [row["caption_error_kind"] for row in failed] == ["video_truncated"]
    assert "caption/video_truncated" in (out / "said.txt").read_text()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_trainers_can_load_both_cuts(out: Path, name: str) -> None:
    import datasets

    for kind in ("sft", "rl"):
        files = sorted(map(str, (run_path(out, name) / "cuts" / kind).glob("*.parquet")))
        rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(out / "cache"))
        assert len(rows) >= 1, kind


@pytest.mark.parametrize("name", PROTOCOLS)
def test_questions_that_need_no_zoom_are_rejected(out: Path, name: str) -> None:
    rows = Rows(RunStore(str(run_path(out, name))))
    found = rows.query("SELECT question_id, p_gold_overview FROM rows WHERE p_gold_overview IS NOT NULL")
    by_kind = {row["question_id"].split("-")[2]: row["p_gold_overview"] for row in found}
    assert by_kind["overview"] >= 0.7 > by_kind["sign"]


def test_the_same_command_again_has_nothing_to_do(out: Path, zoomtrail: Command) -> None:
    again = zoomtrail("demo", "--out", out, "--films", 1, "--seed", 11)
    assert again.returncode == 0, again.stderr
    assert "Nothing to do: all 16 attempts" in again.stdout


def test_the_jobs_are_ordinary_ones(out: Path, zoomtrail: Command) -> None:
    for name in PROTOCOLS:
        config = load_job(job_path(out, name))
        assert config.protocol == name
        assert isinstance(config.teacher, Demo)
    result = zoomtrail("generate", job_path(out, "videozoomer"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("nothing to do")


def test_another_demo_does_not_mix_with_what_is_there(out: Path, zoomtrail: Command) -> None:
    for other in (("--films", 1, "--seed", 12), ("--films", 1, "--seed", 11, "--attempts", 2)):
        result = zoomtrail("demo", "--out", out, *other)
        assert result.returncode == 2
        assert "choose another --out" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--protocol", "none"), "--protocol: 'none'; known protocols: videozoomer"),
        (("--seed", "1000000"), "--seed 1000000: films from seed 1000000 on are what the model was trained with"),
        (("--out", "FILE/demo"), "cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    tmp_path: Path, zoomtrail: Command, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "FILE").write_text("")
    arguments = [str(tmp_path / option) if "FILE" in option else option for option in options]
    result = zoomtrail("demo", *([] if "--out" in options else ["--out", tmp_path / "out"]), *arguments)
    assert result.returncode == 2
    assert said in result.stderr and result.stderr.count("\n") == 1


def test_the_report_tells_levels_reasons_a_kept_trajectory_and_where_its_rows_are(tmp_path: Path) -> None:
    run = tmp_path / "run"
    whole_run(str(run))
    said = io.StringIO()
    report(Console(file=said, width=200), {"videozoomer": tmp_path / "job.yaml"}, {"videozoomer": run})
    lines = [line.rstrip() for line in said.getvalue().splitlines()]
    numbers = {line[:28].strip(): line[28:].strip() for line in lines if line[28:].strip().lstrip("-").isdigit()}
    assert (numbers["planned"], numbers["captioned"], numbers["answered"], numbers["kept"]) == ("12", "6", "3", "1")
    assert (numbers["caption/video_truncated"], numbers["wrong answer"]) == ("-2", "-1")
    assert any(line.startswith("source/bad_row: row 9: no video") for line in lines)
    assert any("3 frames" in line for line in lines)
    assert any(line.split() == ["1", "SFT", "with", "videozoomer", str(run / "cuts/sft/*.parquet")] for line in lines)
    assert "\x1b" not in said.getvalue()


def test_what_to_try_next_is_the_tour_of_the_readme() -> None:
    said = io.StringIO()
    _print_next(Console(file=said, width=400), Path("demo/videozoomer.yaml"), Path("demo/runs/videozoomer"))
    commands = [line.split("  #")[0].strip() for line in said.getvalue().splitlines()]
    tour = (ROOT / "README.md").read_text().split("## A tour")[1].split("```")[1].strip().splitlines()
    assert len(tour) == 7 and [command for command in commands if command in tour] == tour


def test_an_installation_without_the_model_says_so_before_it_renders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.models.build.DEMO_FOLDER", tmp_path / "none")
    with pytest.raises(UserError, match="this installation holds no demo model"):
        demo(tmp_path / "demo", PROTOCOLS, films=1, attempts=1, seed=7)
    assert not (tmp_path / "demo" / "videos").exists()


def test_another_verifier_judges_the_same_trajectories(out: Path, zoomtrail: Command) -> None:
    run = run_path(out, "videozoomer")
    again = zoomtrail("verify", run, "--model", "demo", "--name", "second")
    assert again.returncode == 0, again.stderr
    (found,) = agreements(RunStore(str(run)), preset("default"))
    assert 0 < found.attempts == found.agree <= 7 and found.mean_difference == pytest.approx(0, abs=1e-6)
    assert "nothing to do" in zoomtrail("verify", run, "--model", "demo", "--name", "second").stdout
    wrong = zoomtrail("verify", run, "--model", "no/such/model")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1


def test_a_server_judges_the_same_trajectories_with_the_settings_given(out: Path, zoomtrail: Command) -> None:
    run = run_path(out, "videozoomer")
    listed = {"A": -0.2, "B": -2.0, "C": -3.0, "D": -4.0, "yes": -0.5, "no": -1.0}
    with server(lambda body, n: reply("A", listed)) as (url, seen):
        asked = ("verify", run, "--model", "m", "--base-url", url, "--name", "served")
        done = zoomtrail(*asked, "--set", "verifier.permutations=2", "--set", "verifier.identity=awq")
        assert done.returncode == 0, done.stderr
    found = Rows(RunStore(str(run), "served")).query("SELECT verifier, p_gold_evidence AS p FROM rows WHERE verified")
    measured = [row for row in found if row["p"] is not None]
    assert measured and {row["verifier"] for row in measured} == {"m@logprobs"}
    assert all(0 < row["p"] < 0.7 for row in measured)  # in the second order another choice is called A
    assert {body["model"] for body in seen} == {"m"}
    wrong = zoomtrail(*asked, "--set", "teacher.model=x")
    assert wrong.returncode == 2 and "only settings of the verifier" in wrong.stderr
