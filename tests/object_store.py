"""An S3-compatible server on loopback, with a proxy before it that counts requests and commits faults on the wire."""

import asyncio
import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, web
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

BUCKET = "films"
SECRET = "a-secret-of-the-store"
_SLOW_DOWN = "<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"
_DENIED = "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@dataclass(frozen=True)
class Seen:
    """A request that came. key: path without the bucket; query: as it stood in the URL; fault: "" for none.

    sent: bytes of the answer; at: Unix seconds when it was ready.
    """

    method: str
    key: str
    query: str
    status: int
    fault: str
    conditional: bool
    sent: int
    at: float

    @property
    def kind(self) -> str:
        return "LIST" if self.method == "GET" and "list-type" in self.query else self.method


Fault = Callable[[int, str, str], str]
"""From the number, method and path of a request to what befalls it: "" or a key of `_FAULTS`."""


class ObjectStore:
    """The proxy. faults may be set at any time; seen: all requests since `forget`."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._numbers = itertools.count()
        self._condition = asyncio.Lock()
        self.seen: list[Seen] = []
        self.faults: Fault = lambda number, method, path: ""
        self.url = ""

    @property
    def env(self) -> dict[str, str]:
        """The standard variables by which a client finds the store."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def counts(self) -> Counter[str]:
        """Requests by kind: GET, PUT, LIST, HEAD, DELETE, POST."""
        return Counter(one.kind for one in self.seen)

    @property
    def sent(self) -> int:
        """Bytes of all answers."""
        return sum(one.sent for one in self.seen)

    def forget(self) -> None:
        self.seen.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fault = self.faults(next(self._numbers), request.method, request.path)
        response = await _FAULTS[fault](self, request, body)
        key = request.path.removeprefix(f"/{BUCKET}").lstrip("/")
        conditional = "If-None-Match" in request.headers
        sent = len(response.body) if isinstance(response, web.Response) and isinstance(response.body, bytes) else 0
        told = (request.method, key, request.query_string, response.status, fault, conditional, sent, time.time())
        self.seen.append(Seen(*told))
        return response

    async def forward(self, request: web.Request, body: bytes) -> web.Response:
        """The server's own answer. Two conditional requests never overlap there, as they never do in S3 itself."""
        if "If-None-Match" in request.headers:
            async with self._condition:
                return await self._forward(request, body)
        return await self._forward(request, body)

    async def _forward(
        self, request: web.Request, body: bytes, without: AbstractSet[str] = frozenset()
    ) -> web.Response:
        dropped = _OF_THE_HOP | without
        headers = {name: value for name, value in request.headers.items() if name.lower() not in dropped}
        url = f"{self._server}{request.raw_path}"
        async with (
            ClientSession(connector=TCPConnector(force_close=True), auto_decompress=False) as session,
            session.request(request.method, _verbatim(url), data=body, headers=headers) as answer,
        ):
            data = await answer.read()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_THE_HOP}
            if request.method == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            return web.Response(status=answer.status, body=data, headers=kept)


_OF_THE_HOP = {"connection", "transfer-encoding", "content-length", "expect", "date", "server"}


def _verbatim(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)


async def _none(store: ObjectStore, request: web.Request, body: bytes) -> web.StreamResponse:
    return await store.forward(request, body)


async def _slow(store: ObjectStore, request: web.Request, body: bytes) -> web.StreamResponse:
    await asyncio.sleep(0.5)
    return await store.forward(request, body)


async def _slow_down(store: ObjectStore, request: web.Request, body: bytes) -> web.StreamResponse:
    return web.Response(status=503, text=_SLOW_DOWN, content_type="application/xml")


async def _denied(store: ObjectStore, request: web.Request, body: bytes) -> web.StreamResponse:
    return web.Response(status=403, text=_DENIED, content_type="application/xml")


async def _no_upload(store: ObjectStore, request: web.Request, body: bytes) -> web.StreamResponse:
    """Of a store that knows an upload in parts no more, once it has completed it."""
    text = "<?xml version='1.0'?><Error><Code>NoSuchUpload</Code><Message>No such upload</Message></Error>"
    return web.Response(status=404, text=text, content_type="application/xml")


async def _unknown(store: ObjectStore, request: web.Request, body: bytes) -> web.StreamResponse:
    """Of a store that has no conditional PUT, and says so."""
    if "If-None-Match" not in request.headers:
        return await store.forward(request, body)
    text = "<?xml version='1.0'?><Error><Code>NotImplemented</Code><Message>A header</Message></Error>"
    return web.Response(status=501, text=text, content_type="application/xml")


async def _ignored(store: ObjectStore, request: web.Request, body: bytes) -> web.StreamResponse:
    """Of a store that has no conditional PUT, and does not say so."""
    return await store._forward(request, body, {"if-none-match"})


async def _reset(store: ObjectStore, request: web.Request, body: bytes) -> web.StreamResponse:
    """The connection breaks before the server hears of it."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _lost(store: ObjectStore, request: web.Request, body: bytes) -> web.StreamResponse:
    """The server does it, and the connection breaks before it can say so."""
    await store.forward(request, body)
    return await _reset(store, request, body)


async def _truncated(store: ObjectStore, request: web.Request, body: bytes) -> web.StreamResponse:
    """An answer that announces more bytes than come."""
    whole = await store.forward(request, body)
    data = whole.body if isinstance(whole.body, bytes) else b""
    if request.method != "GET" or len(data) < 2:
        return whole
    headers = {**whole.headers, "Content-Length": str(len(data))}
    response = web.StreamResponse(status=whole.status, headers=headers)
    with suppress(ConnectionError):
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


_FAULTS: dict[str, Callable[[ObjectStore, web.Request, bytes], Any]] = {
    "": _none,
    "slow": _slow,
    "503": _slow_down,
    "403": _denied,
    "no upload": _no_upload,
    "501": _unknown,
    "ignored": _ignored,
    "reset": _reset,
    "lost": _lost,
    "truncated": _truncated,
}


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """The server and its proxy, with an empty bucket; both end with the block."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    store, loop = ObjectStore(f"http://{host}:{port}"), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(_serve(store), loop).result()
    try:
        yield store
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.stop()


async def _serve(store: ObjectStore) -> web.AppRunner:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", store.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    store.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    return runner


@contextmanager
def reached(store: ObjectStore) -> Iterator[ObjectStore]:
    """This process and its children reach the store by the standard variables; the bucket is there, and empty."""
    import fsspec

    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store.faults = lambda number, method, path: ""
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # else those of an earlier server are found again
        fs = fsspec.filesystem("s3", use_listings_cache=False)
        if fs.exists(BUCKET):
            fs.rm(BUCKET, recursive=True)
        fs.mkdir(BUCKET)
        store.forget()
        yield store
