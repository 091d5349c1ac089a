"""How likely a model finds each token of given answers, by a forward pass for each prompt and answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.models.chat import ChoiceQuestion
from pipeline.models.encoding import TOKEN_TENSORS, ChatEncoder, Ending, Rendered, Tensors
from pipeline.models.features import on_device
from pipeline.models.head import head_in_float32
from pipeline.models.memory import Full, within_memory
from pipeline.models.scoring import Tokens
from schemas.errors import Rejected

LogProbabilities = list[list[float]]
"""For each choice the log-probabilities, in nats, of its tokens."""


@dataclass(frozen=True)
class Asked:
    """A chat, and an assistant's texts whose likelihood is wanted: see `ChatEncoder.endings`."""

    chat: Rendered
    shared: int
    endings: Sequence[Ending]


def asked_of(encoder: ChatEncoder, probes: Sequence[ChoiceQuestion]) -> list[Asked]:
    """Probes in tokens. Raises Rejected where one of them can never be scored."""
    chats = encoder.all_rendered([probe.messages for probe in probes])
    return [Asked(chat, *encoder.endings(chat, probe.choices)) for chat, probe in zip(chats, probes, strict=True)]


class SeparatePrefill:
    """A forward pass per prompt and choice: what any model can do. Choices alike but for the last token share one."""

    def __init__(self, model: Any, encoder: ChatEncoder) -> None:
        self.tokens_read = 0
        self._model = model
        self._encoder = encoder

    def log_probabilities(self, asked: Sequence[Asked]) -> list[LogProbabilities]:
        """Raises Rejected where a prompt cannot be scored: too long; too large."""
        return [self._one(each) for each in asked]

    def _one(self, asked: Asked) -> LogProbabilities:
        known: dict[Tokens, torch.Tensor] = {}
        result = []
        for ending in asked.endings:
            tail, before = ending.tokens[asked.shared :], ending.tokens[:-1]
            if before not in known:
                known[before] = self._forward(asked.chat, ending.text, len(tail))
            result.append([float(known[before][i, token]) for i, token in enumerate(tail)])
        return result

    def _forward(self, chat: Rendered, text: str, n_tail: int) -> torch.Tensor:
        """What is likely at each of the last tokens of a text, shape (n_tail, vocabulary)."""
        prompt = self._encoder.processed(text, chat.pictures)
        tensors = {name: t[:, :-1] if name in TOKEN_TENSORS else t for name, t in prompt.tensors.items()}
        n = tensors["input_ids"].shape[1]
        check_length(self._model, n)
        logs = within_memory(lambda: self._logs(tensors, n_tail))
        if isinstance(logs, Full):
            raise Rejected("out_of_memory", f"a probe of {n} tokens: {logs.message}")
        self.tokens_read += n
        return logs

    def _logs(self, tensors: Tensors, n_tail: int) -> torch.Tensor:
        with torch.inference_mode(), head_in_float32(self._model):
            output = self._model(**on_device(self._model, tensors), use_cache=False, logits_to_keep=n_tail)
            return torch.log_softmax(output.logits[0].float(), dim=-1).cpu()


def check_length(model: Any, n_tokens: int) -> None:
    """Raises Rejected where a prompt is longer than the model reads."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and n_tokens > limit:
        raise Rejected("prompt_too_long", f"{n_tokens} tokens, and the model reads {limit} at most")
