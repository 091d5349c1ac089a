"""`zoomtrail clean`: finds all that a crash left and nothing else, and takes nothing from a run that is at work."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.clean import clean
from pipeline.driver_lock import driving
from pipeline.leftovers import leftovers
from pipeline.models.calls import CallStore
from pipeline.store import RunStore
from schemas.errors import UserError
from tests.jobs.test_calls import keep, key
from tests.object_store import BUCKET, ObjectStore
from tests.shards.runs import walk_run

HALF = ".shard-00001.parquet.4242-0a1b2c3d.tmp"


def spoil(run: RunStore) -> None:
    """Leaves behind what a crash does, and things that look a little like it."""
    run.storage.write(f"captions/{HALF}", b"half")
    run.storage.write(f"cuts/all/media/{HALF}", b"half of a picture")
    run.storage.write(f"calls/ab/.{key('x')}.json.17-0a1b2c3d.tmp", b"half a call")
    if run.storage.is_local:
        run.storage.write(CallStore.name(key("torn")), b'{"key": "')
    run.storage.write("captions/notes.tmp", b"a user's own")
    keep(run.url, "whole", "teacher", "big")


LEFT = {
    f"captions/{HALF}": ("temporary file", 4),
    f"cuts/all/media/{HALF}": ("temporary file", 17),
    f"calls/ab/.{key('x')}.json.17-0a1b2c3d.tmp": ("temporary file", 11),
}
TORN = {CallStore.name(key("torn")): ("torn call", 9)}
"""Cannot be in an object store."""


def left(run: RunStore) -> dict[str, tuple[str, int]]:
    return LEFT | (TORN if run.storage.is_local else {})


def said(capsys: pytest.CaptureFixture[str], url: str, yes: bool = False, minutes: float = 0) -> dict[str, Any]:
    clean(url, yes, minutes, True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture(params=["local", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    if request.param == "s3":
        request.getfixturevalue("s3")
    store = walk_run(f"s3://{BUCKET}/run" if request.param == "s3" else str(tmp_path / "run"))
    spoil(store)
    return store


def test_what_is_left_is_listed_with_its_size_then_removed_and_all_else_stays(
    run: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = said(capsys, run.url)
    assert {one["name"]: (one["kind"], one["bytes"]) for one in listed["leftovers"]} == left(run)
    assert not listed["removed"] and len(list(leftovers(run))) == len(left(run))
    assert len(said(capsys, run.url, yes=True)["leftovers"]) == len(left(run))
    assert list(leftovers(run)) == []
    assert run.storage.names("captions", "") == ["notes.tmp", "shard-00000.parquet"]
    assert CallStore(run.url).get(key("whole")) is not None
    clean(run.url, True, 0, False)
    assert capsys.readouterr().out == "removed 0 leftovers (0 bytes)\n"


def test_what_changed_just_now_stays_and_is_counted(run: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, run.url, yes=True, minutes=10)
    assert found["leftovers"] == [] and found["younger"] == len(left(run))
    assert len(list(leftovers(run))) == len(left(run))


def test_a_run_that_is_at_work_is_left_alone(run: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    with driving(run.url):
        with pytest.raises(UserError, match=f"is being worked on by process {os.getpid()}"):
            clean(run.url, True, 0, False)
        assert len(said(capsys, run.url)["leftovers"]) == len(left(run))


def test_an_upload_that_nobody_completed_is_found_and_ended(
    s3: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    run = walk_run(f"s3://{BUCKET}/run")
    fs = run.storage.fs
    begun = []
    for name in ("run/cuts/all/train.jsonl", "running/other"):
        upload = fs.call_s3("create_multipart_upload", Bucket=BUCKET, Key=name)["UploadId"]
        fs.call_s3("upload_part", Bucket=BUCKET, Key=name, UploadId=upload, PartNumber=1, Body=b"7" * 1000)
        begun.append(upload)
    (found,) = said(capsys, run.url, yes=True)["leftovers"]
    assert (found["kind"], found["name"], found["bytes"]) == ("unfinished upload", "cuts/all/train.jsonl", 1000)
    assert abs(found["changed_at"] - time.time()) < 3600
    assert [one["UploadId"] for one in fs.list_multipart_uploads(BUCKET)] == begun[1:]


def test_calls_in_an_object_store_are_listed_and_not_read(s3: ObjectStore) -> None:
    run = walk_run(f"s3://{BUCKET}/run")
    for number in range(20):
        keep(run.url, str(number), "teacher", "big")
    s3.forget()
    assert list(leftovers(run)) == []
    assert not [one.key for one in s3.seen if one.kind == "GET" and "/calls/" in one.key]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run directory"):
        clean(str(tmp_path), True, 0, False)
