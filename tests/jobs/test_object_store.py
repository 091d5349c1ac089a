"""A run whose questions, videos and directory lie on an object store: the same rows as on a disk, and all commands."""

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from jobs.calls import Wanted, calls
from jobs.clean import clean
from jobs.stats import stats
from pipeline.store import RunStore
from schemas.config import STAGES
from tests.jobfiles import write_job
from tests.jobs.conftest import Command
from tests.object_store import BUCKET, SECRET, ObjectStore
from tests.scripted_server import ScriptedServer

FAULTS = {3: "503", 8: "reset", 13: "truncated", 18: "lost"}
"""By the number of a request modulo 20: every fifth meets one."""


SAID = ("funnel", "statuses", "totals", "files", "leftovers", "younger")
"""Of what commands say of a run all but where it lies and how long it took."""


def anywhere(value: Any, videos: str) -> Any:
    """A value with the place of the videos taken out of its texts."""
    if isinstance(value, dict):
        return {name: anywhere(each, videos) for name, each in value.items()}
    if isinstance(value, str):
        return value.replace(videos, "videos")
    return [anywhere(each, videos) for each in value] if isinstance(value, list) else value


def rows(url: str, videos: str) -> dict[str, list[Any]]:
    """All rows of a run by stage, but for the place where its videos lie."""
    store = RunStore(url)
    return {
        stage: anywhere([r for s in sorted(store.finished(stage)) for r in store.table(stage, s).to_pylist()], videos)
        for stage in STAGES
    }


@pytest.mark.slow
def test_a_run_on_an_object_store_has_the_rows_of_one_on_a_disk(
    s3: ObjectStore, tmp_path: Path, zoomtrail: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    local, run = tmp_path / "run", f"s3://{BUCKET}/runs/one"
    with ScriptedServer(tmp_path / "calls.jsonl") as server:
        job = write_job(tmp_path, server.base_url, "videozoomer", broken=True)
        made = zoomtrail("generate", job, "--out", local)
        assert made.returncode == 0, made.stderr
        _upload(tmp_path)
        moved = yaml.safe_load(job.read_text())
        moved["source"] = {"path": f"s3://{BUCKET}/questions.jsonl", "videos": f"s3://{BUCKET}/videos"}
        job.write_text(yaml.safe_dump(moved))
        s3.forget()
        s3.faults = lambda number, method, path: FAULTS.get(number % 20, "")
        made = zoomtrail("generate", job, "--out", run)
        assert made.returncode == 0, made.stderr
        again = zoomtrail("generate", job, "--out", run)
        assert "nothing to do: all 12 attempts" in again.stdout, again.stderr
    s3.faults = lambda number, method, path: ""
    assert rows(run, f"s3://{BUCKET}/videos") == rows(str(local), str(tmp_path / "videos"))
    assert sum(seen.kind == "GET" and not seen.fault and seen.key == "videos/clip0.mp4" for seen in s3.seen) == 1
    everything = fsspec.filesystem("s3", use_listings_cache=False).find(BUCKET)
    assert not [name for name in everything if "driver-" in name or name.endswith(".tmp")]
    _commands(run, local, zoomtrail, capsys)


def _upload(folder: Path) -> None:
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    for path in [folder / "questions.jsonl", *(folder / "videos").iterdir()]:
        fs.pipe_file(f"{BUCKET}/{path.relative_to(folder)}", path.read_bytes())


def _commands(run: str, local: Path, zoomtrail: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that read a run say of it what they say of the one on a disk."""
    said = []
    for url, videos in ((run, f"s3://{BUCKET}/videos"), (str(local), str(local.parent / "videos"))):
        for command in (
            lambda url=url: stats(url, None, True),
            lambda url=url: calls(url, Wanted(prune=True, as_json=True)),
            lambda url=url: clean(url, True, 0, True),
        ):
            command()
            found = json.loads(capsys.readouterr().out)
            said.append({name: anywhere(found[name], videos) for name in SAID if name in found})
    assert said[:3] == said[3:]
    for url in (run, str(local)):
        made = zoomtrail("cut", url, "all", "--where", "status = 'answered'", "--media", "embedded")
        assert made.returncode == 0 and SECRET not in made.stderr, made.stderr
    cuts = [RunStore(url).storage for url in (run, str(local))]
    names = [storage.names("cuts/all", "") for storage in cuts]
    assert names[0] == names[1] and "README.md" in names[0]
