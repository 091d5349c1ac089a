"""Where the calls of one model of one worker wait: for a free slot of the worker, and for leave of the run's meter."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from pipeline.leases import Grant, Lease, Link, Need, Report, Used
from pipeline.models.chat import ChatMessage
from pipeline.reserve import need_for
from schemas.captions import Usage
from schemas.errors import Fatal

_GATHER_S = 0.01
"""Seconds in which calls gather before they are asked leave for together."""

_STALE_S = 0.5
"""A lease that could not be used for so long is given back: calls that came late in a crowd would break the limit."""

_FREE = Lease()


def need_of(messages: Sequence[ChatMessage], max_tokens: int) -> Need:
    """A guess at what a request may use."""
    parts = [part for message in messages for part in message.parts]
    text = sum(len(part) for part in parts if isinstance(part, str))
    images = sum(isinstance(part, bytes) for part in parts)
    return need_for(text, images, max_tokens)


@dataclass(eq=False)
class Call:
    """One try of a call on its way through the gate. ready_at: when its lease may be used, in the loop's seconds."""

    need: Need
    entered: "asyncio.Future[None]"
    lease: Lease = _FREE
    ready_at: float = float("inf")
    under_way: bool = False


class Gate:
    """Lets calls pass in the order in which they came. Used in one event loop.

    While calls wait or are under way it reports to the meter: at once where that changes anything, else every second.
    """

    def __init__(self, link: Link, role: str, slots: int) -> None:
        """slots: calls under way at once."""
        self._link = link
        self._role = role
        self._slots = slots
        self._name = f"{link.worker}/{role}/{secrets.token_hex(4)}"
        self._used = Used()
        self._waiting: deque[Call] = deque()
        self._leased: set[Call] = set()
        self._entered: set[Call] = set()
        self._under_way = 0
        self._returned: list[int] = []
        self._trouble = ""
        self._hold_until = 0.0
        self._grant = Grant()
        self._short = False
        self._answered_before = 0
        self._stopped = ""
        self._news = asyncio.Event()
        self._told = asyncio.Event()
        self._talk: asyncio.Task[None] | None = None

    @property
    def paused(self) -> bool:
        """Whether the server is taken to be down."""
        return self._grant.paused

    @property
    def answered(self) -> int:
        """Calls that the server has answered for all workers, as far as is known here."""
        return self._grant.answered + self._used.answered - self._answered_before

    @asynccontextmanager
    async def call(self, need: Need) -> AsyncIterator[Call]:
        """Waits for its turn, and holds what was set aside for the call until the end of the block.

        Inside it `leave` is to be called as soon as its slot is free for others, and `came_back` or `failed` once.
        Raises Fatal where no call can ever begin again.
        """
        call = await self._let_in(need)
        self._used.sent += 0 if need.begun else need.requests
        try:
            yield call
        finally:
            self.leave(call)
            self._entered.discard(call)
            self._used.charged += call.lease.expected
            self._told.clear()
            self._tell(at_once=not self._grant.free or self._idle)
            task = asyncio.current_task()
            if self._idle and not (task and task.cancelling()):
                await self._told.wait()  # from now on nobody may keep this loop going

    def leave(self, call: Call) -> None:
        """Frees a call's slot; no-op where that was done."""
        self._under_way -= call.under_way
        call.under_way = False
        self._let_free()

    def came_back(self, call: Call, usage: Usage | None) -> None:
        """The server has answered. usage: what it counted, None for a refusal; of a batch, for those it answered."""
        used, calls, before = self._used, usage.calls if usage else 1, self._used.tokens + self._used.assumed_tokens
        used.answered += calls
        if usage and usage.prompt_tokens + usage.completion_tokens:
            used.measured += calls
            used.guessed += call.need.prompt * calls // call.need.requests
            used.prompt += usage.prompt_tokens
            used.completion += usage.completion_tokens
            if call.need.images:
                used.pictured += usage.prompt_tokens
                used.pictured_guessed += call.need.prompt * calls // call.need.requests
            used.cached += usage.cached_tokens
        elif usage and calls:
            used.assumed_tokens += call.lease.tokens
            used.assumed_dollars += call.lease.dollars
        if usage:
            used.dollars += usage.cost_usd or 0.0
            used.unpriced += calls if usage.cost_usd is None else 0
        if call.need.batch:  # nothing was expected of it: the limits per minute are not a batch's
            used.charged += used.tokens + used.assumed_tokens - before
        self.leave(call)

    def failed(self, call: Call, cause: str, trouble: str, hold_s: float = 0.0) -> None:
        """The try came to nothing. hold_s: seconds for which the server wants no calls at all."""
        self._used.failed[cause] += 1
        self._trouble = trouble
        self._hold_until = max(self._hold_until, asyncio.get_running_loop().time() + hold_s)
        self.leave(call)
        self._tell(at_once=True)

    def given_up(self) -> None:
        """A call failed at all its tries, and the server has answered no other meanwhile."""
        self._used.given_up += 1
        self._tell(at_once=True)

    @property
    def _idle(self) -> bool:
        return not (self._waiting or self._leased or self._entered)

    @property
    def _open_slots(self) -> int:
        return self._slots - self._under_way - len(self._leased)

    async def _let_in(self, need: Need) -> Call:
        if self._stopped:
            raise Fatal(self._stopped)
        call = Call(need, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._let_free()
        if not call.entered.done():
            self._tell(at_once=not self._grant.free and not self._short)
        try:
            await call.entered
        except asyncio.CancelledError:
            self._withdraw(call)
            raise
        return call

    def _withdraw(self, call: Call) -> None:
        if call in self._waiting:
            self._waiting.remove(call)
        elif call in self._leased:
            self._leased.discard(call)
            self._returned.append(call.lease.expected)
        elif call in self._entered:
            self._entered.discard(call)
            self.leave(call)
        self._tell(at_once=True)

    def _let_free(self) -> None:
        """Lets in as many as have a slot, where no leave is needed."""
        loop = asyncio.get_running_loop()
        if not self._grant.free or self._stopped or loop.time() < self._hold_until:
            return
        while self._waiting and self._open_slots > 0:
            self._enter(self._waiting.popleft())

    def _enter(self, call: Call) -> None:
        call.under_way = True
        self._under_way += 1
        self._entered.add(call)
        if not call.entered.done():
            call.entered.set_result(None)
        self._tell(at_once=False)

    def _begin(self, call: Call) -> None:
        """The time of a call's lease has come."""
        if call not in self._leased:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now < self._hold_until:
            loop.call_at(self._hold_until, self._begin, call)
            return
        self._leased.discard(call)
        if now - call.ready_at <= _STALE_S:
            self._enter(call)
            return
        self._returned.append(call.lease.expected)
        call.lease = _FREE
        self._waiting.appendleft(call)
        self._tell(at_once=True)

    def _tell(self, at_once: bool) -> None:
        if at_once:
            self._news.set()
        if self._talk is None or self._talk.done():
            self._talk = asyncio.ensure_future(self._report_until_idle())

    async def _report_until_idle(self) -> None:
        try:
            if self._grant.free:
                await self._pause()
            while True:
                self._news.clear()
                last = self._idle
                asked = list(self._waiting)[: max(self._open_slots, 0)]
                report = self._report(asked)
                self._returned = []
                self._take(await self._link.exchange(report), asked, report)
                if last or not self._idle:
                    self._told.set()
                if last and self._idle:
                    return
                await self._pause()
        except Exception as error:  # whatever the way to the meter raises: no call may go without leave
            self._stop(f"the meter of this run cannot be reached: {type(error).__name__}: {error}")
            self._told.set()

    def _report(self, asked: Sequence[Call]) -> Report:
        held = self._entered | self._leased
        return Report(
            client=self._name,
            role=self._role,
            used=replace(self._used, failed=self._used.failed.copy()),
            in_flight=self._under_way + len(self._leased),
            held=len(held),
            tokens=sum(call.lease.tokens for call in held),
            dollars=sum(call.lease.dollars for call in held),
            waiting=len(self._waiting),
            batched=sum(call.need.requests for call in self._entered if call.need.batch),
            wanted=tuple(call.need for call in asked),
            probing=any(call.lease.probe and (call.under_way or call in self._leased) for call in held),
            returned=tuple(self._returned),
            hold_s=max(0.0, self._hold_until - asyncio.get_running_loop().time()),
            trouble=self._trouble,
        )

    def _take(self, grant: Grant, asked: Sequence[Call], report: Report) -> None:
        loop = asyncio.get_running_loop()
        self._grant, self._short = grant, len(grant.leases) < len(asked)
        self._answered_before = report.used.answered
        self._hold_until = max(self._hold_until, loop.time() + grant.hold_s)
        for call, lease in zip(asked, grant.leases, strict=False):
            if call not in self._waiting:
                self._returned.append(lease.expected)
                continue
            self._waiting.remove(call)
            self._leased.add(call)
            call.lease, call.ready_at = lease, loop.time() + lease.after_s
            loop.call_at(call.ready_at, self._begin, call)
        if grant.stop:
            self._stop(grant.stop)
        self._let_free()
        if grant.free and self._hold_until > loop.time():
            loop.call_at(self._hold_until, self._let_free)

    def _stop(self, reason: str) -> None:
        self._stopped = reason
        while self._waiting:
            call = self._waiting.popleft()
            if not call.entered.done():
                call.entered.set_exception(Fatal(reason))

    async def _pause(self) -> None:
        """Until there are news, or the meter wants a report."""
        try:
            async with asyncio.timeout(self._grant.again_s):
                await self._news.wait()
        except TimeoutError:
            return
        if not self._idle:
            await asyncio.sleep(_GATHER_S)
