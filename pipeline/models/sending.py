"""One request over the wire to an OpenAI-compatible server: retried where the error may pass."""

import os
import time
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pipeline.models.chat import CallCounts
from pipeline.models.replies import Response
from schemas.config import Endpoint
from schemas.errors import Fatal, Rejected, Transient, UserError

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


class Sender:
    """The connections of one role to its server. counts: grow with each request sent."""

    def __init__(self, config: Endpoint, role: str, counts: CallCounts) -> None:
        self.counts = counts
        self._config = config
        self._role = role
        self._answered_at = float("-inf")
        self._refused = 0
        self._client: openai.AsyncOpenAI | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def send(self, body: dict[str, Any], key: str) -> Response:
        """The completion that the server gives to a request. body: with images. Raises as `EndpointModel` says."""
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
