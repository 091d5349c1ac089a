"""A model behind an OpenAI-compatible server."""

import asyncio
import base64
import hashlib
import os
import time
from collections.abc import Sequence
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pipeline.models.calls import CallStore
from pipeline.models.chat import CallCounts, ChatMessage, Reply
from pipeline.models.replies import Response, reply_of
from schemas.config import Endpoint
from schemas.errors import Fatal, Rejected, Transient, UserError
from schemas.record import content_id

_REFUSED_FROM_THE_START = 5
"""Requests refused one after the other, before any was answered, that show a setting to be wrong."""

_backoff = wait_random_exponential(multiplier=0.5, max=60)


class _RetryLater(Transient):
    """A transient error; after_s: seconds the server asked to wait, 0 where it did not."""

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.after_s if isinstance(error, _RetryLater) else 0.0
    return max(asked, _backoff(state)) if asked == 0 else asked


class EndpointModel:
    """Calls one model; every reply is durable before it is parsed, and an identical request is never sent twice.

    A request's key is the hash of all that is sent (images by their hash), with the model's name, sampling and
    sample number. It goes along as `Idempotency-Key`, so that a gateway that knows that header can recognise a
    repeated call. A 401, 403 or 404 is Fatal; another 4xx is this request's fault (Rejected); 408, 409, 425, 429,
    5xx, timeouts, lost connections and broken JSON are retried with jittered backoff or as `Retry-After` says. When
    the retries of a call are used up, it is Rejected if the server answered any other call meanwhile, and Fatal (an
    outage) if it answered none.
    """

    def __init__(self, config: Endpoint, role: str, calls: CallStore, top_logprobs: int = 0) -> None:
        """top_logprobs: how many of the likeliest tokens at each place the server is to list, 0 for none."""
        self.name = config.model
        self.counts = CallCounts()
        self._config = config
        self._role = role
        self._calls = calls
        self._top_logprobs = top_logprobs
        self._slots = asyncio.Semaphore(config.concurrency)
        self._under_way: dict[str, asyncio.Future[Response]] = {}
        self._answered_at = float("-inf")
        self._refused = 0
        self._client: openai.AsyncOpenAI | None = None

    async def complete(self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()) -> Reply:
        """See `ChatModel.complete`."""
        return (await self.respond(messages, sample=sample, stop=stop))[0]

    async def respond(
        self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()
    ) -> tuple[Reply, Response]:
        """The reply to a chat, and the completion it was read from. Raises as `ChatModel.complete` does."""
        request, key = await asyncio.to_thread(self._request, messages, sample, stop)
        if key not in self._under_way:
            task = asyncio.ensure_future(self._response(request, messages, key))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        response = await asyncio.shield(self._under_way[key])
        return reply_of(key, self.name, response, self._config.price), response

    async def _response(self, request: dict[str, Any], messages: Sequence[ChatMessage], key: str) -> Response:
        """The stored response to a request, or a new one, made durable."""
        response = await asyncio.to_thread(self._calls.get, key)
        if response is not None:
            self.counts.reused += 1
            return response
        async with self._slots:
            body = await asyncio.to_thread(_with_images, request, messages)
            response = await self._send(body, key)
        await asyncio.to_thread(self._calls.put, key, self._role, request, response)
        return response

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _request(self, messages: Sequence[ChatMessage], sample: int, stop: Sequence[str]) -> tuple[dict[str, Any], str]:
        """What is sent, each image standing as its hash, and the key of it."""
        config = self._config
        request: dict[str, Any] = {
            "model": config.model,
            "messages": [_message(m, _image_hash) for m in messages],
            "max_tokens": config.max_tokens,
        }
        optional = {
            "temperature": config.temperature,
            "top_p": config.top_p,
            "stop": list(stop) or None,
            "logprobs": True if self._top_logprobs else None,
            "top_logprobs": self._top_logprobs or None,
        }
        request |= {name: value for name, value in optional.items() if value is not None}
        return request, content_id({"request": request, "sample": sample})

    async def _send(self, body: dict[str, Any], key: str) -> Response:
        began = time.monotonic()
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._config.retries + 1),
            wait=_wait,
            retry=retry_if_exception_type(Transient),
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    self.counts.retried += attempt.retry_state.attempt_number > 1
                    return await self._send_once(body, key)
        except Transient as error:
            tried = f"{error} (tried {self._config.retries + 1} times)"
            if self._answered_at > began:
                raise Rejected("server_error", tried) from error
            raise Fatal(
                f"{self._role} endpoint does not answer: {tried}. Run the same command again to go on."
            ) from error
        raise AssertionError("unreachable: tenacity either returns or raises")

    async def _send_once(self, body: dict[str, Any], key: str) -> Response:
        self.counts.sent += 1
        try:
            answer = await self._open().chat.completions.create(**body, extra_headers={"Idempotency-Key": key})
        except openai.APIStatusError as error:
            raise self._refusal(_by_status(error, self._role)) from error
        except (openai.APIConnectionError, openai.APIResponseValidationError, ValueError) as error:
            raise _RetryLater(f"{self._config.model}: {type(error).__name__}: {error}") from error
        self._answered_at = time.monotonic()
        response: Response = answer.model_dump(mode="json") if hasattr(answer, "model_dump") else {}
        if not response.get("choices"):
            raise _RetryLater(f"{self._config.model}: the reply holds no choices")
        return response

    def _refusal(self, error: Exception) -> Exception:
        """An error as it is, or Fatal where the endpoint has refused every request so far: the job is wrong then."""
        if not isinstance(error, Rejected) or self._answered_at > float("-inf"):
            return error
        self._refused += 1
        if self._refused < _REFUSED_FROM_THE_START:
            return error
        return Fatal(
            f"the first {self._refused} requests were all refused: {error}; check the settings of {self._role}"
        )

    def _open(self) -> openai.AsyncOpenAI:
        if self._client is None:
            config = self._config
            self._client = openai.AsyncOpenAI(
                base_url=config.base_url,
                api_key=os.environ.get(config.api_key_env) or "none",
                timeout=config.timeout_s,
                max_retries=0,
                http_client=openai.DefaultAioHttpClient(timeout=config.timeout_s),
            )
        return self._client


