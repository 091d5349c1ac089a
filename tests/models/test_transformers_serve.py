"""`transformers serve` as the server of captioner and verifier: the product's own pipeline over its HTTP interface."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.demo import world
from pipeline.demo.film import film_name, write_film
from pipeline.demo.questions import questions
from pipeline.models.build import DEMO_FOLDER
from pipeline.models.calls import CallStore
from pipeline.models.endpoint import EndpointModel
from pipeline.models.local import LocalModel
from pipeline.store import RunStore
from schemas.captions import CaptionTree
from schemas.config import Endpoint
from schemas.errors import Rejected
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict
from tests.jobfiles import write_job
from tests.models.chats import chat, jpeg
from tests.ports import free_port
from tests.scripted_server import ScriptedServer
from tests.tiny_models import build_idefics3

for needed in ("accelerate", "fastapi", "uvicorn"):
    pytest.importorskip(needed, reason="`transformers serve` needs transformers[serving]")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
START_S = 300.0
"""Seconds that the server may take until it answers."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """`transformers serve` of a model folder, under the folder's own name, on a free port: its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", folder.name]
    command += ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    log = folder.parent / "serve.log"
    with log.open("w") as said:
        process = subprocess.Popen(command, cwd=folder.parent, env=env, stdout=said, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def sampled(folder: Path) -> Path:
    """A model folder, set so that the server draws samples where a temperature asks for it."""
    settings = folder / "generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "do_sample": True, "top_k": 0}))
    return folder


def terse(folder: Path) -> Path:
    """A model folder, set so that every other token ends a reply, though not as its first: no reply is long."""
    settings = folder / "generation_config.json"
    size = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
    known = json.loads(settings.read_text())
    ends = sorted({*range(0, size, 2), known["eos_token_id"]})
    settings.write_text(json.dumps({**known, "eos_token_id": ends, "begin_suppress_tokens": ends}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights."""
    return terse(sampled(build_idefics3(tmp_path_factory.mktemp("serve") / "tiny")))


@pytest.fixture(scope="module")
def base_url(folder: Path) -> Iterator[str]:
    with served(folder) as url:
        yield url


def endpoint(base_url: str, run: Path, **settings: Any) -> EndpointModel:
    config = Endpoint(base_url=base_url, **{"model": "tiny", "max_tokens": 8, "retries": 0, **settings})
    return EndpointModel(config, "captioner", CallStore(str(run)))


def test_the_server_says_what_the_model_says_in_process(base_url: str, folder: Path, tmp_path: Path) -> None:
    local = LocalModel(str(folder), device="cpu", max_new_tokens=8)

    async def replies() -> None:
        remote = endpoint(base_url, tmp_path, temperature=0)
        for pictures in ([], [jpeg(1)], [jpeg(1), jpeg(2), jpeg(3)]):  # of a size that needs no resizing
            here, there = await local.complete(chat(pictures)), await remote.complete(chat(pictures))
            assert (there.text, there.finish_reason) == (here.text, here.finish_reason)
            assert there.usage.prompt_tokens == here.usage.prompt_tokens
        await remote.close()

    asyncio.run(replies())


def test_a_temperature_is_heeded_where_the_model_is_set_to_be_sampled(base_url: str, tmp_path: Path) -> None:
    async def texts() -> set[str]:
        remote = endpoint(base_url, tmp_path, temperature=1)
        replies = [await remote.complete(chat([jpeg(1)]), sample=n) for n in range(4)]
        await remote.close()
        return {reply.text for reply in replies}

    assert len(asyncio.run(texts())) > 1


def test_what_the_server_refuses_is_told_in_its_own_words(base_url: str, tmp_path: Path) -> None:
    async def ask() -> None:
        remote = endpoint(base_url, tmp_path, model="another")
        with pytest.raises(Rejected, match="Server is pinned to 'tiny'"):
            await remote.complete(chat([]))
        await remote.close()

    asyncio.run(ask())


def generate(job: Path, out: Path) -> tuple[list[CaptionTree], list[Trajectory], list[Verdict]]:
    """Carries out a job with the command, in a process of its own: the rows of its only shard."""
    command = [sys.executable, "-m", "jobs.cli", "generate", str(job), "--out", str(out)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    store = RunStore(str(out))
    return store.rows(CaptionTree, "caption", 0), store.rows(Trajectory, "teach", 0), store.rows(Verdict, "replay", 0)


def test_a_run_is_captioned_and_verified_through_the_server(base_url: str, tmp_path: Path) -> None:
    model = {"backend": "endpoint", "base_url": base_url, "model": "tiny", "max_tokens": 8, "concurrency": 4}
    write_job(tmp_path, "http://127.0.0.1/v1", "longvideo_r1", n_videos=1)
    with ScriptedServer(tmp_path / "calls.jsonl", tmp_path / "questions.jsonl", careless=0) as teacher:
        job = write_job(
            tmp_path,
            teacher.base_url,
            "longvideo_r1",
            n_videos=1,
            captioner={**model, "temperature": 1, "max_tokens": 64},
            verifier={**model, "samples": 2},
            captions={"min_width": 2},
        )
        (tree,), trajectories, verdicts = generate(job, tmp_path / "run")
    assert tree.status == "ok" and any(node.caption for node in tree.nodes)
    assert [t.status for t in trajectories] == ["answered"] * 4
    assert {v.verifier for v in verdicts} == {"tiny@2 samples"} and all(v.verifier_tokens for v in verdicts)
    for verdict in verdicts:
        assert verdict.error is None and verdict.observations_match
        assert verdict.p_gold_steps is not None and all(0 < p < 1 for p in verdict.p_gold_steps)


def test_the_demo_model_behind_a_server_tells_evidence_from_overview(tmp_path: Path) -> None:
    film, folder = world.film(3), sampled(Path(shutil.copytree(DEMO_FOLDER, tmp_path / "demo")))
    write_film(film, tmp_path / film_name(3))
    asked = [row for row in questions(film) if row["qid"] == "film-3-sign-yellow"]  # p(gold) from 0.18 to 0.97
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, asked)))
    with served(folder) as url:
        model = {"backend": "endpoint", "base_url": url, "model": "demo", "max_tokens": 128, "concurrency": 4}
        job = {
            "protocol": "longvideo_r1",
            "attempts": 1,
            "source": {"path": "questions.jsonl", "videos": "."},
            "captioner": {**model, "temperature": 0},
            "teacher": {"backend": "demo"},
            "verifier": {**model, "answer_by": "text", "samples": 12},
            "view": {"overview_frames": 24, "overview_side": 80, "zoom_frames": 8, "zoom_side": 448}
            | {"caption_frames": 12, "caption_side": 80},
            "captions": {"min_width": 2},
        }
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        (tree,), trajectories, verdicts = generate(tmp_path / "job.yaml", tmp_path / "run")
    assert all(node.caption.endswith(".") and node.caption.startswith(("A ", "Several scenes")) for node in tree.nodes)
    right = [v for v in verdicts if v.answer_correct and v.grounding_recall]
    assert len(trajectories) == len(verdicts) == 1 and right
    assert {v.verifier for v in verdicts} == {"demo@12 samples"} and all(v.observations_match for v in verdicts)
    assert sum(v.evidence_gain or 0.0 for v in right) / len(right) > 0.2
