"""A run on an S3-compatible server: few requests, faults waited out that pass, others told in one line, one winner."""

import json
import pickle
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from moto.backends import get_backend

from pipeline import planning, remote
from pipeline.ledger import used_before
from pipeline.models.calls import CallStore
from pipeline.plan import Plan, Planned, generations_of
from pipeline.plan_parts import ShardRows
from pipeline.storage import Storage
from pipeline.store import RunStore
from schemas.arrow import from_table
from schemas.config import Endpoint
from schemas.errors import Fatal, UserError
from tests.object_store import BUCKET, SECRET, ObjectStore
from tests.pipeline.test_store import question, tree

RUN = f"s3://{BUCKET}/run"
KEY = "ab" + "0" * 62
FAULTS = ["slow", "503", "reset", "lost", "truncated"]


def fill(names: list[str], data: bytes = b"x") -> None:
    """Puts objects into the server without a request."""
    backend = get_backend("s3")["123456789012"]["aws"]
    for name in names:
        backend.put_object(BUCKET, name, data)


def response(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": text}}], "usage": {"prompt_tokens": 3}}


def befall(store: ObjectStore, fault: str, times: int) -> None:
    """The next requests meet a fault, the others none."""
    left = [fault] * times
    store.forget()
    store.faults = lambda number, method, path: left.pop() if left else ""


def test_a_kept_call_is_one_get_and_so_is_one_that_is_not_there(s3: ObjectStore) -> None:
    calls = CallStore(RUN)
    assert calls.get(KEY) is None and s3.counts == {"GET": 1}
    s3.forget()
    calls.put(KEY, "teacher", {"model": "m"}, response("hi"))
    assert s3.counts == {"PUT": 1}
    s3.forget()
    assert calls.get(KEY) == response("hi") and s3.counts == {"GET": 1}


def test_what_is_finished_is_one_listing_for_each_thousand_shards(s3: ObjectStore) -> None:
    fill([f"run/captions/shard-{number:05d}.parquet" for number in range(2500)])
    assert RunStore(RUN).finished("caption") == set(range(2500))
    assert s3.counts == {"LIST": 3}


def test_what_was_spent_is_one_get_for_each_call_once_and_listings_from_then_on(s3: ObjectStore) -> None:
    keys = [f"{number % 4:02x}{number:062x}" for number in range(40)]
    for key in keys:
        document = {"key": key, "role": "teacher", "request": {}, "response": response("hi")}
        fill([f"run/{CallStore.name(key)}"], json.dumps(document).encode())
    used = used_before(RUN, {"teacher": Endpoint(model="m", base_url="http://127.0.0.1:1/v1")})
    assert (used["teacher"].answered, used["teacher"].prompt) == (40, 120)
    assert s3.counts["PUT"] == 1 and 40 <= s3.counts["GET"] <= 41  # the calls, and what the index is put beside
    before = Counter(s3.counts)
    assert used_before(RUN, {"teacher": Endpoint(model="m", base_url="http://127.0.0.1:1/v1")}) == used
    again = Counter(s3.counts) - before
    assert again["PUT"] == 0 and again["GET"] <= 2 and again["LIST"] <= 9


def test_a_listing_shows_what_another_process_has_just_written_or_removed(s3: ObjectStore) -> None:
    ours = RunStore(RUN)
    assert ours.finished("caption") == set() and ours.storage.read_or_none("captions/shard-00007.parquet") is None
    fill(["run/captions/shard-00007.parquet"])
    assert ours.finished("caption") == {7} and ours.storage.read("captions/shard-00007.parquet") == b"x"
    get_backend("s3")["123456789012"]["aws"].delete_object(BUCKET, "run/captions/shard-00007.parquet")
    assert ours.finished("caption") == set()


@pytest.mark.parametrize("fault", FAULTS)
def test_two_faults_in_a_row_change_nothing(s3: ObjectStore, fault: str) -> None:
    storage = Storage(RUN)
    content = random.Random(fault).randbytes(200_000)
    befall(s3, fault, 2)
    storage.write("deep/file", content)
    befall(s3, fault, 2)
    assert storage.read("deep/file") == content
    befall(s3, fault, 2)
    assert storage.create("deep/new", content)
    befall(s3, fault, 2)
    assert not storage.create("deep/new", b"another's")
    befall(s3, fault, 2)
    assert storage.names("deep", "") == ["file", "new"]
    assert storage.read("deep/new") == content


def test_under_many_faults_every_call_of_four_writers_is_whole_and_nothing_else_is_left(s3: ObjectStore) -> None:
    s3.faults = lambda number, method, path: (
        random.Random(number).choice([f for f in FAULTS if f != "slow"]) if random.Random(number).random() < 0.3 else ""
    )
    keys = [f"{number:064x}" for number in range(20)]

    def write(who: str) -> list[Any]:
        calls = CallStore(RUN)
        return [calls.put(key, "teacher", {"model": "m"}, response(who * 20_000)) for key in keys]

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(write, "abcd"))
    s3.faults = lambda number, method, path: ""
    kept = [CallStore(RUN).get(key) for key in keys]
    assert all(standing == kept for standing in taken)
    assert all(reply in [response(who * 20_000) for who in "abcd"] for reply in kept)
    assert Storage(RUN).names("calls/00", "") == [f"{key}.json" for key in keys]
    assert Storage(RUN).fs.list_multipart_uploads(BUCKET) == []


