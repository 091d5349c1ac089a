"""`--set`: typed as the job file is, and refused in one line where a run cannot change."""

from pathlib import Path
from typing import Any

import pytest

from jobs.changes import changed_config, parsed, recorded
from jobs.runs import Begun
from schemas.config import Endpoint, Local, Price, RunConfig
from schemas.errors import UserError


def run() -> Begun:
    config = {
        "protocol": "longvideo_r1",
        "source": {"path": "q.jsonl", "videos": "v"},
        "teacher": {"model": "m", "base_url": "http://127.0.0.1:1/v1", "price": {"input": 1.0, "output": 2.0}},
        "captioner": {"model": "c", "base_url": "http://127.0.0.1:1/v1"},
    }
    return Begun("/run", RunConfig.model_validate(config), Path("/"))


def changed(*texts: str) -> RunConfig:
    return changed_config(run(), parsed(texts))


def test_values_are_typed_as_in_a_job_file() -> None:
    config = changed("teacher.temperature=0.7", "rollout.hints=off", "rollout.max_turns=4", "view.zoom_frames=8")
    assert isinstance(config.teacher, Endpoint) and config.teacher.temperature == 0.7
    assert (config.rollout.hints, config.rollout.max_turns, config.view.zoom_frames) == ("off", 4, 8)
    assert config.source == run().written.source


def test_a_whole_role_may_be_replaced() -> None:
    assert isinstance(changed("teacher={path: /models/x, temperature: 1}").teacher, Local)
    student = changed("student={model: s, base_url: 'http://127.0.0.1:1/v1'}", "rollout.reflect=2").student
    assert isinstance(student, Endpoint) and student.model == "s"


def test_another_model_is_not_taken_to_cost_what_the_first_one_does() -> None:
    unknown = changed("teacher.model=n").teacher
    assert isinstance(unknown, Endpoint) and unknown.price is None
    known = changed("teacher.model=n", "teacher.price={input: 3, output: 4}").teacher
    assert isinstance(known, Endpoint) and known.price == Price(input=3, output=4)


def test_workers_and_budget_hold_for_the_command_alone() -> None:
    changes = parsed(["workers.teach=4", "budget.dollars=5", "teacher.model=n"])
    assert changed_config(run(), changes).workers.teach.actors == 4
    assert recorded(changes) == {"teacher.model": "n", "teacher.price": None}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("teacher.model", "write it as"),
        ("teacher..model=x", "write it as"),
        ("techer.model=x", "techer is no section"),
        ("teacher.modl=x", "teacher.modl is not a known setting"),
        ("teacher.model.x=1", "teacher.model.x is not a known setting"),
        ("teacher.temperature=hot", "teacher.temperature: "),
        ("teacher={", "while parsing"),
        ("protocol=love_r1", "cannot change within a run"),
        ("source.path=other", "cannot change within a run"),
        ("captioner.model=d", "cannot change within a run"),
        ("attempts=3", "--attempts"),
        ("view.overview_frames=8", "captions and overviews are taken over"),
    ],
)
def test_what_cannot_be_set_is_refused_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refused:
        changed(text)
    assert "\n" not in str(refused.value)


PASTED = "sk-pasted-4f1d0c2b"


@pytest.mark.parametrize(
    "text",
    [
        f"teacher.api_key_env={PASTED}",
        f"teacher={{model: m, base_url: 'http://127.0.0.1:1/v1', api_key_env: {PASTED}}}",
        f"teacher.api_key_env={{{PASTED}",
        f"teacher.api_key_env={PASTED.upper().replace('-', '_')}",
        f"student={{model: m, base_url: 'http://127.0.0.1:1/v1', api_key_env: {PASTED.upper().replace('-', '_')}}}",
    ],
)
def test_a_key_in_the_place_of_its_variables_name_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UserError, match="api_key_env: ") as refused:
        changed(text)
    assert "4f1d0c2b" not in str(refused.value).lower() and "\n" not in str(refused.value)


def test_a_variable_that_is_set_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "x")
    teacher = changed("teacher.api_key_env=OTHER_KEY").teacher
    assert isinstance(teacher, Endpoint) and teacher.api_key_env == "OTHER_KEY"


def test_the_paths_of_a_run_begin_where_its_job_file_lies(tmp_path: Path) -> None:
    from jobs.runs import begun, folder_of, settings_of
    from pipeline.store import RunStore

    written: Any = run().written
    (tmp_path / "old" / "v").mkdir(parents=True)
    url = str(tmp_path / "old" / "runs" / "one")
    RunStore(url).open_for(written, settings_of(written), folder_of(tmp_path / "old" / "job.yaml", url))
    (tmp_path / "old").rename(tmp_path / "new")
    moved = begun(str(tmp_path / "new" / "runs" / "one"))
    assert moved.folder == tmp_path / "new"
    (tmp_path / "new" / "v").rmdir()
    with pytest.raises(UserError, match=r"finds no videos .* run `zoomtrail generate"):
        begun(str(tmp_path / "new" / "runs" / "one"))
