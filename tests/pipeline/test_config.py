"""The job file: what is wrong is said in one line."""

from pathlib import Path

import pytest

from jobs.job_file import load_job
from schemas.config import Endpoint, Price
from schemas.errors import UserError

JOB = """
source: {path: q.jsonl, videos: v}
teacher: {model: m, base_url: "http://127.0.0.1:1/v1"}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    return path


def test_a_short_job_gets_defaults_and_absolute_paths(tmp_path: Path) -> None:
    config = load_job(written(tmp_path, JOB)).relative_to(tmp_path)
    assert isinstance(config.teacher, Endpoint)
    assert config.source.path == str(tmp_path / "q.jsonl")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (JOB + "atempts: 3\n", "atempts is not a known setting"),
        (JOB.replace("model: m,", ""), "teacher.model: Field required"),
        (JOB.replace("http://127", "http://me:secret@127"), "must not carry a user, password"),
        (JOB + "attempts: 0\n", "attempts: Input should be greater than 0"),
        ("[1]", "holds no settings"),
        ("a: [", "not readable YAML"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        load_job(written(tmp_path, text))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_job_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="zoomtrail init"):
        load_job(tmp_path / "none.yaml")


def test_cached_tokens_cost_their_own_price() -> None:
    assert Price(input=2, output=10, cached_input=1).dollars(1_000_000, 100_000, 400_000) == pytest.approx(2.6)
    assert Price(input=2, output=10).dollars(1_000_000, 0, 400_000) == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["videozoomer", "longvideo_r1"])
def test_each_example_of_init_is_a_valid_job(name: str) -> None:
    example = Path(__file__).parents[2] / "jobs" / "configs" / f"{name}.yaml"
    assert load_job(example).protocol == name
