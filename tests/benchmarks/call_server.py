"""A server on loopback that answers every chat alike after a fixed latency, at as little cost as aiohttp allows.

    python -m tests.benchmarks.call_server --latency 1 [--zooms N]

With --zooms it is a teacher of `videozoomer`: it zooms so many times, then answers A.
It prints its address, counts what it is asked, and ends with its parent's pipe.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from urllib.request import urlopen

from aiohttp import web

TEXT = "<think>I look closer.</think><video_zoom>{'segment': [3, 9], 'fps': 2}</video_zoom>" * 4
ZOOM = '<think>I look from 1 s to 3 s.</think><video_zoom> {"segment": [1.0, 3.0], "fps": 2} </video_zoom>'
ANSWER = "<think>Now it is clear.</think><answer>A</answer>"


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text, "refusal": None}
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "scripted",
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}],
        "usage": {"prompt_tokens": 600, "completion_tokens": 80, "total_tokens": 680},
    }
    return json.dumps(document).encode()


REPLY, ZOOMED, ANSWERED = map(completion, (TEXT, ZOOM, ANSWER))


@dataclass
class Seen:
    """Requests answered, requests in the server at this moment, and the most that ever were."""

    answered: int = 0
    now: int = 0
    most: int = 0


def handler(latency_s: float, zooms: int | None, seen: Seen):  # type: ignore[no-untyped-def]
    async def handle(request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            counted = json.dumps(asdict(seen)).encode()
            seen.most = seen.answered = 0
            return web.Response(body=counted, content_type="application/json")
        body = await request.read()
        seen.now += 1
        seen.most = max(seen.most, seen.now)
        await asyncio.sleep(latency_s)
        seen.now -= 1
        seen.answered += 1
        reply = REPLY
        if zooms is not None:
            reply = ZOOMED if body.count(b'"assistant"') < zooms else ANSWERED
        return web.Response(body=reply, content_type="application/json")

    return handle


class CallServer:
    """The server as a child process: `with CallServer(latency_s) as server: server.base_url`."""

    def __init__(self, latency_s: float, zooms: int | None = None) -> None:
        self._command = [sys.executable, "-m", "tests.benchmarks.call_server", "--latency", str(latency_s)]
        self._command += [] if zooms is None else ["--zooms", str(zooms)]

    def __enter__(self) -> "CallServer":
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, cwd=root)
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)

    def seen(self) -> Seen:
        """What it saw since it was last asked."""
        with urlopen(f"{self.base_url}/seen", timeout=30) as answer:
            return Seen(**json.load(answer))


async def _serve(latency_s: float, zooms: int | None) -> None:
    server = web.Server(handler(latency_s, zooms, Seen()), access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=8192).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, required=True)
    parser.add_argument("--zooms", type=int)
    options = parser.parse_args()
    asyncio.run(_serve(options.latency, options.zooms))


if __name__ == "__main__":
    main()
