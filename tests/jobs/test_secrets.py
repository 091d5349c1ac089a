"""The key of an endpoint stays in the environment, whatever a server sends back."""

import asyncio
import json
import os
import pickle
import shutil
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from pipeline.models.batches import BatchModel
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage
from pipeline.store import read_parquet
from schemas.config import EndpointCaptioner, RunConfig
from schemas.errors import Rejected, UserError
from tests.batch_driver import FAST
from tests.batch_server import BatchServer, serving
from tests.jobfiles import write_job
from tests.jobs.conftest import Command
from tests.scripted_server import Script, Settings, _completion

KEY = "sk-recognisable-4f1d0c2b9a8e7d6c"


class EchoingServer:
    """A scripted server in a thread. It answers some first tries with 500 and some requests with 400, each with the
    request's headers in the message; with `refusing` it answers 401 alone."""

    def __init__(self) -> None:
        self.refusing = False
        self.echoed = 0
        self._script = Script(Settings(careless=0.0))
        self._seen: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "EchoingServer":
        self._thread.start()
        self.base_url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    async def _start(self) -> str:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    async def _chat(self, request: web.Request) -> web.Response:
        body, key = await request.json(), request.headers.get("Idempotency-Key", "")
        first = key not in self._seen
        self._seen.add(key)
        status = 401 if self.refusing else 400 if key[0] in "0123" and len(self._seen) > 5 else 500 if first else 200
        if status == 200:
            return web.json_response(_completion(body, self._script.reply(body, key)[1]))
        self.echoed += KEY in request.headers["Authorization"]
        error = {"message": f"cannot serve {dict(request.headers)}", "type": request.headers["Authorization"]}
        return web.json_response({"error": error, "headers": dict(request.headers)}, status=status)


def content(path: Path) -> bytes:
    """What a file holds, Parquet's compression undone."""
    data = path.read_bytes()
    return repr(read_parquet(data).to_pylist()).encode() if path.suffix == ".parquet" else data


def files_with(text: str, folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in content(path)]


class EchoingBatches(BatchServer):
    """Says the key wherever a provider of batches can say something."""

    async def upload(self, request: web.Request) -> web.Response:
        self.said = f"your headers: {dict(request.headers)}"
        if self.failing == "upload":
            return web.json_response({"error": {"message": self.said}}, status=400)
        return await super().upload(request)

    async def begin(self, request: web.Request) -> web.Response:
        self.failing = self.said if self.failing else ""
        return await super().begin(request)


def test_the_key_is_in_nothing_that_comes_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOED_KEY", KEY)

    async def asked(failing: str, *texts: str) -> list[Any]:
        async with serving(EchoingBatches(failing=failing)) as server:
            config = EndpointCaptioner(model="m", base_url=server.base_url, batch=True, api_key_env="ECHOED_KEY")
            model = BatchModel(config, "captioner", CallStore(str(tmp_path)), pace=FAST)
            chats = [[ChatMessage("user", (text,))] for text in texts]
            outcomes = await asyncio.gather(*map(model.complete, chats), return_exceptions=True)
            await model.close()
            assert KEY in server.said
        return outcomes

    good, bad, *stopped = [
        *asyncio.run(asked("", "one", "refuse two")),
        *asyncio.run(asked("upload", "three")),
        *asyncio.run(asked("batch", "four")),
    ]
    assert "Bearer ***" in good.text and isinstance(bad, Rejected) and "your headers" in bad.message
    assert [type(error) for error in stopped] == [UserError, UserError] and "your headers" in str(stopped[0])
    for error in (bad, *stopped):
        assert KEY not in "".join(traceback.format_exception(error))
    assert files_with("***", tmp_path / "calls") and files_with(KEY, tmp_path) == []


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Ray's own files of a run. The names of its sockets must be short."""
    folder = Path(tempfile.mkdtemp(prefix="zr", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_the_key_is_in_no_file_no_log_and_nothing_that_is_said(
    tmp_path: Path, ray_folder: Path, zoomtrail: Command
) -> None:
    env = {**os.environ, "ECHOED_KEY": KEY, "RAY_TMPDIR": str(ray_folder)}
    with EchoingServer() as server:
        job = write_job(tmp_path, server.base_url, "videozoomer", n_videos=1, teacher={"api_key_env": "ECHOED_KEY"})
        finished = zoomtrail("generate", job, "--out", tmp_path / "run", env=env)
        assert finished.returncode == 0, finished.stderr
        assert server.echoed > 3
        server.refusing = True
        refused = zoomtrail("generate", job, "--out", tmp_path / "refused", env=env)
        assert refused.returncode == 1 and "the key was refused" in refused.stderr
        checked = zoomtrail("doctor", job, env=env)
    said = "".join(result.stdout + result.stderr for result in (finished, refused, checked))
    assert KEY not in said
    assert files_with("cannot serve", tmp_path / "run" / "trajectories") and files_with("***", tmp_path / "run")
    assert files_with(KEY, tmp_path) == []
    assert list(ray_folder.rglob("*.log")) or list(ray_folder.rglob("*.out"))
    assert files_with(KEY, ray_folder) == []
    config = RunConfig.model_validate(yaml.safe_load(job.read_text()))
    assert KEY.encode() not in pickle.dumps(config) and KEY not in json.dumps(config.model_dump(mode="json"))