@pytest.mark.parametrize("fault", ["", "501"])
def test_of_racing_commits_one_stands(s3: ObjectStore, fault: str) -> None:
    """501: of a store without conditional PUT, where it is decided by a look before; here one comes after the other."""
    s3.faults = lambda number, method, path: fault
    workers = 1 if fault else 8
    with ThreadPoolExecutor(workers) as pool:
        won = list(pool.map(lambda n: RunStore(RUN).commit("caption", 0, [tree(f"v{n}")], {}), range(8)))
    assert won.count(True) == 1
    (row,) = RunStore(RUN).table("caption", 0).to_pylist()
    assert row["video_id"] == f"v{won.index(True)}"


def test_a_refusal_is_one_line_at_once_without_the_key(s3: ObjectStore) -> None:
    s3.faults = lambda number, method, path: "403"
    storage = Storage(RUN)
    for asked in (
        lambda: storage.read("calls/x"),
        lambda: storage.write("calls/x", b""),
        lambda: storage.create("calls/x", b""),
        lambda: storage.names("calls", ""),
    ):
        s3.forget()
        with pytest.raises(Fatal, match=rf"^cannot \w+ calls(/x)? in {RUN}: Access Denied$") as caught:
            asked()
        assert len(s3.seen) == 1 and SECRET not in str(caught.value)


def test_a_bucket_that_is_not_there_is_no_call_that_is_not_there(s3: ObjectStore) -> None:
    calls = CallStore("s3://nowhere-to-be-found/run")
    with pytest.raises(Fatal, match=r"cannot read calls/ab/.*: The specified bucket does not exist"):
        calls.get(KEY)
    with pytest.raises(Fatal, match="bucket does not exist"):
        RunStore("s3://nowhere-to-be-found/run").finished("caption")


def test_a_store_that_stays_away_stops_the_run_after_a_bounded_time(
    s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PATIENCE_S", 1.0)
    s3.faults = lambda number, method, path: "reset"
    with pytest.raises(Fatal, match="cannot write calls/ab/") as caught:
        CallStore(RUN).put(KEY, "teacher", {"model": "m"}, response("hi"))
    assert "\n" not in str(caught.value) and 3 <= len(s3.seen) <= 60


def test_no_secret_travels_with_a_run(s3: ObjectStore) -> None:
    assert SECRET.encode() not in pickle.dumps(RunStore(RUN))
    assert Storage(f"memory://someone:{SECRET}@host/run").url == "memory://host/run"
    said = f'no answer from "https://a:{SECRET}@host/film.mp4?X-Amz-Signature={SECRET}" for s3://bucket/a?b'
    assert remote.shown(said) == 'no answer from "https://host/film.mp4" for s3://bucket/a?b'


def test_a_file_system_that_is_not_installed_is_the_users_to_install() -> None:
    with pytest.raises(UserError, match="gs:// needs a library that is not installed; pip install gcsfs"):
        Storage("gs://bucket/run")
    with pytest.raises(UserError, match="there is no file system for nonsense://"):
        Storage("nonsense://bucket/run")


def planned(questions: int) -> RunStore:
    """A run on the store whose plan has one part of several row groups."""
    store = RunStore(RUN)
    Plan(store).extend([question(f"q{number}", f"v{number // 10}.mp4") for number in range(questions)], 1, 5)
    return store


def test_of_a_plan_no_more_is_fetched_than_is_wanted(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_GROUP_ROWS", 5000)
    store = planned(20_000)
    size, shards = store.storage.size("plan/part-00000.parquet"), Plan(store).shards()
    s3.forget()
    assert generations_of(store) == []
    assert s3.counts == {"LIST": 1, "HEAD": 1, "GET": 1} and s3.sent <= 70_000  # the footer, as Arrow asks for it
    s3.forget()
    rows = ShardRows(store, shards)
    assert len(rows.of(150)) == 50
    fetched = s3.sent
    assert len(rows.of(151)) == 50 and s3.sent == fetched  # of the same row group
    assert s3.counts["GET"] <= 3 and fetched <= 2 * 70_000 + size / 4 * 1.1


@pytest.mark.parametrize("fault", FAULTS)
def test_two_faults_while_a_plan_or_a_footer_is_read_change_nothing(s3: ObjectStore, fault: str) -> None:
    store = planned(100)
    expected = list(Plan(store).rows())
    befall(s3, fault, 2)
    plan = Plan(store)
    befall(s3, fault, 2)
    shards = plan.shards()
    befall(s3, fault, 2)
    assert from_table(Planned, ShardRows(store, shards).of(1)) == [row for row in expected if row.shard == 1]
    store.commit("caption", 3, [tree("v")], {"fingerprint": "f"})
    befall(s3, fault, 2)
    assert store.footer("caption", 3)["fingerprint"] == "f"
    with pytest.raises(FileNotFoundError):
        store.footer("caption", 4)


def test_a_plan_that_cannot_be_read_is_one_line(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE_S", 0.5)
    store = planned(100)
    for fault in ("403", "reset"):
        s3.faults = lambda number, method, path, fault=fault: "" if path.endswith("run") or "?" in path else fault
        with pytest.raises(Fatal, match=f"^cannot (read|list) plan.* in {RUN}: "):
            Plan(store)


def test_a_large_file_whose_completion_was_answered_into_the_void_is_written(s3: ObjectStore) -> None:
    """From 100 MiB on a file goes in parts. Asked again, the server knows no such upload, since it has completed it."""
    storage, data = Storage(RUN), random.Random(0).randbytes(1 << 20) * 101
    for work in (lambda: storage.create("large", data), lambda: storage.write("larger", data) is None):
        left = ["no upload", "lost"]
        s3.forget()
        s3.faults = lambda number, method, path, left=left: (
            left.pop() if left and method == "POST" and s3.counts["PUT"] >= 3 else ""
        )
        assert work()
        assert not left
    assert not storage.create("large", b"another's")
    assert storage.read("large") == storage.read("larger") == data
    assert storage.fs.list_multipart_uploads(BUCKET) == []
