"""One request over the wire to an OpenAI-compatible server: retried where the error may pass."""

from collections.abc import Awaitable, Callable
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from pipeline.leases import Need
from pipeline.models.chat import CallCounts
from pipeline.models.dialect import Dialect
from pipeline.models.gate import Call, Gate
from pipeline.models.refusals import Refusal, refusal_of
from pipeline.models.replies import Response, broken_off, usage_of
from pipeline.models.wire import Unanswered, Wire
from schemas.config import Endpoint
from schemas.errors import Fatal, Rejected, Transient, UserError

_REFUSED_FROM_THE_START = 5
"""Requests refused one after the other, before any was answered, that show a setting to be wrong."""

Body = Callable[[], Awaitable[dict[str, Any]]]
Keep = Callable[[Response], Awaitable[None]]

_backoff = wait_random_exponential(multiplier=0.5, max=60)


class _Patience:
    """How often one call is tried. Tries that only probe a server that is down do not count."""

    def __init__(self, gate: Gate, retries: int) -> None:
        self.tries = 0
        self._gate = gate
        self._retries = retries
        self._answered_before = gate.answered

    def over(self, _: RetryCallState) -> bool:
        """Whether the call is given up. It is not while no call at all is answered: the gate knows what to do then."""
        if self.tries <= self._retries:
            return False
        if self._gate.answered > self._answered_before:
            return True
        self._gate.given_up()
        return False

    def wait_s(self, state: RetryCallState) -> float:
        """Seconds before the next try. In an outage the gate says when that is."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Unanswered) and error.after_s:
            return error.after_s
        return 0.0 if self._gate.paused else _backoff(state)


class Sender:
    """The connections of one role to its server. counts: grow with each request sent."""

    def __init__(self, config: Endpoint, role: str, counts: CallCounts, gate: Gate) -> None:
        self.counts = counts
        self._config = config
        self._role = role
        self._dialect = Dialect(role)
        self._gate = gate
        self._answered = False
        self._refused = 0
        self._wire = Wire(config)

    async def close(self) -> None:
        await self._wire.close()

    async def send(self, key: str, need: Need, body: Body, keep: Keep) -> Response:
        """The completion that the server gives to a request, kept. Raises as `EndpointModel` says.

        need: what it may use; body: makes the request with its images; keep: makes the completion durable.
        """
        self._wire.open()  # takes a second on a busy machine, and a call that has leave must not come late
        patience = _Patience(self._gate, self._config.retries)
        retrying = AsyncRetrying(
            stop=patience.over, wait=patience.wait_s, retry=retry_if_exception_type(Transient), reraise=True
        )
        try:
            async for attempt in retrying:
                with attempt:
                    self.counts.retried += attempt.retry_state.attempt_number > 1
                    async with self._gate.call(need) as call:
                        return await self._try(call, key, body, keep, patience)
        except Transient as error:
            raise Rejected("server_error", f"{error} (tried {patience.tries} times)") from error
        raise AssertionError("unreachable: tenacity either returns or raises")

    async def _try(self, call: Call, key: str, body: Body, keep: Keep, patience: _Patience) -> Response:
        try:
            response = await self._send_once(await body(), key)
            self._answered = True
            self._gate.leave(call)
            trouble = "no choices" if not response.get("choices") else "broken off" if broken_off(response) else ""
            if not trouble:
                await keep(response)
            self._gate.came_back(call, usage_of(response, self._config.price))
            if trouble:
                raise Unanswered(trouble, f"{self._config.model}: the reply is of no use ({trouble})")
            return response
        except Unanswered as error:
            patience.tries += not call.lease.probe
            self._gate.failed(call, error.cause, str(error), error.after_s if error.for_all else 0.0)
            raise
        except Rejected:
            self._gate.came_back(call, None)
            raise

    async def _send_once(self, body: dict[str, Any], key: str) -> Response:
        self.counts.sent += 1
        form = self._dialect.said(body)
        try:
            response = await self._wire.post(form, key)
        except openai.APIStatusError as error:
            refusal = refusal_of(error.body)
            if error.status_code in (400, 422) and self._dialect.learns(refusal, body, form):
                return await self._send_once(body, key)
            if error.status_code == 403 and "logprobs" in form:  # OpenAI's answer where a model gives none
                raise Rejected("forbidden", refusal.message) from error
            raise self._refusal(_by_status(error, refusal, self._role)) from error
        self._dialect.took(form)
        return response

    def _refusal(self, error: Exception) -> Exception:
        """An error as it is, or Fatal where the endpoint has refused every request so far: the job is wrong then."""
        if not isinstance(error, Rejected) or self._answered:
            return error
        self._refused += 1
        if self._refused < _REFUSED_FROM_THE_START:
            return error
        return Fatal(
            f"the first {self._refused} requests were all refused: {error}; check the settings of {self._role}"
        )


def _by_status(error: openai.APIStatusError, refusal: Refusal, role: str) -> Exception:
    """The kind of error that a status code means, or the server's own short name of the fault where it says more."""
    status = error.status_code
    text = f"HTTP {status} from the {role} endpoint"
    if refusal.withheld:
        return Rejected("content_filter", f"{text}: {refusal.message}")
    if status == 402 or refusal.no_credit:
        return Fatal(f"{text}: {refusal.message or 'no credit'}; add credit, then run the same command again to go on")
    if status in (401, 403):
        return Fatal(f"{text}: the key was refused; check {role}.api_key_env and the variable that it names")
    if status == 404:
        return UserError(f"{text}: no such model or path; check {role}.model and {role}.base_url")
    if status in (408, 409, 425, 429) or status >= 500:
        return Unanswered(f"HTTP {status}", text, _retry_after(error), for_all=status == 429)
    return Rejected("bad_request", f"{text}: {refusal.message}")


def _retry_after(error: openai.APIStatusError) -> float:
    try:
        return min(max(float(error.response.headers.get("retry-after", 0)), 0.0), 600.0)
    except ValueError:
        return 0.0
