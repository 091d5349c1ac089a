"""Features of pictures that are kept say the same as the pictures' pixels, and are made once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.models import features
from pipeline.models.features import tried_features
from pipeline.models.local import LocalModel
from pipeline.models.pictures_ahead import PicturesAhead
from tests.models.chats import chat, jpeg, probe
from tests.models.test_local import mixed_probes


@pytest.fixture
def by_pixels(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalModel:
    """The model as it is where its trial fails."""
    monkeypatch.setattr("pipeline.models.local.tried_features", lambda model, encoder, ahead: None)
    return LocalModel(str(model_path), device="cpu", max_new_tokens=12)


@pytest.fixture
def encoded(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures in each pass through the vision tower."""
    passes: list[int] = []
    encode = model._model.get_image_features

    def watched(**inputs: Any) -> Any:
        output = encode(**inputs)
        passes.append(len(output.pooler_output))
        return output

    monkeypatch.setattr(model._model, "get_image_features", watched)
    return passes


def test_features_give_the_probabilities_and_replies_that_pixels_give(model: LocalModel, by_pixels: LocalModel) -> None:
    assert model._features is not None and by_pixels._features is None
    for one, other in zip(*(m.choice_probabilities(mixed_probes()) for m in (model, by_pixels)), strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    for pictures in ([], [jpeg(1)], [jpeg(2), jpeg(1, 40, 40), jpeg(2)]):
        assert asyncio.run(model.complete(chat(pictures))) == asyncio.run(by_pixels.complete(chat(pictures)))


def test_growing_probes_encode_each_picture_once(model: LocalModel, encoded: list[int]) -> None:
    pictures = [jpeg(seed) for seed in range(100, 106)]
    model.choice_probabilities([probe(pictures[:n]) for n in range(1, 7)])
    assert sum(encoded) == 6
    asyncio.run(model.complete(chat(pictures[::-1])))
    assert sum(encoded) == 6


def test_what_was_unused_longest_goes_first(
    model: LocalModel, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (probe([jpeg(seed)]) for seed in (200, 201, 202))
    expected = [model.choice_probabilities([one])[0] for one in (first, second)]
    assert model._features is not None
    size = next(reversed(model._features._kept.values())).nbytes
    monkeypatch.setattr(features, "_MOST_BYTES", 2 * size)
    for one in (first, second, first, third, first):
        model.choice_probabilities([one])
    assert sum(encoded) == 3
    assert model.choice_probabilities([second])[0] == pytest.approx(expected[1], abs=1e-5)
    assert sum(encoded) == 4


@pytest.mark.parametrize("fault", ["refuses", "lacks"])
def test_a_model_that_needs_more_than_the_features_is_given_pixels(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    encode, calls = model._model.get_image_features, [0]

    def odd(**inputs: Any) -> Any:
        calls[0] += 1
        if fault == "refuses":
            raise TypeError("no such argument")
        output = encode(**inputs)
        output.pooler_output = [torch.zeros_like(each) for each in output.pooler_output]
        return output

    monkeypatch.setattr(model._model, "get_image_features", odd)
    assert tried_features(model._model, model._encoder, PicturesAhead(model._encoder)) is None
    assert calls == [1]
