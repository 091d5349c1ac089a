"""The arithmetic of scored choices: which tokens tell them apart, which sequences share a batch, what is likely."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

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
