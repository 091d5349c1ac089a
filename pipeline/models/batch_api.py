"""A provider's batches over HTTP, by OpenAI's interface: `/files` and `/batches`."""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, Any, Final, TypeVar

import httpx2
import openai
from openai.types import Batch
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from pipeline.models.wire import without_key
from schemas.config import Endpoint
from schemas.errors import Fatal, Rejected, Transient

CHAT: Final = "/v1/chat/completions"
"""What a batch asks, and where each of its lines is to go."""

_NAME = "zoomtrail"
"""Entry of a batch's metadata that holds our name for it."""

_PATIENCE_S = 1800.0
"""Seconds for which a provider may be out of reach while a batch is worked on."""

_PASSING = (408, 409, 425, 429)

T = TypeVar("T")


class BatchApi:
    """What can be asked of a provider about batches. Whatever is not answered for long is Fatal, as is a refused key.

    All but `create` may be asked again without harm, and is.
    """

    def __init__(self, config: Endpoint, role: str) -> None:
        self._config = config
        self._role = role
        self._client: openai.AsyncOpenAI | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def upload(self, lines: IO[bytes], name: str) -> str:
        """The id that the provider gives to a file of requests. Raises Rejected where it is refused."""

        async def send() -> str:
            lines.seek(0)
            file = (f"{name}.jsonl", lines, "application/jsonl")
            return (await self._open().files.create(file=file, purpose="batch")).id

        return await self._patiently(send)

    async def create(self, file: str, name: str) -> Batch:
        """Begins a batch. Raises Transient where it may have begun or not, Rejected where it was refused."""
        batches = self._open().batches
        return await self._asked(
            batches.create(
                completion_window="24h",
                endpoint=CHAT,
                input_file_id=file,
                metadata={_NAME: name},
                extra_headers={"Idempotency-Key": f"{name}-{file}"},
            )
        )

    async def find(self, file: str, name: str) -> Batch | None:
        """The batch that was begun with a file or under a name, and has not failed as a whole; None where none was."""

        async def look() -> Batch | None:
            seen: set[str] = set()
            async for batch in self._open().batches.list(limit=100):
                if batch.id in seen:  # a server that knows no pages gives the first one for ever
                    return None
                seen.add(batch.id)
                ours = batch.input_file_id == file or (batch.metadata or {}).get(_NAME) == name
                if ours and batch.status.lower() != "failed":
                    return batch
            return None

        return await self._patiently(look)

    async def state(self, batch: str) -> Batch:
        """How far a batch is. Raises Rejected where the provider does not know it."""
        return await self._patiently(lambda: self._open().batches.retrieve(batch))

    async def cancel(self, batch: str) -> None:
        """Ends a batch early; what it has answered stays. No-op where it is over."""
        try:
            await self._patiently(lambda: self._open().batches.cancel(batch))
        except Rejected:
            return

    async def lines(self, file: str | None) -> list[dict[str, Any]]:
        """The lines of a file of answers or of errors; one that is no JSON object is left out."""
        if file is None:
            return []
        content = await self._patiently(lambda: self._open().files.content(file))
        return [line for line in map(_object, content.content.split(b"\n")) if line is not None]

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Asks until there is an answer. Raises Fatal where none comes for long."""
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_delay(_PATIENCE_S),
                wait=wait_random_exponential(multiplier=0.5, max=60),
                retry=retry_if_exception_type(Transient),
                reraise=True,
            ):
                with attempt:
                    return await self._asked(ask())
        except Transient as error:
            raise Fatal(
                f"the batches of the {self._role} endpoint do not answer: {error}. Run the same command again to go on."
            ) from error
        raise AssertionError("unreachable: tenacity either returns or raises")

    async def _asked(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except openai.APIStatusError as error:
            raise self._by_status(error) from error
        except (openai.APIConnectionError, openai.APIResponseValidationError, ValueError) as error:
            raise Transient(f"{type(error).__name__}: {error}") from error

    def _by_status(self, error: openai.APIStatusError) -> Exception:
        status = error.status_code
        if status in (401, 403):
            return Fatal(f"HTTP {status} from the {self._role} endpoint: the key may not use batches: {_said(error)}")
        if status in _PASSING or status >= 500:
            return Transient(f"HTTP {status}")
        return Rejected("bad_request", f"HTTP {status}: {_said(error)}")

    async def _scrub(self, response: httpx2.Response) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Scrubbed(response.stream, self._config)

    def _open(self) -> openai.AsyncOpenAI:
        if self._client is None:
            config = self._config
            self._client = openai.AsyncOpenAI(
                base_url=config.base_url,
                api_key=os.environ.get(config.api_key_env, "").strip() or "none",
                timeout=config.timeout_s,
                max_retries=0,
                default_headers={"Accept-Encoding": "identity"},  # in a compressed answer the key would not be found
                http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [self._scrub]}),
            )
        return self._client


class _Scrubbed(httpx2.AsyncByteStream):
    """An answer in which a gateway that echoes what it was sent has not shown the key."""

    def __init__(self, stream: httpx2.AsyncByteStream, config: Endpoint) -> None:
        self._stream = stream
        self._config = config

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield without_key(self._config, b"".join([chunk async for chunk in self._stream]))

    async def aclose(self) -> None:
        await self._stream.aclose()


def refused(status: int) -> bool:
    """Whether a request that was answered with this status would be answered so again."""
    return 400 <= status < 500 and status not in _PASSING


def said_in(body: Any) -> str:
    """What an error's body says."""
    error = body.get("error", body) if isinstance(body, dict) else {}
    return str(error.get("message") or error.get("detail") or "")[:300] if isinstance(error, dict) else str(error)[:300]


def _said(error: openai.APIStatusError) -> str:
    return said_in(error.body)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
