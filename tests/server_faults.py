"""What can go wrong between a client and a server: each fault as it looks on the wire."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

SHARES = {
    "HTTP 429": 0.10,
    "HTTP 500": 0.10,
    "reset": 0.05,
    "hang": 0.05,
    "truncated": 0.06,
    "empty": 0.05,
    "gigantic": 0.05,
}
"""How likely each is to meet a request, at every try anew."""

GIGANTIC_BYTES = 1 << 26
_CHUNK = b" " * (1 << 20)


def fault_for(key: str, nth: int) -> str:
    """The fault that meets the n-th request with a key, "" for none."""
    dice = random.Random(f"fault {key} {nth}").random()
    for name, share in SHARES.items():
        if dice < share:
            return name
        dice -= share
    return ""


def status_of(fault: str) -> int:
    """The HTTP status that a client sees of it; 0 where it does not get a whole reply of a model."""
    return int(fault[5:]) if fault.startswith("HTTP ") else 0


async def commit(fault: str, request: web.Request, hang_s: float) -> web.StreamResponse:
    """Answers a request with a fault. hang_s: seconds for which nothing comes where it is a hang."""
    if fault == "HTTP 429":
        return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.3"})
    if fault == "HTTP 500":
        return web.json_response({"error": {"message": "broken"}}, status=500)
    return await _BAD_REPLIES[fault](request, hang_s)


async def _reset(request: web.Request, _: float) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _hang(_: web.Request, hang_s: float) -> web.StreamResponse:
    await asyncio.sleep(hang_s)
    return web.Response()


async def _truncated(_: web.Request, __: float) -> web.StreamResponse:
    return web.Response(text='{"id": "x", "choices": [{"index": 0, "mess', content_type="application/json")


async def _empty(_: web.Request, __: float) -> web.StreamResponse:
    return web.Response(content_type="application/json")


async def _gigantic(request: web.Request, _: float) -> web.StreamResponse:
    """A reply that goes on and on, until the client has had enough of it."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    with suppress(ConnectionError):
        for _sent in range(GIGANTIC_BYTES // len(_CHUNK)):
            await response.write(_CHUNK)
    return response


_BAD_REPLIES: dict[str, Callable[[web.Request, float], Awaitable[web.StreamResponse]]] = {
    "reset": _reset,
    "hang": _hang,
    "truncated": _truncated,
    "empty": _empty,
    "gigantic": _gigantic,
}
