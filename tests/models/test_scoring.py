import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.scoring import by_head, common_prefix_length, log_likelihoods, softmax, token_batches


def test_common_prefix_is_what_all_share() -> None:
    assert common_prefix_length([(1, 2, 3), (1, 2), (1, 2, 9)]) == 2
    assert common_prefix_length([(1,), (2,)]) == 0
    assert common_prefix_length([]) == 0


def test_letters_are_one_group_and_words_share_only_equal_heads() -> None:
    assert by_head([(5,), (6,), (7,)]) == [{0: (5,), 1: (6,), 2: (7,)}]
    assert by_head([(1, 5), (5,), (1, 6), (2, 5)]) == [{0: (1, 5), 2: (1, 6)}, {1: (5,)}, {3: (2, 5)}]


def test_log_likelihoods_sum_over_the_tokens_of_each_tail() -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    result = log_likelihoods(probabilities.log(), {3: (0, 1), 7: (0, 2)})
    assert result == {3: pytest.approx(math.log(0.5 * 0.6)), 7: pytest.approx(math.log(0.5 * 0.3))}


def test_mean_per_token_is_the_sum_over_the_length() -> None:
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    tails = {0: (1, 2, 3), 1: (1, 2, 4)}
    total, mean = log_likelihoods(logits, tails), log_likelihoods(logits, tails, per_token=True)
    assert all(mean[i] == pytest.approx(total[i] / 3) for i in tails)


def test_logits_in_bfloat16_are_summed_in_float32() -> None:
    logits = torch.zeros(1, 1000, dtype=torch.bfloat16)
    assert log_likelihoods(logits, {0: (4,)})[0] == pytest.approx(-math.log(1000), abs=1e-5)


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