def _image_hash(jpeg: bytes) -> str:
    return "sha256:" + hashlib.sha256(jpeg).hexdigest()


def _image_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _message(message: ChatMessage, image: Any) -> dict[str, Any]:
    """A message as it is sent; one of role `tool` as the user's.

    A server takes role `tool` only in answer to a `tool_calls` entry with the same id, and without pictures; here a
    call is part of the assistant's text.
    """
    return {"role": "user" if message.role == "tool" else message.role, "content": _content(message, image)}


def _content(message: ChatMessage, image: Any) -> str | list[dict[str, Any]]:
    """OpenAI's content: plain text where there are no images, else a list of parts."""
    if all(isinstance(part, str) for part in message.parts):
        return "".join(str(part) for part in message.parts)
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": image(part)}}
        for part in message.parts
    ]


def _with_images(request: dict[str, Any], messages: Sequence[ChatMessage]) -> dict[str, Any]:
    return {**request, "messages": [_message(m, _image_url) for m in messages]}


def _by_status(error: openai.APIStatusError, role: str) -> Exception:
    """The kind of error that a status code means."""
    status = error.status_code
    text = f"HTTP {status} from the {role} endpoint"
    if status in (401, 403):
        return Fatal(f"{text}: the key was refused; check {role}.api_key_env and the variable that it names")
    if status == 404:
        return UserError(f"{text}: no such model or path; check {role}.model and {role}.base_url")
    if status in (408, 409, 425, 429) or status >= 500:
        return _RetryLater(text, _retry_after(error))
    return Rejected("bad_request", f"{text}: {_server_message(error)}")


def _retry_after(error: openai.APIStatusError) -> float:
    try:
        return min(max(float(error.response.headers.get("retry-after", 0)), 0.0), 600.0)
    except ValueError:
        return 0.0


def _server_message(error: openai.APIStatusError) -> str:
    """What the server says: OpenAI's `message`, or `detail` from a server made with FastAPI (`transformers serve`)."""
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or body.get("detail") or "")[:300]
