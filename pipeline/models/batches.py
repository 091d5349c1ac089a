"""A model whose calls go through the provider's batches: for roles of which one call does not wait for another."""

import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import Collection, Coroutine, Sequence
from typing import Any

from pipeline.leases import Link, Need
from pipeline.models.batch_api import CHAT
from pipeline.models.batch_carrying import Again, Carrier, Outcome, Pace
from pipeline.models.batch_log import Asked, BatchLog, BatchRecord
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage, Reply
from pipeline.models.dialect import Dialect
from pipeline.models.endpoint import EndpointModel
from pipeline.models.gate import need_of
from pipeline.models.replies import reply_of
from pipeline.models.request import Request, request_of, with_images
from schemas.config import BatchEndpoint
from schemas.errors import Fatal, UserError
from schemas.record import content_id

_TRIES = 3
"""Batches that may leave a request unanswered before it is asked live."""

_MOST_WAITS = 144
"""Times that a provider may have no room for a batch: a day, as `Pace.room_s` is."""

_LISTED_S = 1.0
"""Seconds for which a list of the run's batches holds; a shard of a dead worker comes to another later than that."""


class _Gathering:
    """Requests that wait for their batch to be sent: in a file without a name, as they will be uploaded."""

    def __init__(self) -> None:
        self.requests: dict[str, Asked] = {}
        self.bytes = 0
        self.prompt = self.images = 0
        self.changed_at = time.monotonic()
        self.file = tempfile.TemporaryFile()  # noqa: SIM115

    def add(self, key: str, asked: Asked, line: bytes, need: Need) -> None:
        self.file.write(line)
        self.prompt += need.prompt
        self.images += need.images
        self.bytes += len(line)
        self.requests[key] = asked
        self.changed_at = time.monotonic()


