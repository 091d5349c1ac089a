"""A model behind an OpenAI-compatible server."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pipeline.leases import Link
from pipeline.links import Alone
from pipeline.models.calls import CallStore
from pipeline.models.chat import CallCounts, ChatMessage, Reply
from pipeline.models.file_threads import FileThreads
from pipeline.models.gate import Gate, need_of
from pipeline.models.replies import Response, reply_of
from pipeline.models.request import Request, request_of, with_images
from pipeline.models.sending import Sender
from schemas.config import Endpoint

_FILE_THREADS = 8
"""Threads that read and write kept replies on a disk: with many more, they mostly wait for each other."""

_REMOTE_FILE_THREADS = 64
"""The same on an object store, where each waits 100 ms or so for its answer: as many as `remote` keeps connections."""

_ENCODERS = 4
"""Threads that encode pictures: others decode videos meanwhile, and a call that has leave must not wait for those."""

T = TypeVar("T")


class EndpointModel:
    """Calls one model; every reply is durable before it is parsed, and an identical request is never sent twice.

    A request's key is the hash of all that is sent (images by their hash), with the model's name, sampling and
    sample number. It goes along as `Idempotency-Key`, so that a gateway that knows that header can recognise a
    repeated call. A 401, 403 or 404 is Fatal, as is a dead key by any status; another 4xx is this request's fault
    (Rejected); 408, 409, 425, 429, 5xx, timeouts, lost connections and replies that cannot be read are retried with
    jittered backoff or when the server says. An error with status 200 counts by its code. When the retries of a call
    are used up, it is Rejected if the server answered anything else before the last of them. If it answered nothing,
    that may be an outage: all calls wait while plain requests are tried (see `Sender`), and it is Fatal after
    `outage_s`; a call whose retries an outage used up is tried once more after it.
    """

    def __init__(
        self,
        config: Endpoint,
        role: str,
        calls: CallStore,
        top_logprobs: int = 0,
        link: Link | None = None,
        held_to: Sequence[str] = (),
    ) -> None:
        """top_logprobs: how many of the likeliest tokens at each place the server is to list, 0 for none.

        held_to: the only answers that `complete` is to get, where the server can be held to them; () for any text.
        link: to the meter of the run; without it the model keeps the limits of its config by itself.
        """
        self.name = config.model
        self.counts = CallCounts()
        self._config = config
        self._role = role
        self._calls = calls
        self._top_logprobs = top_logprobs
        self._held_to = tuple(held_to)
        self._files = FileThreads(_FILE_THREADS if calls.storage.is_local else _REMOTE_FILE_THREADS)
        self._encoders = FileThreads(_ENCODERS)
        self._under_way: dict[str, asyncio.Future[Response]] = {}
        self.gate = Gate(link or Alone(config, role), role, config.concurrency)
        self._sender = Sender(config, role, self.counts, self.gate)

    async def complete(self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()) -> Reply:
        """See `ChatModel.complete`."""
        return (await self.respond(messages, sample=sample, stop=stop, choices=self._held_to))[0]

    async def respond(
        self,
        messages: Sequence[ChatMessage],
        *,
        sample: int = 0,
        stop: Sequence[str] = (),
        choices: Sequence[str] = (),
    ) -> tuple[Reply, Response]:
        """The reply to a chat, and the completion it was read from. Raises as `ChatModel.complete` does.

        choices: the only answers there are, where the server can be held to them: see `request_of`.
        """
        config, listed = self._config, self._top_logprobs
        request, key = await self._near(messages, lambda: request_of(config, messages, sample, stop, listed, choices))
        if key not in self._under_way:
            task = asyncio.ensure_future(self._response(request, messages, key))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        response = await asyncio.shield(self._under_way[key])
        return reply_of(key, self.name, response, config.price, stop, config.max_tokens), response

    async def _response(self, request: Request, messages: Sequence[ChatMessage], key: str) -> Response:
        """The stored response to a request, or a new one, made durable."""
        response = await self._files.run(lambda: self._calls.get(key))
        if response is not None:
            self.counts.reused += 1
            return response

        async def body() -> dict[str, Any]:
            return await self._near(messages, lambda: with_images(request, messages))

        standing: list[Response] = []

        async def keep(response: Response) -> None:
            standing.append(await self._files.run(lambda: self._calls.put(key, self._role, request, response)))

        await self._sender.send(key, need_of(messages, self._config.max_tokens), body, keep)
        return standing[-1]

    async def close(self) -> None:
        await self._sender.close()
        self._files.close()
        self._encoders.close()

    async def _near(self, messages: Sequence[ChatMessage], work: Callable[[], T]) -> T:
        """What `work` gives: off the loop where there are images to hash or encode; text costs less than a thread."""
        if any(isinstance(part, bytes) for message in messages for part in message.parts):
            return await self._encoders.run(work)
        return work()
