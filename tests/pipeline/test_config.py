"""The job file: what is wrong is said in one line."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.generate import checked_protocol
from jobs.job_file import load_job
from pipeline.models.replies import by_batch, usage_of
from prompts.protocols import PROTOCOLS
from schemas.config import Demo, Endpoint, EndpointJudge, Local, Price, RunConfig, Verifier, fingerprint, stage_settings
from schemas.errors import UserError

JOB = """
source: {path: q.jsonl, videos: v}
teacher: {model: m, base_url: "http://127.0.0.1:1/v1"}
"""
NAMES = [known.name for known in PROTOCOLS]


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
        (JOB + "view: {zoom_frames: 0}\n", "view.zoom_frames: Input should be greater than 0"),
        (JOB + "budget: {euros: 3}\n", "budget.euros is not a known setting"),
        (JOB.replace("m,", "m, limits: {in_flight: 0},"), "teacher.limits.in_flight: Input should be greater than 0"),
        (JOB + "verifier: {path: v, answer_by: word}\n", "verifier.answer_by: Input should be 'letter' or 'text'"),
        (JOB + "verifier: {base_url: 'http://h/v1'}\n", "verifier.model: Field required"),
        (JOB + "verifier: {backend: demo, path: v}\n", "verifier.path is not a known setting"),
        ("[1]", "holds no settings"),
        ("a: [", "not readable YAML"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        load_job(written(tmp_path, text))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_embedded_model_may_play_every_role(tmp_path: Path) -> None:
    teacher = JOB.replace('{model: m, base_url: "http://127.0.0.1:1/v1"}', "{backend: demo}")
    config = load_job(written(tmp_path, teacher + "captioner: {backend: demo}\nverifier: {backend: demo}\n"))
    assert isinstance(config.teacher, Demo) and isinstance(config.captioner, Demo)
    assert isinstance(config.verifier, Demo) and config.verifier.answer_by == "text"
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_model_with_a_path_is_local_and_a_verifiers_path_is_relative_to_the_job(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    config = load_job(written(tmp_path, JOB + "captioner: {path: m}\nverifier: {path: m, answer_by: text}\n"))
    placed = config.relative_to(tmp_path)
    assert isinstance(placed.captioner, Local) and isinstance(placed.verifier, Verifier)
    assert placed.captioner.path == placed.verifier.path == str(tmp_path / "m")
    assert (placed.verifier.answer_by, placed.verifier.by_mean) == ("text", True)


@pytest.mark.parametrize(
    ("line", "stages"),
    [
        ("", []),
        ("view: {}", []),
        ("view: {overview_frames: 8}", ["caption", "teach", "replay"]),
        ("view: {caption_side: 80}", ["caption", "teach", "replay"]),
        ("view: {zoom_side: 384}", ["teach", "replay"]),
        ("budget: {dollars: 5, tokens: 1000}", []),
        ("embedder: {path: siglip}", ["teach", "replay"]),
        ("embedder: {path: siglip, device: cpu}", ["teach", "replay"]),
        ("verifier: {path: v, answer_by: text}", ["replay"]),
        ("verifier: {path: v, per_token: true}", ["replay"]),
        ("verifier: {path: v, rollouts: 4}", ["replay"]),
        ("verifier: {path: v, rollouts: 0}", []),
        ("judge: {path: j}", ["replay"]),
        ('judge: {model: j, base_url: "http://127.0.0.1:1/v1"}', ["replay"]),
    ],
)
def test_a_setting_belongs_to_the_stages_whose_rows_depend_on_it(tmp_path: Path, line: str, stages: list[str]) -> None:
    verifier = "verifier: {path: v}\n" if "verifier" in line else ""
    plain = stage_settings(load_job(written(tmp_path, JOB + verifier)), "1")
    set_so = stage_settings(load_job(written(tmp_path, JOB + line + "\n")), "1")
    assert [stage for stage in plain if fingerprint(plain[stage]) != fingerprint(set_so[stage])] == stages


def test_an_identity_makes_another_model_and_a_run_without_one_stays_as_it_was(tmp_path: Path) -> None:
    plain = stage_settings(load_job(written(tmp_path, JOB)), "1")
    named = stage_settings(load_job(written(tmp_path, JOB.replace("model: m,", "model: m, identity: awq,"))), "1")
    assert not any("identity" in name for name in plain["replay"])
    assert named["replay"] == {**plain["replay"], "teacher.identity": "awq"} and named["caption"] == plain["caption"]


def test_how_fast_and_how_patiently_a_model_is_called_changes_no_row(tmp_path: Path) -> None:
    limits = "m, limits: {requests_per_minute: 6, tokens_per_minute: 900, in_flight: 2}, outage_s: 9,"
    plain, limited = (load_job(written(tmp_path, text)) for text in (JOB, JOB.replace("m,", limits)))
    assert stage_settings(plain, "1") == stage_settings(limited, "1")


def test_a_budget_in_dollars_needs_the_price_of_every_model(tmp_path: Path) -> None:
    budget = JOB + "budget: {dollars: 5}\n"
    with pytest.raises(UserError, match=r"teacher.price.*budget.tokens"):
        checked_protocol(load_job(written(tmp_path, budget)))
    checked_protocol(load_job(written(tmp_path, budget.replace("m,", "m, price: {input: 1, output: 2},"))))
    checked_protocol(load_job(written(tmp_path, JOB + "budget: {tokens: 5}\n")))


def test_a_missing_job_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="zoomtrail init"):
        load_job(tmp_path / "none.yaml")


def test_cached_tokens_cost_their_own_price() -> None:
    assert Price(input=2, output=10, cached_input=1).dollars(1_000_000, 100_000, 400_000) == pytest.approx(2.6)
    assert Price(input=2, output=10).dollars(1_000_000, 0, 400_000) == pytest.approx(2.0)


def test_image_tokens_cost_their_own_price_and_no_token_is_charged_twice() -> None:
    price = Price(input=2, output=10, cached_input=1, image=4)
    assert price.dollars(1_000_000, 0, image_tokens=600_000) == pytest.approx(0.8 + 2.4)
    assert price.dollars(1_000_000, 0, cached_tokens=700_000, image_tokens=600_000) == pytest.approx(0.7 + 1.2)
    assert Price(input=2, output=10).dollars(1_000_000, 0, image_tokens=600_000) == pytest.approx(2.0)


@pytest.mark.parametrize("name", NAMES)
def test_each_example_of_init_is_a_valid_job(name: str) -> None:
    example = Path(__file__).parents[2] / "jobs" / "configs" / f"{name}.yaml"
    assert load_job(example).protocol == name


@pytest.mark.parametrize("name", NAMES)
def test_what_the_examples_leave_as_comments_can_be_set(tmp_path: Path, name: str) -> None:
    example = (Path(__file__).parents[2] / "jobs" / "configs" / f"{name}.yaml").read_text()
    optional = [
        line[2:]
        for line in example.splitlines()
        if re.match(r"# (verifier|judge|student|view|embedder):$|#   \w+: ", line)
    ]
    config = load_job(written(tmp_path, "\n".join([example, *optional])))
    assert config.verifier is not None and config.verifier.answer_by == "letter"
    assert isinstance(config.judge, EndpointJudge) and config.judge.structured
    assert config.view.zoom_side == (280 if name == "longvt" else 448)


def test_batches_are_the_captioners_own_and_change_no_fingerprint() -> None:
    server = {"model": "m", "base_url": "http://127.0.0.1:1/v1"}
    source = {"path": "q.jsonl", "videos": "v"}

    def job(captioner: dict[str, Any], **roles: dict[str, Any]) -> RunConfig:
        return RunConfig.model_validate({"source": source, "teacher": server, "captioner": server | captioner, **roles})

    live, batch = (stage_settings(job({"batch": value}), "1") for value in (False, True))
    assert live == batch
    with pytest.raises(ValidationError, match=r"price\.batch is missing"):
        job({"batch": True, "price": {"input": 1, "output": 2}})
    with pytest.raises(ValidationError, match="batch"):
        job({}, teacher={**server, "batch": True})


def test_a_judge_is_a_server_or_a_local_model_and_how_it_is_reached_changes_no_row(tmp_path: Path) -> None:
    server = 'judge: {{model: j, base_url: "http://127.0.0.1:1/v1"{}}}\n'
    plain, batch, leaks = (
        load_job(written(tmp_path, JOB + server.format(more)))
        for more in ("", ", batch: true, price: {input: 1, output: 2, batch: 0.5}, concurrency: 2", ", leaks: true")
    )
    assert (
        isinstance(plain.judge, EndpointJudge)
        and plain.judge.structured
        and set(plain.endpoints)
        == {
            "teacher",
            "judge",
        }
    )
    assert stage_settings(plain, "1") == stage_settings(batch, "1") != stage_settings(leaks, "1")
    with pytest.raises(UserError, match=r"judge.*demo"):
        load_job(written(tmp_path, JOB + "judge: {backend: demo}\n"))
    (tmp_path / "j").mkdir()
    local = load_job(written(tmp_path, JOB + "judge: {path: j}\n")).relative_to(tmp_path)
    assert isinstance(local.judge, Local) and local.judge.path == str(tmp_path / "j")


def test_what_a_batch_costs_is_a_share_of_the_price_or_unknown() -> None:
    response = {"usage": {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}}
    for share, dollars in ((0.5, 1.5), (0.0, 0.0), (None, None)):
        price = Price(input=1, output=2, batch=share)
        assert usage_of(by_batch(response, "batch_1"), price).cost_usd == dollars
        assert usage_of(response, price).cost_usd == 3.0
    assert usage_of(by_batch(response, "batch_1"), None).cost_usd is None
