"""`zoomtrail calls`: what was paid for, call by call; and prune, which takes only what no row can need."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.calls import Wanted, calls
from pipeline.driver_lock import driving
from pipeline.models.calls import CallStore
from pipeline.models.replies import by_batch
from pipeline.plan import Plan
from pipeline.store import RunStore
from schemas.captions import CaptionNode
from schemas.config import RunConfig, stage_settings
from schemas.errors import UserError
from schemas.record import content_id
from schemas.trajectory import Observation
from tests.shards.runs import HOSTILE, answer_turn, commit, question, trajectory, tree, verdict, zoom_turn

SERVER = {"model": "big", "base_url": "http://127.0.0.1:1/v1"}
PRICE = {"input": 1.0, "output": 2.0, "cached_input": 0.5, "batch": 0.5}


def key(name: str) -> str:
    return content_id(name)


def keep(url: str, name: str, role: str, model: str, batch: bool = False) -> None:
    """Keeps a call of 2,000,000 tokens read, half of them cached, and 1,000,000 written."""
    content = [
        {"type": "text", "text": f"What is {HOSTILE}?"},
        {"type": "image_url", "image_url": {"url": "sha256:ab"}},
    ]
    request = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 9}
    message = {"role": "assistant", "content": f"It is {name}\n{HOSTILE}", "reasoning_content": "hm \x1b]0;x\x07"}
    counted = {
        "prompt_tokens": 2_000_000,
        "completion_tokens": 1_000_000,
        "prompt_tokens_details": {"cached_tokens": 10**6},
    }
    response = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": counted}
    CallStore(url).put(key(name), role, request, by_batch(response, "batch_1") if batch else response)


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A finished run of one shard: three calls that rows name, three that none does, a finding, two spoiled files."""
    where = str(tmp_path / "run") if request.param == "local" else f"memory://{tmp_path.name}"
    captioner = {**SERVER, "model": "eyes", "price": PRICE}
    source = {"path": "q.jsonl", "videos": "v"}
    job = {"protocol": "longvideo_r1", "source": source, "teacher": {**SERVER, "price": PRICE}, "captioner": captioner}
    config = RunConfig.model_validate(job)
    store = RunStore(where)
    store.open_for(config, stage_settings(config, "1"))
    Plan(store).extend([question(0, "v0")], 1, 1)
    for name, role, model in (("node", "captioner", "eyes"), ("turn", "teacher", "big"), ("qa", "captioner", "eyes")):
        keep(where, name, role, model, batch=name == "node")
    for name, role, model in (
        ("no caption", "captioner", "eyes"),
        ("hinted", "teacher", "big"),
        ("probe", "verifier", "v"),
    ):
        keep(where, name, role, model)
    CallStore(where).put(key("finding"), "verifier", {"model": "v"}, {"log_probabilities": True})
    store.storage.write(CallStore.name(key("torn")), b'{"key": "')
    store.storage.write(f"calls/ab/.{key('x')}.json.17-abcd.tmp", b"half")
    finish(store)
    yield where
    if request.param == "memory":
        store.storage.fs.rm(store.storage.root, recursive=True)


def finish(store: RunStore) -> None:
    """Commits the shard with rows that name the calls."""
    seen = Observation(call_id="0.0", kind="qa", text="blue", call_key=key("qa"))
    turns = (zoom_turn("a").model_copy(update={"observations": (seen,), "call_key": key("turn")}), answer_turn("C"))
    made = trajectory(question(0, "v0"), 0, turns=turns, final="C")
    commit(store, "caption", 0, [tree("v0").model_copy(update={"nodes": (node(),)})])
    commit(store, "teach", 0, [made])
    commit(store, "replay", 0, [verdict(made)])


def node() -> CaptionNode:
    times = {"start_s": 0.0, "end_s": 1.0, "first_frame": 0, "last_frame": 1}
    shown = {"shown_indices": (0,), "shown_times_s": (0.0,), "width": 8, "height": 8}
    return CaptionNode(path=(1,), caption="c", model="eyes", prompt_hash=key("node"), **times, **shown)


def as_json(capsys: pytest.CaptureFixture[str], url: str, **wanted: Any) -> Any:
    capsys.readouterr()
    calls(url, Wanted(as_json=True, **wanted))
    said = capsys.readouterr().out
    return [json.loads(line) for line in said.splitlines()] if wanted.get("list") else json.loads(said)


