"""One provider batch from its requests to their outcomes, by whatever worker, from whatever step on."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import IO, Any

from openai.types import Batch

from pipeline.leases import Need
from pipeline.models.batch_api import BatchApi, refused, said_in
from pipeline.models.batch_log import Asked, BatchLog, BatchRecord
from pipeline.models.calls import CallStore
from pipeline.models.chat import CallCounts
from pipeline.models.dialect import Dialect
from pipeline.models.gate import Gate
from pipeline.models.refusals import Refusal, refusal_of
from pipeline.models.replies import Response, broken_off, by_batch, usage_of
from schemas.captions import Usage
from schemas.config import BatchEndpoint
from schemas.errors import Fatal, Rejected, Transient, UserError

_OVER = ("completed", "failed", "expired", "cancelled")
_QUEUE_FULL = "token_limit_exceeded"
_FIRST_POLL_S = 5.0
_REFUSED_FROM_THE_START = 5
"""Requests refused together, before any was answered, that show a setting to be wrong."""


class Again(Enum):
    """Why a request is to be asked again: its batch did not answer it, the provider has no room for batches now, or it
    takes such a request in another form."""

    UNANSWERED = "unanswered"
    NO_ROOM = "no room"
    OTHERWISE = "otherwise"


Outcome = Response | Rejected | Fatal | Again


class _Refused(Rejected):
    """A line that the server refused. refusal: where the request may only be put in the wrong form."""

    def __init__(self, kind: str, message: str, refusal: Refusal | None = None) -> None:
        super().__init__(kind, message)
        self.refusal = refusal


@dataclass(frozen=True)
class Pace:
    """quiet_s: seconds without a new request after which a batch is sent; poll_s: most seconds between two looks at it.

    settle_s: seconds after which a worker that was silent about the beginning of a batch is taken for dead, and a batch
    that may have begun is to be seen in the provider's list; room_s: before a provider without room is asked again.
    most_requests, most_bytes: of one batch.
    """

    quiet_s: float = 10.0
    poll_s: float = 60.0
    settle_s: float = 30.0
    room_s: float = 600.0
    most_requests: int = 5_000
    most_bytes: int = 150_000_000


class Carrier:
    """Takes batches of one role to their end. Every step is on record before the next; replies are durable first."""

    def __init__(
        self,
        config: BatchEndpoint,
        role: str,
        calls: CallStore,
        log: BatchLog,
        pace: Pace,
        counts: CallCounts,
        gate: Gate,
        dialect: Dialect,
    ) -> None:
        """dialect: learns from what is refused."""
        self.api = BatchApi(config, role)
        self._config = config
        self._role = role
        self._calls = calls
        self._log = log
        self._pace = pace
        self._counts = counts
        self._gate = gate
        self._dialect = dialect
        self._answered = False

    async def send(self, record: BatchRecord, requests: dict[str, Asked], lines: IO[bytes]) -> dict[str, Outcome]:
        """The outcomes of a new batch, by key. lines: what is to be uploaded.

        Raises Fatal, also where the run's budget has no room for it.
        """
        async with self._paid(record.need(begun=False)) as outcomes:
            outcomes |= await self._sent(record, requests, lines)
        return outcomes

    async def _sent(self, record: BatchRecord, requests: dict[str, Asked], lines: IO[bytes]) -> dict[str, Outcome]:
        await asyncio.to_thread(self._log.begin, record, requests)
        try:
            record = record.model_copy(update={"file": await self.api.upload(lines, record.name)})
            if await asyncio.to_thread(self._log.turn, record.name) == 1:
                await asyncio.to_thread(self._log.write, record)
            record = await self._begun(record, turn=1, doubtful=False)
        except Rejected as error:
            raise await self._refused(record, error.message) from error
        return await self._carried(record, requests)

    async def resume(self, record: BatchRecord) -> dict[str, Outcome]:
        """The outcomes of a batch on record, by key; of one that never began, that all is to be asked again.

        One that goes on is ended early where the config wants no batches any more. Raises Fatal.
        """
        requests = await asyncio.to_thread(self._log.requests, record.name)
        async with self._paid(record.need(begun=True)) as outcomes:
            outcomes |= await self._resumed(record, requests)
        return outcomes

    @asynccontextmanager
    async def _paid(self, need: Need) -> AsyncIterator[dict[str, Outcome]]:
        """Holds what a batch may cost until its outcomes, which the block adds, are durable."""
        outcomes: dict[str, Outcome] = {}
        async with self._gate.call(need) as call:
            self._gate.leave(call)  # its slot is for live calls
            yield outcomes
            answers = [outcome for outcome in outcomes.values() if isinstance(outcome, dict)]
            usages = (usage_of(answer, self._config.price) for answer in answers)
            self._gate.came_back(call, sum(usages, start=Usage()))

    async def _resumed(self, record: BatchRecord, requests: dict[str, Asked]) -> dict[str, Outcome]:
        try:
            record = await self._adopted(record)
            if record.batch and not record.closed and not self._config.batch:
                await self.api.cancel(record.batch)
        except Rejected:  # the provider has forgotten the file
            record = await self._closed(record, 0)
        return await self._carried(record, requests)

    async def _carried(self, record: BatchRecord, requests: dict[str, Asked]) -> dict[str, Outcome]:
        """The outcomes of a batch that has begun, or is closed."""
        try:
            return dict.fromkeys(requests, Again.UNANSWERED) if record.closed else await self._ended(record, requests)
        except Rejected:  # the provider has forgotten the batch
            await self._closed(record, 0)
            return dict.fromkeys(requests, Again.UNANSWERED)

    async def _ended(self, record: BatchRecord, requests: dict[str, Asked]) -> dict[str, Outcome]:
        """The outcomes of a batch, once it is over. Raises Fatal where the batch is refused as a whole."""
        batch = await self._over(record)
        if batch.status.lower() == "failed":
            faults = list((batch.errors and batch.errors.data) or ())
            if any(fault.code == _QUEUE_FULL for fault in faults):
                await self._closed(record, 0)
                await asyncio.sleep(self._pace.room_s)
                return dict.fromkeys(requests, Again.NO_ROOM)
            raise await self._refused(record, "; ".join(str(fault.message) for fault in faults[:3]))
        lines = await self.api.lines(batch.output_file_id) + await self.api.lines(batch.error_file_id)
        outcomes = _outcomes(lines, requests, batch)
        answers = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, dict)}
        puts = (
            asyncio.to_thread(self._calls.put, key, self._role, requests[key].request, answers[key]) for key in answers
        )
        await asyncio.gather(*puts)
        self._answered |= bool(answers)
        try:
            outcomes |= self._otherwise(outcomes, requests)
        except UserError:
            await self._closed(record, len(answers))
            raise
        refusals = [outcome for outcome in outcomes.values() if isinstance(outcome, Rejected)]
        if not self._answered and len(refusals) == len(requests) >= _REFUSED_FROM_THE_START:
            raise await self._refused(record, refusals[0].message)
        await self._closed(record, len(answers))
        return outcomes

    def _otherwise(self, outcomes: dict[str, Outcome], requests: dict[str, Asked]) -> dict[str, Outcome]:
        """What was refused and is to be asked again in another form. Raises UserError as `Dialect` does."""
        for key, outcome in outcomes.items():
            if isinstance(outcome, dict):
                self._dialect.took(requests[key].form)
        learnt = []
        for key, outcome in outcomes.items():
            if isinstance(outcome, _Refused) and outcome.refusal is not None:
                asked = requests[key]
                learnt += [key] * self._dialect.learns(outcome.refusal, asked.request, asked.form)
        return dict.fromkeys(learnt, Again.OTHERWISE)

    async def _begun(self, record: BatchRecord, turn: int, doubtful: bool) -> BatchRecord:
        """The record of a batch that has begun. doubtful: it may have before. Raises Rejected where it is refused."""
        for _ in range(self._config.retries + 1):
            batch = await self.api.find(record.file, record.name) if doubtful else None
            if batch is None:
                if await asyncio.to_thread(self._log.turn, record.name) != turn:
                    return await self._adopted(record)
                try:
                    batch = await self.api.create(record.file, record.name)
                    self._counts.sent += record.asked
                except Transient as error:
                    doubtful, fault = True, error
                    await asyncio.sleep(self._pace.settle_s)
                    continue
            record = record.model_copy(update={"batch": batch.id})
            await asyncio.to_thread(self._log.write, record)
            return record
        raise Fatal(f"the {self._role} endpoint begins no batch: {fault}. Run the same command again to go on.")

    async def _adopted(self, record: BatchRecord) -> BatchRecord:
        """The record of a batch that has begun or is closed; where its worker is silent, this one goes on with it."""
        while not record.batch and not record.closed:
            turn = await asyncio.to_thread(self._log.turn, record.name)
            await asyncio.sleep(self._pace.settle_s)
            before, record = record, await asyncio.to_thread(self._log.read, record.name)
            if record != before or turn != await asyncio.to_thread(self._log.turn, record.name):
                continue
            if not await asyncio.to_thread(self._log.take_turn, record.name, turn + 1):
                continue
            if not record.file:
                return await self._closed(record, 0)
            record = await self._begun(record, turn + 1, doubtful=True)
        return record

    async def _over(self, record: BatchRecord) -> Batch:
        """The batch once it is over."""
        wait = min(_FIRST_POLL_S, self._pace.poll_s)
        while (batch := await self.api.state(record.batch)).status.lower() not in _OVER:
            await asyncio.sleep(wait * random.uniform(0.75, 1.25))
            wait = min(wait * 1.5, self._pace.poll_s)
        return batch

    async def _refused(self, record: BatchRecord, message: str) -> Fatal:
        await self._closed(record, 0)
        asked = f"the {self._role} endpoint refused a batch of {record.asked} requests: {message}"
        return UserError(f"{asked}; check the settings of {self._role}, or set {self._role}.batch to false")

    async def _closed(self, record: BatchRecord, answered: int) -> BatchRecord:
        record = record.model_copy(update={"closed": True, "answered": answered})
        await asyncio.to_thread(self._log.write, record)
        return record


def _outcomes(lines: Iterable[dict[str, Any]], requests: dict[str, Asked], batch: Batch) -> dict[str, Outcome]:
    """The outcome of each request; one that no line speaks of is unanswered. A reply counts more than an error."""
    outcomes: dict[str, Outcome] = dict.fromkeys(requests, Again.UNANSWERED)
    for line in lines:
        key = line.get("custom_id")
        if isinstance(key, str) and key in outcomes and not isinstance(outcomes[key], dict):
            outcomes[key] = _outcome(line, batch.id)
    return outcomes


def _outcome(line: dict[str, Any], batch: str) -> Outcome:
    answer = line.get("response")
    if not isinstance(answer, dict):
        return Again.UNANSWERED
    status, body = answer.get("status_code"), answer.get("body")
    if isinstance(status, int) and refused(status):
        message = f"HTTP {status} in a batch: {said_in(body)}"
        return _Refused("bad_request", message, refusal_of(body) if status in (400, 422) else None)
    choices = body.get("choices") if isinstance(body, dict) else None
    whole = status == 200 and isinstance(choices, list) and choices and isinstance(choices[0], dict)
    if not whole or not isinstance(body, dict) or broken_off(body):
        return Again.UNANSWERED
    return by_batch(body, batch)
