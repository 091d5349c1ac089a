"""What `doctor` finds out about an endpoint: asked over HTTP of servers that differ as the providers do."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from jobs.doctor import doctor
from pipeline.models.trial import Lack, Need, lacks
from schemas.config import Endpoint, EndpointVerifier, Price
from schemas.errors import Fatal, UserError
from tests import provider_servers as providers
from tests.models.test_endpoint_scorer import server
from tests.provider_servers import SERVERS, Server

TEACHER = Need(pictures=True, stop=("</answer>",))
PRICE = {"input": 1.0, "output": 2.0}


def found(answer: Server, need: Need = TEACHER, **settings: Any) -> list[Lack]:
    with server(lambda body, _: answer(body)) as (url, _):
        config = Endpoint(**{"model": "m", "base_url": url, "price": Price(**PRICE), "retries": 1, **settings})
        return lacks(config, "teacher", need)


WHOLE = [s for s in SERVERS if s not in (providers.openai_reasoning, providers.strict)]


@pytest.mark.parametrize("answer", WHOLE, ids=lambda server: server.__name__)
def test_an_endpoint_that_can_do_all_lacks_nothing(answer: Server) -> None:
    assert found(answer) == []


@pytest.mark.parametrize(
    ("answer", "settings", "lack", "fatal"),
    [
        (providers.openai_reasoning, {}, "heeds no stop strings", False),
        (providers.strict, {}, "heeds no stop strings", False),
        (providers.deaf, {}, "heeds no stop strings", False),
        (providers.deaf, {}, "counts no tokens: its cost will be shown as unknown", False),
        (
            providers.openai,
            {"price": None},
            "has no price: its cost will be shown as unknown; set teacher.price",
            False,
        ),
        (providers.vllm, {"model": "gemma"}, "takes no system message (HTTP 400", True),
        (providers.vllm, {"model": "single"}, "takes one picture a request, not several", True),
        (providers.vllm, {"model": "text"}, "takes no pictures (HTTP 400", True),
        (providers.gemini, {"max_tokens": 50}, "cannot say yes within teacher.max_tokens = 50: raise it", True),
    ],
)
def test_what_an_endpoint_lacks_is_named(answer: Server, settings: dict[str, Any], lack: str, fatal: bool) -> None:
    named = [(one.text.startswith(lack), one.fatal) for one in found(answer, **settings)]
    assert (True, fatal) in named


def test_nothing_is_asked_for_that_a_role_does_not_need() -> None:
    assert found(providers.vllm, Need(pictures=False, stop=()), model="text") == []


def test_a_refused_setting_is_told_with_what_to_change() -> None:
    with pytest.raises(UserError, match=r"teacher\.temperature, leave it out"):
        found(providers.openai_reasoning, temperature=0.3)


@pytest.mark.parametrize("answer", SERVERS, ids=lambda server: server.__name__)
def test_a_verifier_without_log_probabilities_is_told_what_it_costs(answer: Server) -> None:
    with server(lambda body, _: answer(body)) as (url, _):
        config = EndpointVerifier(model="m", base_url=url, price=Price(**PRICE))
        (*texts,) = [lack.text for lack in lacks(config, "verifier", Need(pictures=True, stop=()))]
    lists = answer in (providers.openai, providers.vllm, providers.sglang, providers.openrouter)
    assert texts == ([] if lists else ["lists no log-probabilities: a probe takes 8 answers instead of one token"])


@pytest.mark.parametrize("answer", [providers.gemini, providers.anthropic, providers.strict], ids=lambda s: s.__name__)
def test_a_verifier_that_cannot_be_held_to_the_choices_is_told(answer: Server) -> None:
    with server(lambda body, _: answer(body)) as (url, _):
        config = EndpointVerifier(model="m", base_url=url, price=Price(**PRICE), answer_by="text", structured=True)
        texts = [lack.text for lack in lacks(config, "verifier", Need(pictures=False, stop=()))]
    told = "keeps to no answer schema: its answers are read as plain text; leave verifier.structured out"
    assert texts == ([] if answer is providers.gemini else [told])


def test_doctor_prints_a_line_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "q.jsonl").write_text("")
    with server(lambda body, _: providers.vllm(body)) as (url, _):
        job = {
            "protocol": "longvideo_r1",
            "source": {"path": "q.jsonl", "videos": "."},
            "teacher": {"model": "text", "base_url": url, "price": PRICE},
            "captioner": {"model": "single", "base_url": url},
        }
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        with pytest.raises(UserError, match="2 of"):
            doctor(tmp_path / "job.yaml")
    lines = capsys.readouterr().out.splitlines()
    assert f"ok    teacher: text answers at {url}" in lines
    assert any(line.startswith("fault captioner: single takes one picture a request") for line in lines)
    assert any(line.startswith("note  captioner: single has no price") for line in lines)
    assert not any("text takes" in line for line in lines)  # a teacher that reads captions needs no pictures


@pytest.mark.parametrize("has_batches", [True, False])
def test_doctor_says_whether_an_endpoint_has_the_batches_that_a_job_asks_for(
    has_batches: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "q.jsonl").write_text("")
    listed = {"object": "list", "data": [], "has_more": False}
    more = {"/v1/batches": lambda: web.json_response(listed)} if has_batches else {}
    with server(lambda body, _: providers.openai(body), more) as (url, _):
        teacher = {"model": "m", "base_url": url, "price": PRICE}
        captioner = {**teacher, "batch": True, "price": {**PRICE, "batch": 0.5}}
        source = {"path": "q.jsonl", "videos": "."}
        job = {"protocol": "longvideo_r1", "source": source, "teacher": teacher, "captioner": captioner}
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        with pytest.raises(UserError, match="1 of" if has_batches else "2 of"):  # no questions are a fault, too
            doctor(tmp_path / "job.yaml")
    lines = [line for line in capsys.readouterr().out.splitlines() if "batch" in line]
    fault = f"fault captioner: {url} answers HTTP 404 where batches are listed: set captioner.batch to false"
    expected = f"ok    captioner: {url} has batches" if has_batches else fault
    assert len(lines) == 1 and lines[0].startswith(expected)


def test_an_endpoint_that_is_not_there_is_told_so() -> None:
    config = Endpoint(model="m", base_url="http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(Fatal, match="does not answer"):
        lacks(config, "teacher", TEACHER)
