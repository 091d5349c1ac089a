"""What one prefill for many prompts says is what a prefill for each says, and it reads far less."""

import weakref
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.models import local, shared_prefill
from pipeline.models.chat import ChatMessage, ChoiceQuestion
from pipeline.models.features import PictureFeatures, PicturePixels, tried_features
from pipeline.models.local import LocalModel
from pipeline.models.memory import Full, within_memory
from pipeline.models.pictures_ahead import PicturesAhead
from pipeline.models.prefill import Asked, LogProbabilities, SeparatePrefill, asked_of
from pipeline.models.shared_prefill import SharedPrefill, tried_sharing
from schemas.errors import Rejected, UserError
from tests.models.chats import LETTERS, jpeg, probe
from tests.models.test_local import LIKE, WORDS, mixed_probes, one


def growing(n: int, choices: tuple[str, ...] = LETTERS) -> list[ChoiceQuestion]:
    """Probes of two questions by ever more pictures of several sizes; then one by the last picture alone."""
    sizes = [(64, 48), (96, 32), (40, 40)]
    seen = [part for i in range(n) for part in (f"{i}.5s: ", jpeg(i, *sizes[i % 3]), "\n")]
    asked = [
        ChoiceQuestion((ChatMessage("user", (*seen[: 3 * k], question)),), choices)
        for question in ("Which colour? A. red B. green", "What is it? A. a sign B. a lamp")
        for k in range(n + 1)
    ]
    return [*asked, probe([jpeg(n - 1)], choices=choices)]


def asked(model: LocalModel, probes: list[ChoiceQuestion]) -> list[Asked]:
    return asked_of(model._encoder, probes)


def sight_of(model: LocalModel) -> PictureFeatures | PicturePixels:
    assert isinstance(model._prefill, SharedPrefill)
    return model._prefill._sight


def flat(scored: list[LogProbabilities]) -> list[float]:
    return list(chain(*chain(*scored)))


@pytest.mark.parametrize("budget", [1, 30, 100, 4096])
def test_shared_prefixes_give_what_separate_prefills_give(any_model: LocalModel, budget: int) -> None:
    """Of every class: in batches that cut the prompts anywhere, by pixels and by features."""
    network, encoder = any_model._model, any_model._encoder
    assert isinstance(any_model._prefill, SharedPrefill)
    probes = asked(any_model, [*growing(4), *growing(3, WORDS), *mixed_probes()])
    expected = flat(SeparatePrefill(network, encoder).log_probabilities(probes))
    for sight in {any_model._prefill._sight, PicturePixels(network, PicturesAhead(encoder))}:
        shared = SharedPrefill(network, encoder, sight, budget)
        assert flat(shared.log_probabilities(probes)) == pytest.approx(expected, abs=1e-3)


def test_what_is_shared_is_read_once(model: LocalModel) -> None:
    probes = asked(model, growing(6))
    shared = SharedPrefill(model._model, model._encoder, sight_of(model), 4096)
    separate = SeparatePrefill(model._model, model._encoder)
    shared.log_probabilities(probes)
    separate.log_probabilities(probes)
    assert separate.tokens_read > 2.5 * shared.tokens_read
    assert shared.tokens_read >= max(model._encoder.composed(each.chat).n_tokens for each in probes)


def test_letters_cost_nothing_and_words_share_their_beginning(model: LocalModel) -> None:
    def read(question: ChoiceQuestion) -> int:
        return model.score([question]).tokens_read

    bare = model._encoder.composed(model._encoder.rendered(probe([jpeg(1)]).messages)).n_tokens
    assert read(probe([jpeg(1)])) == bare
    _, endings = model._encoder.endings(model._encoder.rendered(probe([jpeg(1)]).messages), LIKE)
    assert read(probe([jpeg(1)], choices=LIKE)) - bare <= sum(
        len(set(column)) for column in zip(*(ending.tokens for ending in endings), strict=False)
    )
    assert max(one(model, probe([jpeg(1)], choices=LIKE))) < 0.99


