"""The arithmetic of scored choices: which tokens tell choices apart, which sequences share a batch, what is likely."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch

Tokens = tuple[int, ...]
T = TypeVar("T")


def common_prefix_length(sequences: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all sequences share (0 for no sequences)."""
    length = 0
    for column in zip(*sequences, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return length


def by_head(tails: Sequence[Tokens]) -> list[dict[int, Tokens]]:
    """Choices grouped by their tails' tokens but the last: a group needs one sequence to be prefilled.

    tails: for each choice its tokens, one at least. Returns groups of choice index -> tail, in order of first choice;
    four one-token letters are one group.
    """
    groups: dict[Tokens, dict[int, Tokens]] = {}
    for choice, tail in enumerate(tails):
        groups.setdefault(tail[:-1], {})[choice] = tail
    return list(groups.values())


def log_likelihoods(logits: torch.Tensor, tails: Mapping[int, Tokens], per_token: bool = False) -> dict[int, float]:
    """Log-probability in nats of each tail: the sum over its tokens of log_softmax(logits), taken in float32.

    logits: (tail length, vocabulary), row j predicting token j of a tail. tails: choice index -> tokens, as `by_head`
    groups them. per_token: the mean instead, so that long choices do not lose for their length (Brown et al. 2020).
    """
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    chosen = torch.tensor(list(tails.values()), device=logits.device)
    each = log_probs[torch.arange(chosen.shape[1], device=logits.device), chosen]
    values = each.mean(dim=1) if per_token else each.sum(dim=1)
    return dict(zip(tails, values.tolist(), strict=True))


def softmax(values: Sequence[float]) -> tuple[float, ...]:
    """exp(v) / sum of exp(v), without overflow; empty for no values."""
    highest = max(values, default=0.0)
    weights = [math.exp(value - highest) for value in values]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def token_batches(
    items: Iterable[T], length: Callable[[T], int], alike: Callable[[T], Hashable], budget: Callable[[], int]
) -> Iterator[list[T]]:
    """Cuts a stream into batches of neighbours, lazily: at most one batch and one item are held.

    A batch's items have equal `alike`, and their number times the longest one's `length` (what it costs once padded)
    stays within `budget()` tokens, which may change between batches; an item above the budget is a batch by itself.
    """
    batch: list[T] = []
    longest = 0
    for item in items:
        longest = max(longest, length(item))
        if batch and ((len(batch) + 1) * longest > budget() or alike(item) != alike(batch[0])):
            yield batch
            batch, longest = [], length(item)
        batch.append(item)
    if batch:
        yield batch
