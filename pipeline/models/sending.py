"""One request over the wire to an OpenAI-compatible server: retried where the error may pass."""

import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from pipeline.leases import Need
from pipeline.models.chat import CallCounts
from pipeline.models.dialect import Dialect
from pipeline.models.faults import fault_of
from pipeline.models.gate import Call, Gate
from pipeline.models.refusals import refusal_of
from pipeline.models.replies import Response, broken_off, usage_of
from pipeline.models.request import plain
from pipeline.models.wire import Unanswered, Wire
from schemas.config import Endpoint
from schemas.errors import Fatal, Rejected, Transient

_REFUSED_IN_A_ROW = 5
"""Requests refused one after the other that show a setting to be wrong where none was answered before, and that are
reason to ask whether the server takes any where one was: several bad items may follow each other in a good pool."""

_PLAIN_TOKENS = 50
"""A guess at the prompt of a plain request."""

Body = Callable[[], Awaitable[dict[str, Any]]]
Keep = Callable[[Response], Awaitable[None]]

_backoff = wait_random_exponential(multiplier=0.5, max=60)


class _Anew(Transient):
    """The request is to come again at once, with leave of its own: it was not sent, or can be said in another form."""


class _Patience:
    """How often one call is tried, and its latest trouble. Plain requests that try a server count for no call."""

    def __init__(self, gate: Gate, retries: int) -> None:
        self.tries = 0
        self.trouble = ""
        self._gate = gate
        self._retries = retries
        self._answered_before = self._answered_at_last = gate.answered

    def begins(self) -> None:
        """A try goes out."""
        self._answered_at_last = self._gate.answered

    def over(self, _: RetryCallState) -> bool:
        """Whether the call is given up. It is not while no call at all is answered: the gate knows what to do then.

        Nor where the first answers came while its last try was out, or after it: all of them may have met one outage.
        """
        if self.tries <= self._retries:
            return False
        if self._gate.answered == self._answered_before:
            self._gate.given_up()
            return False
        return not self._retries or self._answered_at_last > self._answered_before

    def wait_s(self, state: RetryCallState) -> float:
        """Seconds before the next try. In an outage the gate says when that is."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Unanswered) and error.after_s:
            return error.after_s * random.uniform(1.0, 1.25)
        return 0.0 if isinstance(error, _Anew) or self._gate.paused else _backoff(state)


class Sender:
    """The connections of one role to its server. counts: grow with each request sent.

    Two questions are settled by a plain request (`plain`), whose reply is of no further use, and so not kept; what it
    costs is counted by the meter. Is a server up that answered none of the latest calls? A call that is the last one
    left, and at which the server fails, could not tell. Does it take any request, after several refusals in a row?
    """

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
        try:
            return await self._patiently(key, need, body, keep)
        except Rejected:
            if self._refused >= _REFUSED_IN_A_ROW:
                await self._doubt(need, body)
            raise

    async def _patiently(self, key: str, need: Need, body: Body, keep: Keep) -> Response:
        patience = _Patience(self._gate, self._config.retries)
        retrying = AsyncRetrying(
            stop=patience.over, wait=patience.wait_s, retry=retry_if_exception_type(Transient), reraise=True
        )
        try:
            async for attempt in retrying:
                with attempt:
                    async with self._gate.call(need) as call:
                        return await self._try(call, key, body, keep, patience)
        except Transient as error:
            raise Rejected("server_error", f"{patience.trouble} (tried {patience.tries} times)") from error
        raise AssertionError("unreachable: tenacity either returns or raises")

    async def _try(self, call: Call, key: str, body: Body, keep: Keep, patience: _Patience) -> Response:
        """One try. Leave to probe goes to a plain request in its place; if that is answered, this one comes again."""
        try:
            if call.lease.probe:
                await self._ask_plainly(call, body)
                raise _Anew
            self.counts.retried += bool(patience.trouble)
            patience.begins()
            try:
                response = await self._send_once(await body(), key)
            except (Rejected, _Anew) as refused:
                self._gate.came_back(call, None)
                raise self._counted(refused) from refused.__cause__
        except Unanswered as error:
            patience.tries += not call.lease.probe
            patience.trouble = str(error)
            self._failed(call, error)
            raise
        self._answered, self._refused = True, 0
        self._gate.leave(call)
        await keep(response)
        self._gate.came_back(call, usage_of(response, self._config.price))
        return response

    def _failed(self, call: Call, error: Unanswered) -> None:
        usage = usage_of(error.came, self._config.price)
        self._gate.failed(call, error.cause, str(error), error.after_s if error.for_all else 0.0, usage)

    async def _send_once(self, body: dict[str, Any], key: str) -> Response:
        """A usable completion. Raises _Anew where another form of the request is worth a try."""
        self.counts.sent += 1
        form = self._dialect.said(body)
        try:
            response = await self._wire.post(form, key)
        except openai.APIStatusError as error:
            refusal = refusal_of(error.body)
            if error.status_code in (400, 422) and self._dialect.learns(refusal, body, form):
                raise _Anew from error
            if error.status_code == 403 and "logprobs" in form:  # OpenAI's answer where a model gives none
                raise Rejected("forbidden", refusal.message) from error
            raise fault_of(error, refusal, self._role) from error
        if broken_off(response):
            trouble = f"{self._config.model}: the server ended its reply with an error of its own"
            raise Unanswered("broken off", trouble, came=response)
        self._dialect.took(form)
        return response

    async def _ask_plainly(self, call: Call, body: Body) -> Exception | None:
        """How a server that is up refuses a plain request, None where it answers it. Raises Unanswered and Fatal."""
        try:
            response = await self._send_once(plain(await body()), f"plain-{secrets.token_hex(16)}")
        except (Rejected, _Anew) as refused:
            self._gate.came_back(call, None)
            return refused
        self._gate.came_back(call, usage_of(response, self._config.price))
        return None

    async def _doubt(self, need: Need, body: Body) -> None:
        """Raises Fatal where a plain request is refused as well: then it is not the items that are bad."""
        self._refused = 0
        async with self._gate.call(Need(_PLAIN_TOKENS, need.completion)) as call:
            try:
                refused = await self._ask_plainly(call, body)
            except Unanswered as error:
                self._failed(call, error)
                return
        if isinstance(refused, Rejected):
            raise Fatal(
                f"the {self._role} endpoint refuses every request now, even a plain one: {refused.message}; "
                f"check the settings of {self._role}"
            )

    def _counted(self, refused: Rejected | _Anew) -> Exception:
        """A refusal as it is, or Fatal where the endpoint has refused every request so far: the job is wrong then."""
        if isinstance(refused, _Anew):
            return refused
        self._refused += 1
        if self._answered or self._refused < _REFUSED_IN_A_ROW:
            return refused
        return Fatal(
            f"the first {self._refused} requests were all refused: {refused}; check the settings of {self._role}"
        )
