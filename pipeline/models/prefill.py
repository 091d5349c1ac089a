"""How likely a model finds each token of given answers, by a forward pass for each prompt and answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.models.encoding import TOKEN_TENSORS, ChatEncoder, Rendered
from pipeline.models.features import on_device
from pipeline.models.scoring import Tokens
from schemas.errors import Rejected

LogProbabilities = list[list[float]]
"""For each choice the log-probabilities, in nats, of its tokens."""


@dataclass(frozen=True)
class Asked:
    """A chat, and the texts of an assistant whose likelihood is wanted."""

    chat: Rendered
    choices: tuple[str, ...]


class SeparatePrefill:
    """A forward pass per prompt and choice: what any model can do. Choices alike but for the last token share one."""

    def __init__(self, model: Any, encoder: ChatEncoder) -> None:
        self.tokens_read = 0
        self._model = model
        self._encoder = encoder

    def log_probabilities(self, asked: Sequence[Asked]) -> list[LogProbabilities]:
        """Raises Rejected where a prompt cannot be scored: see `ChatEncoder.endings`; too long; too large."""
        return [self._one(each) for each in asked]

    def _one(self, asked: Asked) -> LogProbabilities:
        shared, endings = self._encoder.endings(asked.chat, asked.choices)
        known: dict[Tokens, torch.Tensor] = {}
        result = []
        for tokens, choice in zip(endings, asked.choices, strict=True):
            tail = tokens[shared:]
            if tokens[:-1] not in known:
                known[tokens[:-1]] = self._forward(asked.chat, choice, len(tail))
            logs = known[tokens[:-1]]
            result.append([float(logs[i, token]) for i, token in enumerate(tail)])
        return result

    def _forward(self, chat: Rendered, choice: str, n_tail: int) -> torch.Tensor:
        """What is likely at each token of the choice, shape (n_tail, vocabulary)."""
        prompt = self._encoder.processed(chat.text + chat.lead + choice, chat.pictures)
        tensors = {name: t[:, :-1] if name in TOKEN_TENSORS else t for name, t in prompt.tensors.items()}
        n = tensors["input_ids"].shape[1]
        check_length(self._model, n)
        try:
            with torch.inference_mode():
                output = self._model(**on_device(self._model, tensors), use_cache=False, logits_to_keep=n_tail)
        except torch.cuda.OutOfMemoryError as error:
            raise Rejected("out_of_memory", f"a probe of {n} tokens: {error}") from error
        self.tokens_read += n
        return torch.log_softmax(output.logits[0].float(), dim=-1)


def check_length(model: Any, n_tokens: int) -> None:
    """Raises Rejected where a prompt is longer than the model reads."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and n_tokens > limit:
        raise Rejected("prompt_too_long", f"{n_tokens} tokens, and the model reads {limit} at most")
