from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.scoring import common_prefix_length, softmax, token_batches


def test_common_prefix_is_what_all_share() -> None:
    assert common_prefix_length([(1, 2, 3), (1, 2), (1, 2, 9)]) == 2
    assert common_prefix_length([(1,), (2,)]) == 0
    assert common_prefix_length([]) == 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_softmax_sums_to_one_and_keeps_the_order(values: list[float]) -> None:
    result = softmax(values)
    assert sum(result) == pytest.approx(1.0)
    assert result[values.index(max(values))] == max(result)
    assert softmax([]) == ()


Item = tuple[int, str]


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from("ab")), max_size=40), st.integers(1, 60))
def test_batches_keep_order_budget_and_likeness(items: list[Item], budget: int) -> None:
    batches = list(token_batches(items, lambda i: i[0], lambda i: i[1], lambda: budget))
    assert [item for batch in batches for item in batch] == items
    for batch in batches:
        assert len({kind for _, kind in batch}) == 1
        assert len(batch) == 1 or len(batch) * max(n for n, _ in batch) <= budget


def test_batches_are_lazy_and_heed_a_budget_that_shrinks() -> None:
    taken: list[int] = []
    budget = [40]

    def source() -> Iterator[int]:
        for i in range(12):
            taken.append(i)
            yield 10

    batches = token_batches(source(), lambda n: n, lambda n: None, lambda: budget[0])
    assert len(next(batches)) == 4
    assert len(taken) == 5
    budget[0] = 20
    assert [len(batch) for batch in batches] == [2, 2, 2, 2]
