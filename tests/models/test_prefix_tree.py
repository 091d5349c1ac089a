"""A tree of prefixes: what is shared stands in it once, and no token attends to another sequence's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.prefix_tree import ROOT, Extent, PrefixTree, TreeLayout, Unit

PICTURE = Extent((7, 8, 9), np.array([[0, 1, 1], [0, 0, 1], [0, 1, 0]]), 2)
"""Three tokens that advance positions by two, as a grid does with mRoPE."""

SEQUENCES = st.lists(st.lists(st.sampled_from([1, 2, "picture"]), min_size=1, max_size=7), min_size=1, max_size=6)


def extent(unit: Unit) -> Extent:
    return PICTURE if isinstance(unit, str) else Extent((unit,), np.zeros((3, 1), dtype=np.int64), 1)


def grown(sequences: list[list[Unit]]) -> tuple[TreeLayout, list[list[int]]]:
    tree = PrefixTree()
    paths = [tree.add(sequence) for sequence in sequences]
    return TreeLayout(tree, extent), paths


def test_equal_beginnings_are_shared_and_equal_units_elsewhere_are_not() -> None:
    tree = PrefixTree()
    assert tree.add([5, "a", 6]) == [0, 1, 2]
    assert tree.add([5, "a", 7, 6]) == [0, 1, 3, 4]
    assert tree.add([6]) == [5]
    assert tree.parents == [ROOT, 0, 1, 1, 3, ROOT]
    assert TreeLayout(tree, extent).last_uses == [4, 4, 2, 4, 4, 5]


def test_positions_are_those_of_each_sequence_by_itself() -> None:
    layout, (first, second) = grown([[1, "picture", 2], [1, 2]])
    assert layout.tokens(first) == [1, 7, 8, 9, 2]
    assert layout.positions(first).tolist() == [[0, 1, 2, 2, 3], [0, 1, 1, 2, 3], [0, 1, 2, 1, 3]]
    assert layout.positions(second).tolist() == [[0, 1]] * 3


@given(SEQUENCES, st.integers(1, 12))
def test_batches_keep_to_the_budget_and_lose_nothing(sequences: list[list[Unit]], budget: int) -> None:
    layout, _ = grown(sequences)
    at, seen = 0, list[int]()
    while at < len(layout):
        batch = layout.batch(at, budget)
        assert len(batch) == 1 or len(layout.tokens(batch)) <= budget
        seen += batch
        at = batch.stop
    assert seen == list(range(len(layout)))


@given(SEQUENCES, st.integers(1, 12))
def test_a_token_attends_to_what_comes_before_it_in_its_own_sequence_alone(
    sequences: list[list[Unit]], budget: int
) -> None:
    """Batch by batch, with what is kept of those before: each row of the mask is a sequence's own beginning."""
    layout, paths = grown(sequences)
    at, cached = 0, list[int]()
    while at < len(layout):
        batch = layout.batch(at, budget)
        entries = [*cached, *batch]
        owners = [(entry, part) for entry in entries for part in range(layout.n_tokens(entry))]
        enter, leave = layout.reaches(entries)
        own = enter[-len(layout.tokens(batch)) :, None]
        mask = (enter <= own) & (own < leave)
        if layout.unbranched(entries):
            assert (mask == np.tri(len(mask), mask.shape[1], mask.shape[1] - len(mask), dtype=np.bool_)).all()
        assert mask.shape == (len(layout.tokens(batch)), len(owners))
        for row, (entry, part) in zip(mask, owners[len(owners) - len(mask) :], strict=True):
            path = next(path for path in paths if entry in path)
            before = path[: path.index(entry)]
            expected = [(e, p) for e in before for p in range(layout.n_tokens(e))] + [
                (entry, p) for p in range(part + 1)
            ]
            assert {owner for owner, attends in zip(owners, row, strict=True) if attends} == set(expected)
        cached = [entry for entry in entries if layout.last_uses[entry] >= batch.stop]
        at = batch.stop


def test_a_stretch_is_unbranched_from_a_beginning_to_its_first_branch() -> None:
    layout, _ = grown([[1, "picture", 2], [1, 2]])
    assert layout.unbranched(range(3)) and layout.unbranched([0, 3])
    assert not layout.unbranched(range(4)) and not layout.unbranched([1, 2])
