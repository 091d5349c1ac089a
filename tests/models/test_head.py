"""Probabilities of a model in bfloat16 are not quantised by its last layer."""

from pathlib import Path

import pytest
import torch

from pipeline.models.head import head_in_float32
from pipeline.models.local import LocalModel
from pipeline.models.prefill import SeparatePrefill, asked_of
from tests.models.chats import jpeg, probe
from tests.models.test_local import LIKE


@pytest.fixture
def coarse(model_path: Path) -> LocalModel:
    return LocalModel(str(model_path), device="cpu", dtype="bfloat16")


def test_logits_of_a_model_in_bfloat16_are_finer_than_its_own(coarse: LocalModel) -> None:
    network = coarse._model
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        with head_in_float32(network):
            fine = network(input_ids=tokens).logits
        own = network(input_ids=tokens).logits
    assert (fine.dtype, own.dtype) == (torch.float32, torch.bfloat16)
    assert torch.allclose(fine, own.float(), atol=0.05, rtol=2**-7)
    assert not torch.equal(fine, fine.bfloat16().float())


def test_log_probabilities_of_a_model_in_bfloat16_have_no_steps(coarse: LocalModel) -> None:
    """Differences of two logits in bfloat16 are multiples of a step; these are none."""
    asked = asked_of(coarse._encoder, [probe([jpeg(1)])])
    for prefill in (coarse._prefill, SeparatePrefill(coarse._model, coarse._encoder)):
        ((first, *others),) = prefill.log_probabilities(asked)
        gaps = torch.tensor([first[0] - other[0] for other in others], dtype=torch.float64)
        assert ((gaps * 512 - (gaps * 512).round()).abs() > 1e-2).any()


def test_a_model_in_bfloat16_shares_prefixes_and_is_close_to_separate_prefills(coarse: LocalModel) -> None:
    questions = [probe([jpeg(i) for i in range(n)], choices=LIKE) for n in range(1, 4)]
    asked = asked_of(coarse._encoder, questions)
    assert not isinstance(coarse._prefill, SeparatePrefill)
    found, expected = (
        p.log_probabilities(asked) for p in (coarse._prefill, SeparatePrefill(coarse._model, coarse._encoder))
    )
    for one, other in zip(found, expected, strict=True):
        for logs, others in zip(one, other, strict=True):
            assert logs == pytest.approx(others, abs=0.15)