def test_calls_are_summed_by_role_and_model_with_dollars_where_the_price_is_known(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sums = {(s["kind"], s["role"]): s for s in as_json(capsys, url)["files"]}
    captioner, teacher, verifier = (sums["call", role] for role in ("captioner", "teacher", "verifier"))
    assert (captioner["files"], captioner["prompt_tokens"], captioner["cached_tokens"]) == (3, 6_000_000, 3_000_000)
    assert captioner["cost_usd"] == 3.5 + 3.5 + 3.5 / 2 and teacher["cost_usd"] == 7.0
    assert verifier["cost_usd"] is None and teacher["bytes"] > 500
    assert 0 < teacher["oldest"] <= teacher["newest"]
    assert [
        sums[kind, role]["files"] for kind, role in (("finding", "verifier"), ("damaged", ""), ("leftover", ""))
    ] == [*(1, 1, 1)]
    calls(url, Wanted())
    table = capsys.readouterr().out
    assert "8.7500" in table and "unknown" in table and "(damaged)" in table


def test_calls_are_listed_by_role_and_model_up_to_a_limit(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = as_json(capsys, url, list=True, role="captioner")
    assert [call["key"] for call in listed] == sorted(key(name) for name in ("node", "qa", "no caption"))
    assert len(as_json(capsys, url, list=True, role="captioner", limit=2)) == 2
    assert as_json(capsys, url, list=True, model="other") == []
    calls(url, Wanted(list=True, model="big"))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_call_is_shown_as_text_that_cannot_steer_a_terminal(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    calls(url, Wanted(show=key("turn")[:12]))
    said = capsys.readouterr().out
    assert "[red]" in said and "[image sha256:ab]" in said and "It is turn\n" in said and "max_tokens: 9" in said
    assert "--- reasoning\nhm  ]0;x" in said and "3.5000" in said
    assert all(character == "\n" or character.isprintable() for character in said)
    assert as_json(capsys, url, show=key("turn"))["key"] == key("turn")


@pytest.mark.parametrize(("asked", "fault"), [("ffff0", "no calls"), ("..", "four digits"), ("../a", "four digits")])
def test_a_key_that_names_no_call_is_one_clear_line(url: str, asked: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        calls(url, Wanted(show=asked))


def test_prune_only_counts_until_it_is_confirmed_and_then_takes_what_no_row_names(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = as_json(capsys, url, list=True)
    dry = as_json(capsys, url, prune=True)
    assert not dry["removed"] and sum(one["files"] for one in dry["files"]) == 5
    assert as_json(capsys, url, list=True) == before
    assert as_json(capsys, url, prune=True, yes=True) == {**dry, "removed": True}
    left = as_json(capsys, url, list=True)
    assert {call["key"] for call in left} == {key(name) for name in ("node", "turn", "qa", "finding")}
    assert as_json(capsys, url, prune=True)["files"] == []


def test_prune_of_one_role_leaves_the_others(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    as_json(capsys, url, prune=True, yes=True, role="verifier")
    kept = {call["key"] for call in as_json(capsys, url, list=True)}
    assert key("probe") not in kept and {key("hinted"), key("no caption"), key("finding")} <= kept


def test_nothing_is_pruned_while_a_shard_is_unfinished_or_the_run_grows(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = as_json(capsys, url, list=True)
    store = RunStore(url)
    Plan(store).extend([question(1, "v1")], 1, 1)
    with pytest.raises(UserError, match="1 of 2 shards are unfinished"):
        calls(url, Wanted(prune=True, yes=True))
    assert as_json(capsys, url, list=True) == before


def test_a_run_that_grows_while_it_is_pruned_loses_nothing_more(url: str) -> None:
    from pipeline.kept_calls import KeptCalls

    store = RunStore(url)
    found = KeptCalls(store).unreferred()
    Plan(store).extend([question(1, "v1")], 1, 1)
    with pytest.raises(UserError, match="grows meanwhile"):
        next(found)


def test_calls_of_an_unfinished_further_verifier_are_kept_and_those_that_its_verdicts_name(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(url, "second judge", "judge", "big")
    before, further = as_json(capsys, url, list=True), RunStore(url, "second")
    further.open_verifier({"verifier": {"backend": "endpoint", "model": "second"}})
    for yes in (False, True):
        with pytest.raises(UserError, match="1 of 1 shards in verdicts-second are unfinished"):
            calls(url, Wanted(prune=True, yes=yes))
    assert as_json(capsys, url, list=True) == before
    judged = verdict(trajectory(question(0, "v0"), 0, final="C")).model_copy(update={"judge_call": key("second judge")})
    commit(further, "replay", 0, [judged])
    as_json(capsys, url, prune=True, yes=True)
    left = {call["key"] for call in as_json(capsys, url, list=True)}
    assert left == {key(name) for name in ("node", "turn", "qa", "finding", "second judge")}


def test_nothing_is_pruned_while_a_process_works_on_the_run(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = as_json(capsys, url, list=True)
    with driving(url):
        with pytest.raises(UserError, match=f"is being worked on by process {os.getpid()}"):
            calls(url, Wanted(prune=True, yes=True))
        assert not as_json(capsys, url, prune=True)["removed"]
    assert as_json(capsys, url, list=True) == before
    calls(url, Wanted(prune=True, yes=True))
    assert len(as_json(capsys, url, list=True)) == 4


def test_a_folder_that_is_no_run_and_contrary_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run directory"):
        calls(str(tmp_path), Wanted())
    with pytest.raises(UserError, match="give one of"):
        calls(str(tmp_path), Wanted(list=True, prune=True))
    with pytest.raises(UserError, match="--yes"):
        calls(str(tmp_path), Wanted(yes=True))
