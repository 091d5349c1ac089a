"""What earlier sessions used is known exactly, whenever their processes died, and without reading every call again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import ledger
from pipeline.leases import Used
from pipeline.ledger import merge, used_before
from pipeline.models import call_index
from pipeline.models.call_index import SCHEMA, CallIndex
from pipeline.models.calls import CallStore
from pipeline.models.replies import by_batch, usage_of
from pipeline.storage import Storage
from schemas.config import Endpoint, Price
from schemas.record import content_id
from tests.pipeline.test_calls import ROOT

PRICE = Price(input=1.0, output=4.0, cached_input=0.25, image=0.5, batch=0.5)
ENDPOINTS = {
    "teacher": Endpoint(model="m", base_url="http://127.0.0.1:1/v1", price=PRICE),
    "verifier": Endpoint(model="v", base_url="http://127.0.0.1:1/v1"),
}

AN_ENTRY = {"role": "teacher", "model": "m", "answered": True, "batched": False}
AN_ENTRY |= {"prompt": 5, "completion": 2, "cached": 1, "images": 0, "guessed": 4, "limit": 9, "pictures": 0}

WRITER = """
import sys
from pipeline.models import call_index
from pipeline.models.calls import CallStore
from schemas.record import content_id
call_index._FULL = 7
store, seed = CallStore(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(seed * 60, seed * 60 + 100):
    usage = {"prompt_tokens": 100 + number, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 5}}
    store.put(content_id(number), "teacher", {"model": "m"}, {"choices": [{}], "usage": usage})
