"""A scripted OpenAI-compatible server over real HTTP on loopback: it captions, zooms, answers, errs and counts.

Replies are a pure function of the request and its Idempotency-Key, so that an interrupted run can be compared with an
undisturbed one. It may be told the reference answers and clue intervals (a teacher that is often right); nothing
else of the truth. Every request is logged as one JSON line: key, kind, begin, end, status, fault. The status is
200 only for a reply that a client got whole.

    python -m tests.scripted_server --log calls.jsonl [--truth questions.jsonl] [--latency 0.05] [--errors 0.1]
"""

import argparse
import asyncio
import hashlib
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from tests.server_faults import commit, fault_for, status_of

_TIME = re.compile(r"<frame\d+_time(\d+(?:\.\d+)?)s>")
_DURATION = re.compile(r"total duration of the video is (\d+(?:\.\d+)?)")
_HIGH = re.compile(r"High-level Caption (\d+) from")
_OPTION = re.compile(r"^\(?([A-Z])[.)] (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Settings:
    """latency_s: seconds before each reply; errors: share of requests that fail at first; careless: of teacher turns
    that break the protocol or leave the video; wrong: of answers that are wrong although the truth is known; hang_s:
    where not 0, requests meet all faults of `tests/server_faults.py`, and a hang lasts so many seconds."""

    latency_s: float = 0.02
    errors: float = 0.0
    careless: float = 0.08
    wrong: float = 0.25
    hang_s: float = 0.0


@dataclass
class Script:
    """What the server says. truth: question text -> (letter or text of the answer, clue intervals)."""

    settings: Settings
    truth: dict[str, tuple[str, list[list[float]]]] = field(default_factory=dict)

    def reply(self, body: dict[str, Any], key: str) -> tuple[str, str]:
        """(kind of request, text of the reply)."""
        dice = random.Random(hashlib.sha256((json.dumps(body, sort_keys=True) + key).encode()).hexdigest())
        texts = [_text(message) for message in body["messages"]]
        prompt = "\n".join(texts)
        if "<video_zoom>" in prompt:
            return "teacher", self._videozoomer(prompt, texts, dice)
        if "get_caption" in prompt:
            return "teacher", self._longvideo_r1(prompt, texts, dice)
        if "Video frame at" in prompt:
            return "answerer", f"<reasoning>I looked.</reasoning><answer>Something {dice.choice(_COLOURS)}.</answer>"
        if "<caption>" in prompt:
            return (
                "captioner",
                f"<caption>A {dice.choice(_COLOURS)} scene, then a {dice.choice(_COLOURS)} one.</caption>",
            )
        return "unknown", "I do not know this kind of request."

    def _videozoomer(self, prompt: str, texts: list[str], dice: random.Random) -> str:
        duration = max((float(t) for t in _TIME.findall(texts[1])), default=10.0)
        turns = sum(text.startswith("<think>") for text in texts)
        if dice.random() < self.settings.careless:
            return dice.choice(["no tags at all", "<think>hm</think><video_zoom>{bad json}</video_zoom>", ""])
        if turns < dice.choice([1, 1, 2]) and "Do not call" not in texts[-1]:
            start, end = self._span(prompt, duration, dice)
            fps = max(1, min(2, int(15 / max(end - start, 1))))
            call = json.dumps({"segment": [start, end], "fps": fps})
            return f"<think>I look from {start} s to {end} s.</think><video_zoom> {call} </video_zoom>"
        return f"<think>Now it is clear.</think><answer>{self._answer(prompt, dice)}</answer>"

    def _longvideo_r1(self, prompt: str, texts: list[str], dice: random.Random) -> str:
        width = max((int(n) for n in _HIGH.findall(prompt)), default=4)
        turns = sum(text.startswith("<think>") for text in texts)
        h, m, low = (dice.randint(1, width) for _ in range(3))
        if dice.random() < self.settings.careless:
            return dice.choice(["no tags at all", f"<think>hm</think><tool>get_caption(({width + 3},1))</tool>"])
        if turns == 0:
            return f"<think>Segment ({h},{m}) may show it.</think><tool>get_caption(({h},{m}))</tool>"
        if turns == 1:
            return f"<think>Closer: ({h},{m},{low}).</think><tool>get_caption(({h},{m},{low}))</tool>"
        if turns == 2 and dice.random() < 0.4:
            leaf = f"({h},{m},{low})"
            return f"<think>I ask about {leaf}.</think><tool>video_qa({leaf}, What is shown here?)</tool>"
        return f"<think>Now it is clear.</think><answer>{self._answer(prompt, dice)}</answer>"

    def _known(self, prompt: str) -> tuple[str, list[list[float]]] | None:
        return next((truth for question, truth in self.truth.items() if question in prompt), None)

    def _span(self, prompt: str, duration: float, dice: random.Random) -> tuple[float, float]:
        known = self._known(prompt)
        if known and known[1] and dice.random() < 0.7:
            middle = sum(dice.choice(known[1])) / 2
        else:
            middle = dice.uniform(0, duration)
        start = round(max(0.0, min(middle - 3, duration - 6)), 1)
        return start, round(min(start + 6, duration), 1)

    def _answer(self, prompt: str, dice: random.Random) -> str:
        known = self._known(prompt)
        if known and dice.random() >= self.settings.wrong:
            return known[0]
        return dice.choice([letter for letter, _ in _OPTION.findall(prompt)] or ["A"])


_COLOURS = ("red", "green", "blue", "grey", "yellow", "white", "dark")


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


@dataclass
class Server:
    """Counts and logs what it is asked. api_key: requests without it are refused, "" for none; seen: how often each
    idempotency key came."""

    script: Script
    log: Path
    api_key: str = ""
    seen: Counter[str] = field(default_factory=Counter)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        begin = time.time()
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return web.json_response({"error": {"message": "incorrect API key"}}, status=401)
        body = await request.json()
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            return web.json_response({"error": {"message": "no Idempotency-Key"}}, status=400)
        self.seen[key] += 1
        kind, text = self.script.reply(body, key)
        settings = self.script.settings
        fault = fault_for(key, self.seen[key]) if settings.hang_s else self._failure(key)
        await asyncio.sleep(settings.latency_s)
        gone = request.transport is None or request.transport.is_closing()
        status = 0 if gone else status_of(fault) if fault else 200
        line = {"key": key, "kind": kind, "begin": begin, "end": time.time(), "status": status, "fault": fault}
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return await commit(fault, request, settings.hang_s) if fault else web.json_response(_completion(body, text))

    def _failure(self, key: str) -> str:
        """An error for the first try of some requests, "" for none."""
        dice = random.Random("error" + key)
        if self.seen[key] > 1 or dice.random() >= self.script.settings.errors:
            return ""
        return "HTTP 429" if dice.random() < 0.5 else "HTTP 500"

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "scripted", "object": "model"}]})


