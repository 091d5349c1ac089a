"""A provider with batches on loopback, by OpenAI's `/files` and `/batches`: works, tarries, forgets, errs and counts.

What becomes of a request is written in its text: `refuse` (400), `break` (500 in its line), `late 2` (unanswered by the
first two batches that hold it), `torn` (broken off by an error of the server's, the first time), `mute` (never answered
by a batch). A caption is given where one is asked for; all else is answered by its text in capitals.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

_FOREIGN = {"id": "foreign", "object": "batch", "status": "in_progress", "input_file_id": "f", "metadata": None}


@dataclass
class BatchServer:
    """work_s: seconds until a batch is over; answer_after_s: before a begun batch is told of.

    no_room: batches that fail as the queue is full; lost: answers about begun batches that get lost; failing: message
    with which every batch fails. unsupported: fields that no request may have, as of OpenAI's reasoning models; said:
    what replies and refusals say in place of the usual. paid: how often each key was answered for money; batches: all
    that were begun.
    """

    work_s: float = 0.1
    answer_after_s: float = 0.0
    no_room: int = 0
    lost: int = 0
    failing: str = ""
    unsupported: tuple[str, ...] = ()
    said: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    paid: Counter[str] = field(default_factory=Counter)
    live: list[str] = field(default_factory=list)
    tried: Counter[str] = field(default_factory=Counter)
    base_url: str = ""

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch" and isinstance(form["file"], web.FileField)
        return web.json_response(_file(self._keep(form["file"].file.read())))

    async def content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])

    async def begin(self, request: web.Request) -> web.Response:
        asked = await request.json()
        batch = {
            "id": f"batch_{len(self.batches)}",
            "object": "batch",
            "created_at": 0,
            "completion_window": "24h",
            "status": "in_progress",
            "ends_at": asyncio.get_running_loop().time() + self.work_s,
            **{name: asked[name] for name in ("endpoint", "input_file_id", "metadata")},
        }
        self.batches[batch["id"]] = batch
        if self.no_room > 0:
            self.no_room -= 1
            self._fail(batch, "token_limit_exceeded", "Enqueued token limit reached")
        elif self.failing:
            self._fail(batch, "invalid", self.failing)
        else:
            self._work(batch)
        if self.lost > 0:
            self.lost -= 1
            return web.json_response({"error": {"message": "lost"}}, status=500)
        await asyncio.sleep(self.answer_after_s)
        return web.json_response(self._shown(batch))

    async def state(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return web.json_response({"error": {"message": "no such batch"}}, status=404)
        return web.json_response(self._shown(batch))

    async def listed(self, _: web.Request) -> web.Response:
        """One page for ever, with somebody else's batch on it."""
        shown = [_FOREIGN, *map(self._shown, self.batches.values())]
        return web.json_response({"object": "list", "data": shown})

    async def cancel(self, request: web.Request) -> web.Response:
        """Half of the lines were answered by then."""
        batch = self.batches[request.match_info["id"]]
        if self._shown(batch)["status"] != "in_progress":
            return web.json_response({"error": {"message": "it is over"}}, status=400)
        done, left = (lines := self._lines(batch["output_file_id"]))[: len(lines) // 2], lines[len(lines) // 2 :]
        self.paid.subtract(line["custom_id"] for line in left)
        batch |= {"status": "cancelled", "ends_at": 0, "output_file_id": self._keep(_jsonl(done))}
        return web.json_response(self._shown(batch))

    async def chat(self, request: web.Request) -> web.Response:
        body, key = await request.json(), request.headers["Idempotency-Key"]
        self.live.append(key)
        self.paid[key] += 1
        return web.json_response(_completion(body))

    def _keep(self, data: bytes) -> str:
        self.files[f"file_{len(self.files)}"] = data
        return f"file_{len(self.files) - 1}"

    def _lines(self, file: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files[file].splitlines()]

    def _fail(self, batch: dict[str, Any], code: str, message: str) -> None:
        batch |= {"status": "failed", "errors": {"object": "list", "data": [{"code": code, "message": message}]}}

    def _work(self, batch: dict[str, Any]) -> None:
        answered, failed = [], []
        for line in self._lines(batch["input_file_id"]):
            key, body = line["custom_id"], line["body"]
            assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
            self.tried[key] += 1
            word, _, number = _text(body).partition(" ")
            if alien := [name for name in self.unsupported if name in body]:
                answer = {"status_code": 400, "body": {"error": _unsupported(alien[0])}}
            elif word == "refuse":
                answer = {"status_code": 400, "body": {"error": {"message": self.said or "too many pictures"}}}
            elif word == "break":
                answer = {"status_code": 500, "body": {}}
            elif word == "mute" or (word == "late" and self.tried[key] <= int(number)):
                failed.append(
                    {"custom_id": key, "response": None, "error": {"code": "batch_expired", "message": "late"}}
                )
                continue
            else:
                self.paid[key] += 1
                torn = word == "torn" and self.tried[key] == 1
                answer = {"status_code": 200, "body": _completion(body, self.said, "error" if torn else "stop")}
            answered.append({"id": "r", "custom_id": key, "response": answer, "error": None})
        batch["output_file_id"] = self._keep(_jsonl(answered))
        batch["error_file_id"] = self._keep(_jsonl(failed) + b"\nno json\n[]\n") if failed else None

    def _shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch as it is by now: its files are named when it is over."""
        over = asyncio.get_running_loop().time() >= batch["ends_at"]
        if batch["status"] == "in_progress" and over:
            batch["status"] = "expired" if batch["error_file_id"] else "completed"
        hidden = ("output_file_id", "error_file_id", "ends_at") if batch["status"] == "in_progress" else ("ends_at",)
        return {name: value for name, value in batch.items() if name not in hidden}


@asynccontextmanager
async def serving(server: BatchServer) -> AsyncIterator[BatchServer]:
    """The server on a port of loopback."""
    app = web.Application(client_max_size=1 << 28)
    app.router.add_post("/v1/files", server.upload)
    app.router.add_get("/v1/files/{id}/content", server.content)
    app.router.add_post("/v1/batches", server.begin)
    app.router.add_get("/v1/batches", server.listed)
    app.router.add_get("/v1/batches/{id}", server.state)
    app.router.add_post("/v1/batches/{id}/cancel", server.cancel)
    app.router.add_post("/v1/chat/completions", server.chat)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


def _text(body: dict[str, Any]) -> str:
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else str(content[0]["text"])


def _unsupported(name: str) -> dict[str, Any]:
    instead = ". Use 'max_completion_tokens' instead" if name == "max_tokens" else ""
    message = f"Unsupported parameter: '{name}' is not supported with this model{instead}."
    return {"message": message, "type": "invalid_request_error", "param": name, "code": "unsupported_parameter"}


def _completion(body: dict[str, Any], said: str = "", finish: str = "stop") -> dict[str, Any]:
    text = said if said else "<caption>A scene.</caption>" if "<caption>" in json.dumps(body) else _text(body).upper()
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    about = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
    return {**about, "choices": [choice], "usage": usage}


def _file(name: str) -> dict[str, Any]:
    about = {"object": "file", "bytes": 0, "created_at": 0, "filename": "x.jsonl", "purpose": "batch"}
    return {"id": name, "status": "processed", **about}


def _jsonl(lines: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
