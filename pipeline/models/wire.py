"""Bytes out to an OpenAI-compatible server and its answer back, over pooled connections, bounded in time and in size."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx2
import openai

from schemas.config import Endpoint
from schemas.errors import Transient

MOST_BYTES = 1 << 24
"""Of a reply: ten times what the longest real one has, so that a server gone wild cannot fill the memory."""

_CONNECT_S = 30.0


class Unanswered(Transient):
    """No usable answer came. cause: in a few words, for counting; after_s: seconds that the server asked to wait."""

    def __init__(self, cause: str, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.cause = cause
        self.after_s = after_s

    def __reduce__(self) -> tuple[type["Unanswered"], tuple[str, str, float]]:
        return type(self), (self.cause, str(self), self.after_s)


class _TooLarge(openai.OpenAIError):
    """More than `MOST_BYTES` came. An error of `openai`'s, which it hands on as it is."""


class Wire:
    """The connections of one role to its server: as many as calls may be in flight, kept open between calls."""

    def __init__(self, config: Endpoint) -> None:
        self._config = config
        self._client: openai.AsyncOpenAI | None = None

    async def post(self, body: bytes, key: str) -> Any:
        """The JSON that the server answers to a chat. body: the request's JSON; key: sent as `Idempotency-Key`.

        Raises openai.APIStatusError as it is, and Unanswered where no JSON came: a lost connection, `timeout_s` over,
        a broken or endless reply.
        """
        model = self._config.model
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "Idempotency-Key": key}
        try:
            async with asyncio.timeout(self._config.timeout_s):
                answer = await self._open().post(
                    "/chat/completions", content=body, cast_to=httpx2.Response, options={"headers": headers}
                )
            return json.loads(answer.content)
        except openai.APIStatusError:
            raise
        except (TimeoutError, openai.APITimeoutError) as error:
            raise Unanswered("timeout", f"{model}: no reply within {self._config.timeout_s:g} s") from error
        except _TooLarge as error:
            raise Unanswered("endless reply", f"{model}: a reply of more than {MOST_BYTES >> 20} MiB") from error
        except ValueError as error:
            raise Unanswered("broken JSON", f"{model}: the reply is no JSON ({error})") from error
        except (openai.APIConnectionError, aiohttp.ClientError, OSError) as error:
            raise Unanswered("connection", f"{model}: {_root(error)}") from error

    def _open(self) -> openai.AsyncOpenAI:
        if self._client is None:
            config = self._config
            timeout = openai.Timeout(config.timeout_s, connect=min(config.timeout_s, _CONNECT_S))
            self._client = openai.AsyncOpenAI(
                base_url=config.base_url,
                api_key=os.environ.get(config.api_key_env) or "none",
                timeout=timeout,
                max_retries=0,
                http_client=openai.DefaultAioHttpClient(
                    timeout=timeout,
                    limits=httpx2.Limits(max_connections=config.concurrency, keepalive_expiry=60.0),
                    event_hooks={"response": [_bound]},
                ),
            )
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None


class _Bounded(httpx2.AsyncByteStream):
    """A reply's bytes, up to `MOST_BYTES`. Raises _TooLarge beyond."""

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


def _root(error: BaseException) -> str:
    """The first cause of an error, in one line: `openai` and `httpx` only say that the connection failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
