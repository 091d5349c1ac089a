"""A vision-language model run by transformers in this process: it scores choices, and it answers chats."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from pipeline.models.batching import SharedRuns
from pipeline.models.chat import CallCounts, ChatMessage, ChoiceQuestion, Reply, Scores
from pipeline.models.encoding import ChatEncoder, Prompt, Tensors, collated, picture_shapes, without_pixels
from pipeline.models.features import PicturePixels, on_device, tried_features
from pipeline.models.loading import first_line, load, torch_device, torch_dtype, weights_hash
from pipeline.models.pictures_ahead import PicturesAhead
from pipeline.models.prefill import SeparatePrefill, asked_of, check_length
from pipeline.models.replies import cut_after_stop
from pipeline.models.scoring import softmax, token_batches
from pipeline.models.shared_prefill import SharedPrefill, tried_sharing
from schemas.captions import Usage
from schemas.errors import Rejected, UserError
from schemas.record import content_id


@dataclass(frozen=True)
class _Request:
    """A chat to answer."""

    messages: tuple[ChatMessage, ...]
    sample: int
    stop: tuple[str, ...]


@dataclass(frozen=True)
class _Asked:
    """A request ready to be answered. number: among the requests that were taken with it."""

    number: int
    request: _Request
    prompt: Prompt


class LocalModel:
    """Scores choices (`Scorer`) and answers chats (`ChatModel`) with one model in memory.

    Greedy requests that wait while the model is busy share batches. In float32 a probe's probabilities are the same in
    any batch (to 1e-5), and so are greedy replies; in bfloat16 they differ by its rounding.
    """

    def __init__(
        self,
        path: str,
        device: str = "auto",
        dtype: str = "auto",
        max_batch_tokens: int = 16384,
        *,
        name: str | None = None,
        temperature: float = 0.0,
        max_new_tokens: int = 512,
        per_token: bool = False,
    ) -> None:
        """path: a folder as save_pretrained writes it, or a hub name. device: `auto` (cuda where there is one, else
        cpu) or torch's name; dtype: `auto` (bfloat16 on cuda, else float32) or torch's name. max_batch_tokens: tokens
        prefilled at once, padding included. name: by default the folder's. temperature: 0 is greedy. per_token: choices
        are compared by their mean log-probability per token instead of the sum.

        Raises UserError where the model cannot be loaded or is of no use here.
        """
        self.name = name or (Path(path).resolve().name if Path(path).is_dir() else path)
        self.counts = CallCounts()
        self._device = torch_device(device)
        self._model, processor = load(path, self._device, torch_dtype(dtype, self._device))
        self._weights = weights_hash(path, self._model)
        self._end_tokens = self._model.generation_config.eos_token_id
        self._pad_token = self._model.generation_config.pad_token_id
        self._encoder = ChatEncoder(processor)
        self._ahead = PicturesAhead(self._encoder)
        try:
            self._features = tried_features(self._model, self._encoder, self._ahead)
            sight = self._features or PicturePixels(self._model, self._ahead)
            shared = tried_sharing(self._model, self._encoder, sight, max_batch_tokens)
        except (torch.cuda.OutOfMemoryError, Rejected) as error:
            reason = first_line(error)
            raise UserError(f"model {path} leaves no memory on {self._device} for a prompt: {reason}") from None
        self._prefill = shared or SeparatePrefill(self._model, self._encoder)
        self._max_batch_tokens = max_batch_tokens
        self._temperature = temperature
        self._max_new_tokens = max_new_tokens
        self._per_token = per_token
        self._lock = threading.Lock()
        self._requests = SharedRuns(self._replies, "local-model")

    @property
    def reading(self) -> dict[str, bool]:
        """What this model was found to be able to do: prompts that begin alike are read once (shared_prefixes), a
        picture is encoded once (kept_features). Without them the same is found, more slowly."""
        return {
            "shared_prefixes": isinstance(self._prefill, SharedPrefill),
            "kept_features": self._features is not None,
        }

    def choice_probabilities(self, probes: Sequence[ChoiceQuestion]) -> list[tuple[float, ...]]:
        """For each probe the probability of each choice: see `score`."""
        return self.score(probes).probabilities

    def score(self, probes: Sequence[ChoiceQuestion]) -> Scores:
        """See `Scorer`. A choice's likelihood is that of its tokens as the assistant's text: see `ChatEncoder.endings`.

        What probes of one call begin with in common is read once. Raises Rejected where one of them can never be
        scored: see `SharedPrefill` and `SeparatePrefill`.
        """
        asked = asked_of(self._encoder, probes)
        with self._lock:
            before, waited_before = self._prefill.tokens_read, self._ahead.waited_s
            scored = self._prefill.log_probabilities(asked)
            read, waited_s = self._prefill.tokens_read - before, self._ahead.waited_s - waited_before
        value = mean if self._per_token else sum
        return Scores([softmax([value(logs) for logs in of_choices]) for of_choices in scored], read, waited_s)

    def sampling(self, temperature: float) -> "LocalModel":
        """The same model in memory as one that draws its replies at this temperature."""
        other = copy(self)
        other.counts, other._temperature = CallCounts(), temperature
        other._requests = SharedRuns(other._replies, "local-model-draws")
        return other

    def request_key(self, messages: Sequence[ChatMessage], sample: int, stop: Sequence[str]) -> str:
        """The SHA-256 of all that a reply follows from, each picture standing as its hash: the key of that reply."""
        request = {
            "model": self.name,
            "weights": self._weights,
            "messages": [{"role": m.role, "content": [_part(part) for part in m.parts]} for m in messages],
            "temperature": self._temperature,
            "max_tokens": self._max_new_tokens,
            "dtype": str(self._model.dtype),
            "stop": list(stop),
        }
        return content_id({"request": request, "sample": sample})

    async def complete(self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()) -> Reply:
        """See `ChatModel`. A stop string ends the text and stays in it. Equal requests get equal replies.

        Raises Rejected where the chat cannot be rendered (see `ChatEncoder.prompt`) or is too long.
        """
        self.counts.sent += 1
        return await asyncio.wrap_future(self._requests.submit(_Request(tuple(messages), sample, tuple(stop))))

    def _prompt(self, messages: Sequence[ChatMessage]) -> Prompt:
        chat = self._encoder.rendered(messages)
        if self._features and isinstance(self._prefill, SharedPrefill):
            prompt = self._encoder.composed(chat)
        else:
            prompt = self._encoder.processed(chat.text, chat.pictures)
            if self._features:
                prompt = replace(prompt, tensors=without_pixels(prompt.tensors))
        check_length(self._model, prompt.n_tokens)
        return prompt

    def _replies(self, requests: Sequence[_Request]) -> Iterator[tuple[int, Reply | Exception]]:
        """The reply to each request, in batches of neighbours; with a temperature each is sampled by itself."""
        refused: list[tuple[int, Exception]] = []
        with self._lock:
            batches = token_batches(
                self._asked(requests, refused),
                length=self._room,
                alike=lambda a: (picture_shapes(a.prompt.tensors), a.request.stop, self._temperature > 0 and a.number),
                budget=lambda: self._max_batch_tokens,
            )
            for batch in batches:
                yield from zip([asked.number for asked in batch], self._answered(batch), strict=True)
        yield from refused

    def _asked(self, requests: Sequence[_Request], refused: list[tuple[int, Exception]]) -> Iterator[_Asked]:
        """The requests, those of like size side by side; those that cannot be answered are added to `refused`."""
        for number in sorted(range(len(requests)), key=lambda i: _size(requests[i].messages)):
            try:
                yield _Asked(number, requests[number], self._prompt(requests[number].messages))
            except Rejected as error:
                refused.append((number, error))

    def _room(self, asked: _Asked) -> int:
        return asked.prompt.n_tokens + self._max_new_tokens

    def _answered(self, batch: Sequence[_Asked]) -> list[Reply | Exception]:
        """The replies of a batch. Out of memory: in halves, and in smaller batches from now on."""
        try:
            rows = self._generated(batch)
            return [self._reply(asked, row) for asked, row in zip(batch, rows, strict=True)]
        except Rejected as error:  # one of the pictures
            return [error] if len(batch) == 1 else [reply for one in batch for reply in self._answered([one])]
        except torch.cuda.OutOfMemoryError as error:
            if len(batch) == 1:
                return [Rejected("out_of_memory", f"a chat of {batch[0].prompt.n_tokens} tokens: {error}")]
        torch.cuda.empty_cache()
        self._max_batch_tokens = len(batch) * max(map(self._room, batch)) // 2
        half = len(batch) // 2
        return self._answered(batch[:half]) + self._answered(batch[half:])

    def _generated(self, batch: Sequence[_Asked]) -> torch.Tensor:
        """The new tokens, shape (batch, n), on the CPU; a row that ended before the others is padded."""
        tensors = collated([asked.prompt.tensors for asked in batch], self._pad_token, "left")
        inputs = self._inputs(tensors, [asked.prompt for asked in batch])
        first, sampling = batch[0].request, dict[str, Any](do_sample=False)
        if self._temperature > 0:
            sampling = {"do_sample": True, "temperature": self._temperature, "top_k": 0, "top_p": 1.0}
        gpus = [self._device] if self._device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices=gpus):
            torch.manual_seed(int(self._key(first)[:15], 16))
            output = self._model.generate(
                **inputs,
                **sampling,
                max_new_tokens=self._max_new_tokens,
                stop_strings=list(first.stop) or None,
                tokenizer=self._encoder.tokenizer,
            )
        new: torch.Tensor = output[:, inputs["input_ids"].shape[1] :].cpu()
        return new

    def _reply(self, asked: _Asked, row: torch.Tensor) -> Reply:
        """row: (n,), the new tokens of a request and the padding after them."""
        tokens = self._encoder.up_to_the_end(row, self._end_tokens, asked.request.stop)
        text, stopped = cut_after_stop(self._encoder.text(tokens), asked.request.stop)
        ended = stopped or len(tokens) < self._max_new_tokens or int(tokens[-1]) in self._end_tokens
        return Reply(
            key=self._key(asked.request),
            model=self.name,
            text=text,
            reasoning="",
            finish_reason="stop" if ended else "length",
            usage=Usage(calls=1, prompt_tokens=asked.prompt.n_tokens, completion_tokens=len(tokens), cost_usd=0.0),
        )

    def _key(self, request: _Request) -> str:
        return self.request_key(request.messages, request.sample, request.stop)

    def _inputs(self, tensors: Tensors, batch: Sequence[Prompt]) -> dict[str, Any]:
        """A collated batch as the model takes it: its pictures by their pixels, or by features that are kept."""
        inputs = on_device(self._model, tensors)
        if self._features is None:
            return inputs
        return inputs | self._features.inputs([picture for prompt in batch for picture in prompt.pictures])


def _size(messages: Sequence[ChatMessage]) -> tuple[int, int]:
    """Sorts chats so that those of like cost are neighbours: pictures first, then characters."""
    parts = [part for message in messages for part in message.parts]
    return sum(isinstance(part, bytes) for part in parts), sum(len(part) for part in parts if isinstance(part, str))


def _part(part: str | bytes) -> str | dict[str, str]:
    return part if isinstance(part, str) else {"image": hashlib.sha256(part).hexdigest()}