@pytest.fixture
def watched(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The tokens of each forward pass, of which none may have more than 60."""
    sizes: list[int] = []
    forward = model._model.forward

    def small_memory(**inputs: Any) -> Any:
        n = inputs["input_ids"].shape[1]
        if n > 60:
            raise torch.cuda.OutOfMemoryError("full")
        sizes.append(n)
        return forward(**inputs)

    monkeypatch.setattr(model._model, "forward", small_memory)
    yield sizes


def test_out_of_memory_halves_the_batch_and_goes_on(model: LocalModel, watched: list[int]) -> None:
    probes = asked(model, growing(4))
    shared = SharedPrefill(model._model, model._encoder, sight_of(model), 500)
    found = flat(shared.log_probabilities(probes))
    assert max(watched) <= 60 and sum(watched) == shared.tokens_read
    first = len(watched)
    assert flat(shared.log_probabilities(probes)) == pytest.approx(found, abs=1e-5)
    assert sum(watched[first:]) == shared.tokens_read / 2  # it has learnt: nothing was tried in vain
    whole = SharedPrefill(model._model, model._encoder, sight_of(model), 50).log_probabilities(probes)
    assert flat(whole) == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize("kind", [SharedPrefill, SeparatePrefill])
def test_a_probe_too_large_for_the_memory_is_rejected(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    def no_memory(**inputs: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("full")

    settings = (sight_of(model), 100) if kind is SharedPrefill else ()
    prefill = kind(model._model, model._encoder, *settings)
    monkeypatch.setattr(model._model, "forward", no_memory)
    with pytest.raises(Rejected, match="tokens: full") as caught:
        prefill.log_probabilities(asked(model, [probe([])]))
    assert caught.value.kind == "out_of_memory"
    assert caught.value.__cause__ is None and caught.value.__context__ is None  # they would hold tensors


def test_memory_may_run_out_after_the_forward_pass(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """While what is wanted is told, or what is kept is copied."""
    probes = asked(model, growing(4))
    expected = flat(SharedPrefill(model._model, model._encoder, sight_of(model), 500).log_probabilities(probes))
    for name, method in (("_chosen", False), ("_left", True)):
        owner = SharedPrefill if method else shared_prefill
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, failing_once(getattr(owner, name)))
            small = SharedPrefill(model._model, model._encoder, sight_of(model), 500)
            assert flat(small.log_probabilities(probes)) == pytest.approx(expected, abs=1e-5)
            assert small._max_batch_tokens < 500


def failing_once(run: Any) -> Any:
    failed: list[bool] = []

    def wrapped(*arguments: Any) -> Any:
        if not failed:
            failed.append(True)
            raise torch.cuda.OutOfMemoryError("full")
        return run(*arguments)

    return wrapped


def test_no_tensor_of_a_failed_attempt_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """When memory is given back, they are gone."""
    made: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def too_much() -> None:
        tensor = torch.zeros(3)
        made.append(weakref.ref(tensor))
        raise torch.cuda.OutOfMemoryError("full")

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(made[0]() is not None))
    assert within_memory(too_much) == Full("full") and alive == [False]
    assert within_memory(lambda: 3) == 3


def test_a_trial_without_memory_is_no_verdict_on_the_model(
    model: LocalModel, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(**inputs: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("full")

    sight = sight_of(model)
    monkeypatch.setattr(model._model, "forward", no_memory)
    with pytest.raises(Rejected, match="full"):
        tried_sharing(model._model, model._encoder, sight, 100)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        tried_features(model._model, model._encoder, PicturesAhead(model._encoder))
    monkeypatch.setattr(local, "load", lambda *_: (model._model, model._encoder._processor))
    with pytest.raises(UserError, match="leaves no memory on cpu for a prompt"):
        LocalModel(str(model_path), device="cpu")


@pytest.mark.parametrize(
    "window", [{"layer_types": None, "sliding_window": 8}, {"layer_types": ["full_attention", "sliding_attention"]}]
)
def test_a_model_that_does_not_look_back_to_the_beginning_is_read_separately(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch, window: dict[str, Any]
) -> None:
    text = model._model.config.get_text_config()
    assert tried_sharing(model._model, model._encoder, sight_of(model), 100) is not None
    for name, value in window.items():
        monkeypatch.setattr(text, name, value, raising=False)
    assert tried_sharing(model._model, model._encoder, sight_of(model), 100) is None


def test_a_model_that_minds_its_mask_otherwise_is_read_separately(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes a mask of its own for none: the trial sees that its branches see each other."""
    forward = model._model.forward

    def unmasked(**inputs: Any) -> Any:
        mask = inputs.get("attention_mask")
        return forward(**{**inputs, "attention_mask": None if mask is not None and mask.ndim == 4 else mask})

    monkeypatch.setattr(model._model, "forward", unmasked)
    assert tried_sharing(model._model, model._encoder, sight_of(model), 100) is None