def _completion(body: dict[str, Any], text: str) -> dict[str, Any]:
    prompt = sum(len(_text(m)) for m in body["messages"]) // 4
    images = sum(
        1 for m in body["messages"] if isinstance(m["content"], list) for p in m["content"] if "image_url" in p
    )
    return {
        "id": "scripted",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {
            "prompt_tokens": prompt + 100 * images,
            "completion_tokens": len(text) // 4,
            "total_tokens": prompt + 100 * images + len(text) // 4,
        },
    }


def load_truth(path: Path) -> dict[str, tuple[str, list[list[float]]]]:
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {row["question"]: (row["answer"], row.get("clue_intervals") or []) for row in rows}


class ScriptedServer:
    """The server as a child process: `with ScriptedServer(log, …) as server: server.base_url`."""

    def __init__(
        self,
        log: Path,
        truth: Path | None = None,
        latency_s: float = 0.02,
        errors: float = 0.0,
        careless: float = 0.08,
        hang_s: float = 0.0,
        api_key: str = "",
    ) -> None:
        self.log = log
        command = [sys.executable, "-m", "tests.scripted_server", "--log", str(log)]
        command += ["--latency", str(latency_s), "--errors", str(errors), "--careless", str(careless)]
        command += ["--hang", str(hang_s), "--api-key", api_key]
        self._command = command + (["--truth", str(truth)] if truth else [])

    def __enter__(self) -> "ScriptedServer":
        root = Path(__file__).parent.parent
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, cwd=root)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"the scripted server did not start: {line!r}")
        self.base_url = line.removeprefix("listening on ").strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)

    def calls(self) -> list[dict[str, Any]]:
        """Every request answered so far: key, kind, begin, end (Unix seconds), status, fault."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]


async def _serve(server: Server) -> None:
    app = web.Application(client_max_size=1 << 28)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_get("/v1/models", server.models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    print(f"listening on http://127.0.0.1:{port}/v1", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--errors", type=float, default=0.0)
    parser.add_argument("--careless", type=float, default=0.08)
    parser.add_argument("--hang", type=float, default=0.0)
    parser.add_argument("--api-key", default="")
    options = parser.parse_args()
    settings = Settings(options.latency, options.errors, options.careless, hang_s=options.hang)
    script = Script(settings, load_truth(options.truth) if options.truth else {})
    asyncio.run(_serve(Server(script, options.log, options.api_key)))


if __name__ == "__main__":
    main()
