"""Sequences that begin alike, as one tree: what several share stands in it once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Unit = int | str
"""A text token by its number, or a picture with all its tokens by its hash."""

ROOT = -1


@dataclass(frozen=True)
class Extent:
    """What a unit takes up. tokens: their numbers. offsets: of their positions from the unit's first, (axes, tokens).

    advance: how far after the unit's first position the next unit's is. Axes: 1, or 3 with mRoPE (Wang et al. 2024).
    """

    tokens: tuple[int, ...]
    offsets: npt.NDArray[np.int64]
    advance: int


class PrefixTree:
    """Entries in the order in which they were first added, so that each comes after its parent.

    units: of each entry; parents: the entry before it in its sequences, ROOT for a first one.
    """

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.parents: list[int] = []
        self._known: dict[tuple[int, Unit], int] = {}

    def add(self, sequence: Iterable[Unit]) -> list[int]:
        """The entry of each unit of a sequence; those that another sequence has brought are shared."""
        path = [ROOT]
        for unit in sequence:
            entry = self._known.setdefault((path[-1], unit), len(self.units))
            if entry == len(self.units):
                self.units.append(unit)
                self.parents.append(path[-1])
            path.append(entry)
        return path[1:]


class TreeLayout:
    """A tree's tokens and positions, and which of them belong together in a batch.

    extents: of each entry. first: its position in its own sequences. last_uses: the last entry that attends to it, its
    last descendant or itself.
    """

    def __init__(self, tree: PrefixTree, extent: Callable[[Unit], Extent]) -> None:
        self.parents = tree.parents
        self.extents = [extent(unit) for unit in tree.units]
        self.first: list[int] = []
        self.last_uses = list(range(len(tree.units)))
        for parent in tree.parents:
            self.first.append(0 if parent == ROOT else self.first[parent] + self.extents[parent].advance)
        for entry in reversed(range(len(tree.units))):
            parent = tree.parents[entry]
            if parent != ROOT:
                self.last_uses[parent] = max(self.last_uses[parent], self.last_uses[entry])
        self._enter, self._leave = self._intervals()

    def __len__(self) -> int:
        return len(self.extents)

    def batch(self, first: int, most_tokens: int) -> range:
        """The entries from `first` on whose tokens are no more than so many; one at least."""
        total, entry = 0, first
        while entry < len(self) and (entry == first or total + self.n_tokens(entry) <= most_tokens):
            total += self.n_tokens(entry)
            entry += 1
        return range(first, entry)

    def n_tokens(self, entry: int) -> int:
        return len(self.extents[entry].tokens)

    def tokens(self, entries: Iterable[int]) -> list[int]:
        return [token for entry in entries for token in self.extents[entry].tokens]

    def positions(self, entries: Iterable[int]) -> npt.NDArray[np.int64]:
        """Shape (axes, tokens)."""
        return np.concatenate([self.first[entry] + self.extents[entry].offsets for entry in entries], axis=1)

    def places(self, entries: Iterable[int]) -> dict[int, slice]:
        """Where the tokens of each entry stand when they are written one after another."""
        places, at = dict[int, slice](), 0
        for entry in entries:
            places[entry] = slice(at, at + self.n_tokens(entry))
            at += self.n_tokens(entry)
        return places

    def unbranched(self, entries: Sequence[int]) -> bool:
        """Whether each entry follows on the one before it, from a first one on."""
        return all(self.parents[entry] == before for before, entry in zip([ROOT, *entries], entries, strict=False))

    def reaches(self, entries: Iterable[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For each token of the entries two numbers, shape (tokens,) each: `enter` and `leave`.

        A token attends to itself and to what stands before it in its own sequences: to another one exactly where
        `other.enter <= own.enter < other.leave`.
        """
        enter = [self._enter[entry] + np.arange(self.n_tokens(entry), dtype=np.int64) for entry in entries]
        leave = [
            np.full(len(of_entry), self._leave[e], dtype=np.int64) for e, of_entry in zip(entries, enter, strict=True)
        ]
        return np.concatenate(enter), np.concatenate(leave)

    def _intervals(self) -> tuple[list[int], list[int]]:
        """By entry the numbers of its tokens and of all after them, were the tree walked depth first."""
        sizes = [self.n_tokens(entry) for entry in range(len(self))]
        for entry in reversed(range(len(self))):
            if self.parents[entry] != ROOT:
                sizes[self.parents[entry]] += sizes[entry]
        enter, free = list[int](), {ROOT: 0}
        for entry, parent in enumerate(self.parents):
            enter.append(free[parent])
            free[parent] += sizes[entry]
            free[entry] = enter[entry] + self.n_tokens(entry)
        return enter, [first + size for first, size in zip(enter, sizes, strict=True)]