class BatchModel:
    """Gathers requests into batches of the provider; each waits until its batch has answered it.

    Replies lie among the run's calls under the keys that live calls have, so a run may change between the two at any
    time. What an earlier process has asked a batch is fetched from there, and not asked again; without `config.batch`
    such a batch is ended early, and what it has not answered is asked live, as is all else. A request that its batch
    refuses is asked again in another form where the server takes one (see `Dialect`), else Rejected; one that three
    batches leave unanswered is asked live. Raises as `EndpointModel` does.
    """

    def __init__(
        self,
        config: BatchEndpoint,
        role: str,
        calls: CallStore,
        link: Link | None = None,
        pace: Pace | None = None,
        held_to: Sequence[str] = (),
    ) -> None:
        """link, held_to: see `EndpointModel`."""
        self.name = config.model
        self._live = EndpointModel(config, role, calls, link=link, held_to=held_to)
        self._held_to = tuple(held_to)
        self.counts = self._live.counts
        self._config = config
        self._role = role
        self._calls = calls
        self._pace = pace or Pace()
        self._log = BatchLog(calls.url)
        self._dialect = Dialect(role)
        self._carrier = Carrier(config, role, calls, self._log, self._pace, self.counts, self._live.gate, self._dialect)
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        self._gathering: _Gathering | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: set[str] = set()
        self._recorded: dict[str, BatchRecord] = {}
        self._listed_at = float("-inf")
        self._listing = asyncio.Lock()

    async def complete(self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()) -> Reply:
        """See `ChatModel.complete`."""
        request, key = await asyncio.to_thread(request_of, self._config, messages, sample, stop, 0, self._held_to)
        tries = waits = 0
        asked = False
        while tries < _TRIES:
            response = await asyncio.to_thread(self._calls.get, key)
            if response is not None:
                self.counts.reused += not asked
                return reply_of(key, self.name, response, self._config.price, stop, self._config.max_tokens)
            await self._list()
            if key not in self._waiting and key not in self._recorded and not self._config.batch:
                break
            self.counts.retried += asked
            outcome, asked = await self._outcome(key, request, messages), True
            if isinstance(outcome, Exception):
                raise outcome
            tries += outcome is Again.UNANSWERED
            waits += outcome is Again.NO_ROOM
            if waits > _MOST_WAITS:
                raise Fatal(f"the {self._role} endpoint has had no room for a batch for a day")
        return await self._live.complete(messages, sample=sample, stop=stop)

    async def close(self) -> None:
        """Forgets what waits; batches that have begun are found again by their records."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._carrier.api.close()
        await self._live.close()

    async def _outcome(self, key: str, request: Request, messages: Sequence[ChatMessage]) -> Outcome:
        """What became of a request: by the batch that holds it already, else by one that is yet to be sent."""
        if key not in self._waiting:
            if key in self._recorded:
                self._resume(self._recorded[key])
            else:
                self._waiting[key] = asyncio.get_running_loop().create_future()
                try:
                    body = await asyncio.to_thread(with_images, request, messages)
                    asked = Asked(request, self._dialect.said(request))
                    line = await asyncio.to_thread(_line, key, self._dialect.said(body))
                    self._gather(key, asked, line, need_of(messages, 0))
                except BaseException:  # it will be in no batch
                    self._waiting.pop(key).cancel()
                    raise
        return await asyncio.shield(self._waiting[key])

    def _gather(self, key: str, asked: Asked, line: bytes, need: Need) -> None:
        """Adds a request to the batch that is being gathered, or to a new one where that is full."""
        gathering, pace = self._gathering, self._pace
        if gathering and (
            gathering.bytes + len(line) > pace.most_bytes or len(gathering.requests) >= pace.most_requests
        ):
            gathering = self._gathering = None
        if gathering is None:
            gathering = self._gathering = _Gathering()
            self._follow(self._send(gathering), gathering.requests)
        gathering.add(key, asked, line, need)

    async def _send(self, gathering: _Gathering) -> dict[str, Outcome]:
        """Sends a batch when it is full, or no request has come for a while."""
        while gathering is self._gathering:
            left = gathering.changed_at + self._pace.quiet_s - time.monotonic()
            if left <= 0:
                self._gathering = None
            else:
                await asyncio.sleep(left)
        name = f"{content_id(sorted(gathering.requests), 16)}-{secrets.token_hex(4)}"
        self._known.add(name)
        asked = len(gathering.requests)
        record = BatchRecord(
            name=name,
            role=self._role,
            base_url=self._config.base_url,
            asked=asked,
            prompt=gathering.prompt,
            completion=asked * self._config.max_tokens,
            images=gathering.images,
        )
        with gathering.file as lines:
            return await self._carrier.send(record, gathering.requests, lines)

    def _resume(self, record: BatchRecord) -> None:
        """Fetches what a batch on record answers, for all its requests at once."""
        keys = [key for key, holder in self._recorded.items() if holder.name == record.name]
        loop = asyncio.get_running_loop()
        self._waiting |= {key: loop.create_future() for key in keys if key not in self._waiting}
        self._follow(self._carrier.resume(record), keys)

    def _follow(self, outcomes: Coroutine[Any, Any, dict[str, Outcome]], keys: Collection[str]) -> None:
        """Hands each request's outcome to those who wait for it. keys: of all requests; may grow until the outcomes."""

        async def hand_on() -> None:
            try:
                found: dict[str, Any] = await outcomes
            except Exception as error:  # whatever it is, those who wait must learn of it
                found = dict.fromkeys(keys, error)
            for key in list(keys):
                self._recorded.pop(key, None)
                if key in self._waiting:
                    self._waiting.pop(key).set_result(found[key])

        task = asyncio.ensure_future(hand_on())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _list(self) -> None:
        """Learns of batches that others have begun. Raises UserError for those of another provider."""
        async with self._listing:
            if time.monotonic() - self._listed_at < _LISTED_S:
                return
            for record in await asyncio.to_thread(self._log.records, self._known):
                if record.role == self._role and not record.closed:
                    if record.base_url != self._config.base_url:
                        raise UserError(
                            f"{self._role}.base_url: a batch is open at {record.base_url}; set it back until its "
                            f"replies are fetched, or remove batches/{record.name} to give them up"
                        )
                    requests = await asyncio.to_thread(self._log.requests, record.name)
                    self._recorded |= dict.fromkeys(requests, record)
                self._known.add(record.name)
            self._listed_at = time.monotonic()


def _line(key: str, body: Request) -> bytes:
    """A request as a batch's file holds it."""
    line = {"custom_id": key, "method": "POST", "url": CHAT, "body": body}
    return json.dumps(line).encode() + b"\n"
