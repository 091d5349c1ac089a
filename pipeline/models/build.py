"""From the configuration of a role to the model that plays it."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.models.calls import CallStore
from pipeline.models.chat import CallCounts, ChatMessage, ChatModel, Reply, Scorer
from pipeline.models.replies import reply_of, response_of
from schemas.config import Endpoint, Local, Price

if TYPE_CHECKING:
    from pipeline.models.local import LocalModel

_OWN_HARDWARE = Price(input=0.0, output=0.0)


class RememberedModel:
    """A local model whose replies are kept among the run's calls: GPU hours are not spent twice either."""

    def __init__(self, model: "LocalModel", role: str, calls: CallStore) -> None:
        self.name = model.name
        self.counts = CallCounts()
        self._model = model
        self._role = role
        self._calls = calls

    async def complete(self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()) -> Reply:
        """See `ChatModel.complete`."""
        key = await asyncio.to_thread(self._model.request_key, messages, sample, stop)
        response = await asyncio.to_thread(self._calls.get, key)
        self.counts.reused += response is not None
        if response is None:
            self.counts.sent += 1
            reply = await self._model.complete(messages, sample=sample, stop=stop)
            response = response_of(reply)
            await asyncio.to_thread(self._calls.put, key, self._role, {"model": self.name, "sample": sample}, response)
        return reply_of(key, self.name, response, _OWN_HARDWARE)


def chat_model(config: Endpoint | Local, role: str, calls: CallStore) -> ChatModel:
    """The captioner or teacher of a config. Raises UserError where a local model cannot be loaded."""
    if isinstance(config, Endpoint):
        from pipeline.models.endpoint import EndpointModel

        return EndpointModel(config, role, calls)
    return RememberedModel(_local(config), role, calls)


def scorer(config: Local | None) -> Scorer | None:
    """The verifier of a config, None where it names none."""
    return None if config is None else _local(config)


def _local(config: Local) -> "LocalModel":
    from pipeline.models.local import LocalModel

    return LocalModel(
        config.path,
        config.device,
        config.dtype,
        config.max_batch_tokens,
        temperature=config.temperature,
        max_new_tokens=config.max_tokens,
    )
