"""Sequences that begin alike, as one tree: what several share stands in it once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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

    def mask(self, cached: Sequence[int], new: range) -> npt.NDArray[np.bool_]:
        """Which token attends to which, shape (tokens of `new`, tokens of `cached` and then of `new`).

        A token attends to itself, to those before it in its own entry and to those of the entry's ancestors, all of
        which are among `cached` and `new`.
        """
        columns = self.places([*cached, *new])
        n_columns = max((place.stop for place in columns.values()), default=0)
        before = columns[new.start].start
        mask = np.zeros((n_columns - before, n_columns), dtype=np.bool_)
        ancestry: dict[int, npt.NDArray[np.bool_]] = {}
        for entry in new:
            parent, own = self.parents[entry], columns[entry]
            rows = slice(own.start - before, own.stop - before)
            if parent in new:
                mask[rows] = mask[columns[parent].stop - before - 1]
            else:
                if parent not in ancestry:
                    ancestry[parent] = self._ancestry(parent, columns, n_columns)
                mask[rows] = ancestry[parent]
            mask[rows, own] = np.tri(own.stop - own.start, dtype=np.bool_)
        return mask

    def _ancestry(self, entry: int, columns: Mapping[int, slice], n_columns: int) -> npt.NDArray[np.bool_]:
        """The columns of an entry and its ancestors."""
        row = np.zeros(n_columns, dtype=np.bool_)
        while entry != ROOT:
            row[columns[entry]] = True
            entry = self.parents[entry]
        return row
