"""Bytes out to an OpenAI-compatible server and its answer back: over pooled connections, bounded in time and size."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx2
import openai

from pipeline.models.replies import Response
from schemas.config import Endpoint
from schemas.errors import Transient

MOST_BYTES = 1 << 24
"""Of a reply: several times what the longest real one has, so that a server gone wild cannot fill the memory."""

_CONNECT_S = 30.0
_LEAST_SECRET = 8
"""Bytes of a key that is looked for in replies: a shorter one (`none`) may be an ordinary word."""

_TOLD_IN = ("retry-after", "x-ratelimit", "x-request-id")
"""How the headers begin in which a server says more of an error."""

_KEPT_S = 60.0
"""Seconds that an idle connection is kept open."""


class Unanswered(Transient):
    """No usable answer came. cause: in a few words, for counting; after_s: seconds that the server asked to wait.

    for_all: it wants no other call before, either.
    """

    def __init__(self, cause: str, message: str, after_s: float = 0.0, for_all: bool = False) -> None:
        super().__init__(message)
        self.cause = cause
        self.after_s = after_s
        self.for_all = for_all


class _TooLarge(Exception):
    """More than `MOST_BYTES` came."""


@dataclass(frozen=True)
class _Line:
    """What all requests to one server share."""

    client: httpx2.AsyncClient
    url: httpx2.URL
    headers: dict[str, str] = field(repr=False)
    secret: bytes = field(repr=False)
    extensions: dict[str, Any]


class Wire:
    """The connections of one role to its server: as many as calls may be in flight, kept open between calls.

    They are those of `openai`'s asynchronous client, without the models that it makes of each request and reply:
    these take more time than all that we do to a call.
    """

    def __init__(self, config: Endpoint) -> None:
        self._config = config
        self._line: _Line | None = None

    def open(self) -> _Line:
        """Makes ready what the first call needs; no-op where it is."""
        if self._line is None:
            self._line = _opened(self._config)
        return self._line

    async def post(self, body: dict[str, Any], key: str) -> Response:
        """The completion that the server answers to a chat. body: the request; key: sent as `Idempotency-Key`.

        Raises openai.APIStatusError where the status is not 2xx, and Unanswered where no completion came: a connection
        lost, `timeout_s` over, a reply that is broken or too large.
        """
        line, model = self.open(), self._config.model
        try:
            async with asyncio.timeout(self._config.timeout_s):
                answer = await _sent(line, _encoded(body), key)
        except _TooLarge as error:
            raise Unanswered("reply too large", f"{model}: a reply of more than {MOST_BYTES >> 20} MiB") from error
        except (httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            causes = _causes(error)
            if any(isinstance(cause, TimeoutError) for cause in causes):
                raise Unanswered("timeout", f"{model}: no reply within {self._config.timeout_s:g} s") from error
            raise Unanswered("connection", f"{model}: {type(causes[-1]).__name__}: {causes[-1]}") from error
        content = _without(line.secret, answer.content)
        if not answer.is_success:
            raise _refusal(answer, content)
        return _completion(content, model)

    async def close(self) -> None:
        if self._line is not None:
            await self._line.client.aclose()
            self._line = None


def _opened(config: Endpoint) -> _Line:
    client = openai.DefaultAioHttpClient(
        limits=httpx2.Limits(max_connections=config.concurrency, keepalive_expiry=_KEPT_S),
        event_hooks={"response": [_bound]},
    )
    secret = os.environ.get(config.api_key_env, "").strip() or "none"
    # It knows what else the environment says, such as an organisation.
    known = openai.AsyncOpenAI(base_url=config.base_url, api_key=secret, http_client=client)
    url = httpx2.URL(f"{known.base_url}chat/completions")
    headers = {"Host": url.netloc.decode(), **known.default_headers, **known.auth_headers}
    told = {name: value for name, value in headers.items() if isinstance(value, str) and "Stainless" not in name}
    told["Accept-Encoding"] = "identity"  # a compressed reply has no bound
    timeout = httpx2.Timeout(config.timeout_s, connect=min(config.timeout_s, _CONNECT_S))
    return _Line(client, url, told, secret.encode(), {"timeout": timeout.as_dict()})


async def _sent(line: _Line, body: bytes, key: str) -> httpx2.Response:
    headers = {**line.headers, "Idempotency-Key": key}
    request = httpx2.Request("POST", line.url, headers=headers, content=body, extensions=line.extensions)
    return await line.client.send(request)


class _Bounded(httpx2.AsyncByteStream):
    """A reply's bytes. Raises _TooLarge beyond `MOST_BYTES`."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MOST_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise _TooLarge
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream)


def _encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _completion(content: bytes, model: str) -> Response:
    """The chat completion in a reply, which may hold no choices. Raises Unanswered where it is none."""
    try:
        completion: Response = json.loads(content)
        if all(isinstance(choice, dict) for choice in completion.get("choices") or ()):
            return completion
    except (ValueError, AttributeError, TypeError) as error:
        raise Unanswered("broken JSON", f"{model}: the reply is no completion ({error})") from error
    raise Unanswered("broken JSON", f"{model}: the reply is no completion")


def _without(secret: bytes, content: bytes) -> bytes:
    """A reply in which a gateway that echoes what it was sent has not shown the key."""
    return content.replace(secret, b"***") if len(secret) >= _LEAST_SECRET else content


def without_key(config: Endpoint, content: bytes) -> bytes:
    """The same for what came some other way than over a `Wire`."""
    return _without(os.environ.get(config.api_key_env, "").strip().encode(), content)


def _refusal(answer: httpx2.Response, content: bytes) -> openai.APIStatusError:
    """The error in an answer, of which nothing holds the headers that were sent: they would go along in a pickle."""
    headers = {name: value for name, value in answer.headers.items() if name.startswith(_TOLD_IN)}
    request = httpx2.Request(answer.request.method, answer.request.url)
    plain = httpx2.Response(answer.status_code, headers=headers, content=content, request=request)
    return openai.APIStatusError(f"HTTP {answer.status_code}", response=plain, body=_told(content))


def _told(content: bytes) -> object:
    """What a server says of an error: the object under `error` where it keeps to OpenAI's form, else the whole."""
    try:
        told = json.loads(content)
    except ValueError:
        return content.decode(errors="replace")
    return told.get("error", told) if isinstance(told, dict) else told


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what it came from, the first cause last: the layers in between only say that something failed."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    return chain
