"""From the configuration of a role to the model that plays it."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.leases import Link
from pipeline.models.batch_log import BatchLog
from pipeline.models.calls import CallStore
from pipeline.models.chat import CallCounts, ChatMessage, ChatModel, Reply, Scorer
from pipeline.models.chat import Embedder as EmbedderModel
from pipeline.models.replies import reply_of, response_of
from prompts.judging import YES_NO
from prompts.protocol import ZoomProtocol
from schemas.config import (
    BatchEndpoint,
    Demo,
    DemoVerifier,
    Embedder,
    Endpoint,
    EndpointCaptioner,
    EndpointJudge,
    EndpointVerifier,
    Local,
    Price,
    Verifier,
)
from schemas.errors import UserError
from schemas.record import content_id

if TYPE_CHECKING:
    from pipeline.models.local import LocalModel

DEMO_FOLDER = Path(__file__).parents[1] / "demo" / "model"
"""Where the embedded model is packaged."""

_DEMO_NAME = "zoomtrail-demo"
_DEMO_TOKENS = 96
"""New tokens that a reply of the embedded model may have."""

_DEMO_BATCH_TOKENS = 8192
"""Tokens that it reads at once: fewer than others by default, as the demo runs on machines of little memory."""

_OWN_HARDWARE = Price(input=0.0, output=0.0)

RequestKey = Callable[[Sequence[ChatMessage], int, Sequence[str]], str]
"""From messages, sample and stop strings to the key of that request's reply."""


class RememberedModel:
    """A model in this process whose replies are kept among the run's calls: GPU hours are not spent twice either."""

    def __init__(self, model: ChatModel, request_key: RequestKey, role: str, calls: CallStore) -> None:
        self.name = model.name
        self.counts = CallCounts()
        self._model = model
        self._request_key = request_key
        self._role = role
        self._calls = calls

    async def complete(self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()) -> Reply:
        """See `ChatModel.complete`."""
        key = await asyncio.to_thread(self._request_key, messages, sample, stop)
        response = await asyncio.to_thread(self._calls.get, key)
        self.counts.reused += response is not None
        if response is None:
            self.counts.sent += 1
            reply = await self._model.complete(messages, sample=sample, stop=stop)
            request = {"model": self.name, "sample": sample}
            response = await asyncio.to_thread(self._calls.put, key, self._role, request, response_of(reply))
        return reply_of(key, self.name, response, _OWN_HARDWARE)


def caption_model(
    config: Endpoint | Local | Demo, calls: CallStore, protocol: ZoomProtocol, link: Link | None = None
) -> ChatModel:
    """The captioner where it captions: no caption waits for another, so that they may go through batches.

    link: see `chat_model`. Raises UserError where a local model cannot be loaded.
    """
    if isinstance(config, EndpointCaptioner) and _by_batches(config, "captioner", calls):
        from pipeline.models.batches import BatchModel

        return BatchModel(config, "captioner", calls, link)
    return chat_model(config, "captioner", calls, protocol, link)


def _by_batches(config: BatchEndpoint, role: str, calls: CallStore) -> bool:
    """Whether a role is asked by batches, or was, and one of them is still open."""
    return config.batch or any(record.role == role and not record.closed for record in BatchLog(calls.url).records())


def judge_model(
    config: EndpointJudge | Local | None, calls: CallStore, protocol: ZoomProtocol, link: Link | None = None
) -> ChatModel | None:
    """The judge of open answers, None where the config names none. link: see `chat_model`.

    Raises UserError where a local model cannot be loaded.
    """
    if config is None:
        return None
    if isinstance(config, Local):
        return chat_model(config, "judge", calls, protocol, link)
    held_to = YES_NO if config.structured else ()
    if _by_batches(config, "judge", calls):
        from pipeline.models.batches import BatchModel

        return BatchModel(config, "judge", calls, link, held_to=held_to)
    from pipeline.models.endpoint import EndpointModel

    return EndpointModel(config, "judge", calls, link=link, held_to=held_to)