"""


def a_response(number: int) -> dict[str, Any]:
    """Of every kind that a server may give."""
    details = {"cached_tokens": number % 200, "image_tokens": 150}
    usage = {"prompt_tokens": 100 + number, "completion_tokens": 10, "prompt_tokens_details": details}
    response = {"choices": [{"message": {"content": "x"}}], "usage": usage}
    spoiled = {3: {"log_probabilities": True}, 4: {**response, "usage": None}, 5: by_batch(response, "b1")}
    return spoiled.get(number % 7, response)


def a_request(number: int) -> dict[str, Any]:
    """Every other one with two pictures."""
    text = {"type": "text", "text": "how" * 40}
    pictures = [{"type": "image_url", "image_url": {"url": "sha256:ab"}}] * 2
    content = [text, *pictures] if number % 2 else text["text"]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 50}


def put_calls(url: str, count: int) -> CallStore:
    store = CallStore(url)
    for number in range(count):
        role, model = (("teacher", "m"), ("verifier", "v"), ("teacher", "m"), ("captioner", "local"))[number % 4]
        store.put(content_id(number), role, {"model": model, **a_request(number)}, a_response(number))
    return store


def read_one_by_one(folder: Path) -> dict[str, Used]:
    """The sum of all replies, from their files."""
    totals, uncounted = {role: Used() for role in ENDPOINTS}, []
    for path in folder.glob("calls/*/*.json"):
        call = json.loads(path.read_bytes())
        if call["role"] not in ENDPOINTS or "choices" not in call["response"]:
            continue
        total, usage = totals[call["role"]], usage_of(call["response"], ENDPOINTS[call["role"]].price)
        total.answered += 1
        total.prompt += usage.prompt_tokens
        total.completion += usage.completion_tokens
        total.cached += usage.cached_tokens
        total.dollars += usage.cost_usd or 0.0
        total.unpriced += usage.cost_usd is None
        pictured = isinstance(call["request"].get("messages", [{"content": ""}])[0]["content"], list)
        guessed = (30 + 600 * pictured) * bool(call["request"].get("messages"))
        if usage.prompt_tokens:
            total.measured += 1
            total.guessed += guessed
            total.pictured += usage.prompt_tokens * pictured
            total.pictured_guessed += guessed * pictured
        else:
            uncounted.append((call["role"], guessed, pictured))
    for role, guessed, pictured in uncounted:
        total, price = totals[role], ENDPOINTS[role].price
        text, text_guessed = total.prompt - total.pictured, total.guessed - total.pictured_guessed
        prompt = guessed * (total.pictured / total.pictured_guessed if pictured else text / text_guessed)
        total.assumed_tokens += prompt + 50
        total.assumed_dollars += (prompt * 1.0 + 50 * 4.0) / 1e6 if price else 0.0
    return totals


def assert_same(found: dict[str, Used], expected: dict[str, Used]) -> None:
    assert found.keys() == expected.keys()
    for role, used in expected.items():
        assert found[role].dollars == pytest.approx(used.dollars, rel=1e-12)
        assert found[role].assumed_dollars == pytest.approx(used.assumed_dollars, abs=1e-5)
        assert found[role].assumed_tokens == pytest.approx(used.assumed_tokens, abs=2)
        for name in ("dollars", "assumed_dollars", "assumed_tokens"):
            setattr(found[role], name, getattr(used, name))
        assert found[role] == used


@pytest.mark.parametrize("full", [1, 10, 1000])
def test_the_sum_is_that_of_all_kept_replies_whatever_the_index_has(
    tmp_path: Path, full: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_index, "_FULL", full)
    put_calls(str(tmp_path), 150)
    expected = read_one_by_one(tmp_path)
    assert (
        expected["teacher"].assumed_tokens
        and expected["teacher"].unpriced
        and expected["teacher"].dollars
        and expected["verifier"].answered
    )
    for _ in range(3):
        assert_same(used_before(str(tmp_path), ENDPOINTS), expected)
    for path in (tmp_path / "ledger").iterdir():
        path.unlink()
    assert_same(used_before(str(tmp_path), ENDPOINTS), expected)
    for path in (tmp_path / "ledger").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert_same(used_before(str(tmp_path), ENDPOINTS), expected)


def test_calls_in_the_index_are_not_read_and_count_though_they_were_removed(tmp_path: Path) -> None:
    put_calls(str(tmp_path), 60)
    expected = read_one_by_one(tmp_path)
    used_before(str(tmp_path), ENDPOINTS)
    for number, path in enumerate(tmp_path.glob("calls/*/*.json")):
        path.write_bytes(b"") if number % 2 else path.unlink()
    assert_same(used_before(str(tmp_path), ENDPOINTS), expected)


def test_it_works_on_an_object_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(call_index, "_FULL", 20)
    for url in ("memory://ledger/run", str(tmp_path)):
        put_calls(url, 50)
    assert_same(used_before("memory://ledger/run", ENDPOINTS), read_one_by_one(tmp_path))


def test_many_files_become_one_and_a_crash_between_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_index, "_FULL", 5)
    monkeypatch.setattr(ledger, "_MANY", 4)
    put_calls(str(tmp_path), 100)
    expected, before = read_one_by_one(tmp_path), {p: p.read_bytes() for p in (tmp_path / "ledger").iterdir()}
    assert len(before) == 20
    merge(str(tmp_path))
    assert_same(used_before(str(tmp_path), ENDPOINTS), expected)
    assert len(list((tmp_path / "ledger").iterdir())) == 1
    for path, data in list(before.items())[:10]:
        path.write_bytes(data)
    assert_same(used_before(str(tmp_path), ENDPOINTS), expected)
    merge(str(tmp_path))
    assert_same(used_before(str(tmp_path), ENDPOINTS), expected)


def test_after_kills_at_any_moment_no_reply_is_missing_and_none_counts_twice(tmp_path: Path) -> None:
    """Each process makes forty of the calls again that the one before may have made: as after a resume."""
    dice = random.Random(0)
    for seed in range(6):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(seed)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n" and process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        while not list(tmp_path.glob("calls/*/*.json")):
            time.sleep(0.01)
        time.sleep(dice.uniform(0.0, 0.2))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)
        assert_same(used_before(str(tmp_path), ENDPOINTS), read_one_by_one(tmp_path))
    assert read_one_by_one(tmp_path)["teacher"].answered > 10


def index_of(folder: Path, files: int, per_file: int) -> None:
    """An index of so many calls, whose own files are gone."""
    index = CallIndex(Storage(str(folder)))
    for number in range(files):
        keys = [content_id((number, row)) for row in range(per_file)]
        index.put(pa.Table.from_pylist([{**AN_ENTRY, "key": bytes.fromhex(key)} for key in keys], schema=SCHEMA))


def test_memory_grows_by_a_few_bytes_for_each_call(tmp_path: Path) -> None:
    peaks, before = {}, pa.default_memory_pool()
    for files in (80, 160):  # both so many that files are merged, which takes the same memory
        folder = tmp_path / str(files)
        index_of(folder, files, 1000)
        pool = pa.proxy_memory_pool(before)
        pa.set_memory_pool(pool)
        tracemalloc.start()
        used = used_before(str(folder), ENDPOINTS)["teacher"]
        merge(str(folder))
        peaks[files] = tracemalloc.get_traced_memory()[1] + pool.max_memory()
        tracemalloc.stop()
        pa.set_memory_pool(before)
        assert (used.answered, used.prompt, used.measured) == (1000 * files, 5000 * files, 1000 * files)
    assert peaks[160] - peaks[80] < 80_000 * 60


def test_many_entries_become_several_files_and_sums_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_FULL", 300)
    monkeypatch.setattr(ledger, "_MANY", 4)
    index_of(tmp_path, 10, 100)
    used = used_before(str(tmp_path), ENDPOINTS)
    merge(str(tmp_path))
    index = CallIndex(Storage(str(tmp_path)))
    assert sorted(len(index.table(name)) for name in index.files()) == [100, 300, 300, 300]
    assert_same(used_before(str(tmp_path), ENDPOINTS), used)
    index_of(tmp_path, 7, 100)
    assert_same(used_before(str(tmp_path), ENDPOINTS), used)
    merge(str(tmp_path))
    assert_same(used_before(str(tmp_path), ENDPOINTS), used)


def test_a_call_that_was_noted_twice_counts_once_with_the_larger_figures(tmp_path: Path) -> None:
    """As where its file was torn, so that it was made again."""
    index = CallIndex(Storage(str(tmp_path)))
    index_of(tmp_path, 2, 10)
    again = {**AN_ENTRY, "key": bytes.fromhex(content_id((1, 3))), "prompt": 0, "completion": 9, "model": "m"}
    index.put(pa.Table.from_pylist([again], schema=SCHEMA))
    used = used_before(str(tmp_path), ENDPOINTS)["teacher"]
    assert (used.answered, used.prompt, used.completion) == (20, 100, 19 * 2 + 9)
