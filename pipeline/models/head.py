"""A model's last layer in float32: a logit of 20 in bfloat16 has steps of 1/8, and so would probabilities."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

_ROWS = 16384
"""Of the vocabulary, whose weights are in float32 at once."""


@contextmanager
def head_in_float32(model: Any) -> Iterator[None]:
    """Meanwhile the model's logits are float32, whatever its own precision: for few tokens, since it is slower.

    What a model does with its logits after this layer (a cap, a scale) stays as it is.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear) or head.weight.dtype not in (torch.bfloat16, torch.float16):
        yield
        return
    own = vars(head).get("forward")
    vars(head)["forward"] = partial(_logits, head)
    try:
        yield
    finally:
        del vars(head)["forward"]
        if own is not None:
            vars(head)["forward"] = own


def _logits(head: torch.nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """hidden: (..., features)."""
    wide = hidden.float()
    starts = range(0, len(head.weight), _ROWS)
    parts = [torch.nn.functional.linear(wide, head.weight[at : at + _ROWS].float()) for at in starts]
    logits = torch.cat(parts, dim=-1)
    return logits if head.bias is None else logits + head.bias.float()