def chat_model(
    config: Endpoint | Local | Demo, role: str, calls: CallStore, protocol: ZoomProtocol, link: Link | None = None
) -> ChatModel:
    """The captioner, teacher or student of a config. protocol: what the demo's teacher speaks; others are told by chat.

    link: from endpoints to the meter of the run. Raises UserError where a local model cannot be loaded.
    """
    if isinstance(config, Endpoint):
        from pipeline.models.endpoint import EndpointModel

        return EndpointModel(config, role, calls, link=link)
    model = _demo() if isinstance(config, Demo) else _local(config)
    remembered = RememberedModel(model, model.request_key, role, calls)
    if isinstance(config, Demo) and role in ("teacher", "student"):
        return _demo_teacher(model, remembered, calls, protocol)
    return remembered


def scorer(
    config: Verifier | EndpointVerifier | Demo | None, calls: CallStore, link: Link | None = None
) -> Scorer | None:
    """The verifier of a config, None where it names none. link: see `chat_model`.

    Raises UserError where it cannot be loaded.
    """
    if config is None:
        return None
    if isinstance(config, EndpointVerifier):
        from pipeline.models.endpoint_scorer import EndpointScorer

        return EndpointScorer(config, calls, link)
    return _scoring(config)


def drawer(
    config: Verifier | EndpointVerifier | DemoVerifier | None, calls: CallStore, link: Link | None = None
) -> ChatModel | None:
    """The verifier as one that answers in words, drawn at temperature 1; None where no `rollouts` are asked of it.

    One in this process is the scorer's own model in memory. link, errors: see `scorer`.
    """
    if config is None or not config.rollouts:
        return None
    if isinstance(config, EndpointVerifier):
        from pipeline.models.endpoint_scorer import speaker_of

        return speaker_of(config, calls, link)
    model = _scoring(config).sampling(1.0)
    return RememberedModel(model, model.request_key, "verifier", calls)


def _scoring(config: Verifier | Demo) -> "LocalModel":
    if isinstance(config, Demo):
        return _demo(per_token=isinstance(config, DemoVerifier) and config.per_token)
    return _local(config, per_token=config.by_mean)


@cache
def embedder(config: Embedder | None) -> EmbedderModel | None:
    """The embedder of a config, None where it names none; one in memory for all stages of this process.

    Raises UserError where it cannot be loaded.
    """
    if config is None:
        return None
    from pipeline.models.embedder import LocalEmbedder

    return LocalEmbedder(config.path, config.device, config.dtype)


def demo_folder() -> Path:
    """The folder of the embedded model. Raises UserError where this installation has none."""
    if not (DEMO_FOLDER / "config.json").is_file():
        raise UserError("backend: demo: this installation holds no demo model (pipeline/demo/model is missing)")
    return DEMO_FOLDER


def _demo(per_token: bool = False) -> "LocalModel":
    settings = Local(path=str(demo_folder()), max_tokens=_DEMO_TOKENS, max_batch_tokens=_DEMO_BATCH_TOKENS)
    return _local(settings, name=_DEMO_NAME, per_token=per_token)


def _demo_teacher(model: "LocalModel", reader: ChatModel, calls: CallStore, protocol: ZoomProtocol) -> ChatModel:
    """The teacher of the demo. What its reader reads of a video is kept, too, and so is read once for all attempts."""
    from pipeline.demo.teacher import DemoTeacher

    teacher = DemoTeacher(reader, protocol)

    def request_key(messages: Sequence[ChatMessage], sample: int, stop: Sequence[str]) -> str:
        return content_id([teacher.name, model.request_key(messages, sample, stop)])

    return RememberedModel(teacher, request_key, "teacher", calls)


_loading = threading.Lock()
"""Stages of one worker may ask for the same model at once."""


def _local(config: Local, name: str | None = None, per_token: bool = False) -> "LocalModel":
    """One model in memory for all roles of this process that are configured alike."""
    with _loading:
        return _loaded(config, name, per_token)


@cache
def _loaded(config: Local, name: str | None, per_token: bool) -> "LocalModel":
    from pipeline.models.local import LocalModel

    return LocalModel(
        config.path,
        config.device,
        config.dtype,
        config.max_batch_tokens,
        name=name,
        temperature=config.temperature,
        max_new_tokens=config.max_tokens,
        per_token=per_token,
    )
