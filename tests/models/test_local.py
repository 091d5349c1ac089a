import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.models.chat import ChoiceQuestion, Reply
from pipeline.models.local import LocalModel
from pipeline.models.replies import cut_after_stop
from schemas.errors import Rejected
from tests.models.chats import LETTERS, QUESTION, by_hand, chat, jpeg, probe

WORDS = ("red", "a green one", "The answer is blue", "none of these")
LIKE = ("xq", "xz", "qx", "zw")
"""As many tokens each, two of them alike but for the last, so that none gets all the probability."""


def one(model: LocalModel, question: ChoiceQuestion) -> tuple[float, ...]:
    return model.choice_probabilities([question])[0]


@pytest.mark.parametrize("choices", [LETTERS, LIKE, WORDS, ("A", "The answer is B", "red", "red and blue")])
@pytest.mark.parametrize("n_pictures", [0, 1, 3])
def test_probabilities_equal_a_forward_pass_per_choice(
    model: LocalModel, n_pictures: int, choices: tuple[str, ...]
) -> None:
    question = probe([jpeg(i) for i in range(n_pictures)], choices=choices)
    result = one(model, question)
    assert sum(result) == pytest.approx(1.0)
    assert result == pytest.approx(by_hand(model, question), abs=1e-5)
    assert result == one(model, question)


def mixed_probes() -> list[ChoiceQuestion]:
    sizes = [(64, 48), (96, 32), (40, 40)]
    return [
        probe([]),
        probe([], "A longer question without any picture at all? A. red B. blue", ("A", "B")),
        *(
            probe([jpeg(n * 10 + i, *sizes[(n + i) % 3]) for i in range(n)], QUESTION * (n % 3 + 1))
            for n in range(1, 5)
        ),
        *(probe([jpeg(n), jpeg(n + 1)], "What colour? " * n, LIKE) for n in range(1, 5)),
    ]


def test_a_batch_gives_what_each_probe_gives_alone(model: LocalModel) -> None:
    together = model.choice_probabilities(mixed_probes())
    for question, result in zip(mixed_probes(), together, strict=True):
        assert result == pytest.approx(one(model, question), abs=1e-5)


def test_pictures_and_their_order_matter(model: LocalModel) -> None:
    results = [one(model, probe([jpeg(a), jpeg(b)])) for a, b in [(1, 2), (2, 1), (1, 3)]]
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        assert max(abs(a - b) for a, b in zip(results[i], results[j], strict=True)) > 1e-3


def test_a_probability_moves_with_its_choice(model: LocalModel) -> None:
    for choices in (LETTERS, LIKE):
        forth = one(model, probe([jpeg(1)], choices=choices))
        back = one(model, probe([jpeg(1)], choices=choices[::-1]))
        assert forth == pytest.approx(back[::-1], abs=1e-6)


def test_single_token_letters_cost_one_prefill(model: LocalModel) -> None:
    read = model.score([probe([jpeg(1)])]).tokens_read
    assert read == model._encoder.prompt(chat([jpeg(1)])).n_tokens


def test_per_token_compares_means(model_path: Path) -> None:
    summed, mean = LocalModel(str(model_path), device="cpu"), LocalModel(str(model_path), device="cpu", per_token=True)
    question = probe([jpeg(1)], choices=("red", "The answer is blue"))
    assert one(mean, question)[1] > one(summed, question)[1]


def test_it_is_told_how_a_model_reads(model: LocalModel) -> None:
    assert model.reading == {"shared_prefixes": True, "kept_features": True}


def test_a_bad_prompt_is_rejected(model: LocalModel) -> None:
    with pytest.raises(Rejected, match="cannot be decoded") as caught:
        one(model, probe([b"no jpeg"]))
    assert caught.value.kind == "bad_prompt"


def test_a_prompt_longer_than_the_model_reads_is_rejected(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model._model.config.get_text_config(), "max_position_embeddings", 20)
    with pytest.raises(Rejected, match="reads 20 at most"):
        one(model, probe([]))


def test_equal_requests_get_equal_replies(model_path: Path) -> None:
    warm = LocalModel(str(model_path), device="cpu", temperature=1.0, max_new_tokens=12)

    async def replies() -> list[Reply]:
        messages = chat([jpeg(1), jpeg(2)])
        return await asyncio.gather(*(warm.complete(messages, sample=sample) for sample in (0, 0, 1)))

    state = torch.get_rng_state()
    first, again, other = asyncio.run(replies())
    assert torch.equal(state, torch.get_rng_state())
    assert first == again
    assert first.key != other.key
    assert first.text != other.text
    assert first.model == model_path.name


def test_greedy_replies_do_not_depend_on_what_came_before(model: LocalModel) -> None:
    """Qwen keeps position offsets in the model between calls."""
    first = asyncio.run(model.complete(chat([jpeg(1), jpeg(2)])))
    model.choice_probabilities(mixed_probes())
    asyncio.run(model.complete(chat([])))
    assert asyncio.run(model.complete(chat([jpeg(1), jpeg(2)]))) == first
    assert first.usage.calls == 1
    assert first.usage.cost_usd == 0.0
    assert first.usage.prompt_tokens == model._encoder.prompt(chat([jpeg(1), jpeg(2)])).n_tokens
    assert (first.finish_reason, first.usage.completion_tokens) == ("length", 12) or first.finish_reason == "stop"


def test_key_tells_pictures_and_stops_apart(model: LocalModel) -> None:
    requests = [(chat([jpeg(1)]), ()), (chat([jpeg(2)]), ()), (chat([jpeg(1)]), ("</a>",)), (chat([]), ())]
    keys = {model.request_key(messages, 0, stop) for messages, stop in requests}
    assert len(keys) == len(requests)
    assert asyncio.run(model.complete(chat([jpeg(1)]))).key == model.request_key(chat([jpeg(1)]), 0, ())


def test_generation_ends_at_a_stop_string_and_keeps_it(model: LocalModel) -> None:
    free = asyncio.run(model.complete(chat([jpeg(1)])))
    stop = re.findall("[A-Za-z]{2}", free.text)[0]
    reply = asyncio.run(model.complete(chat([jpeg(1)]), stop=(stop,)))
    assert reply.text == free.text[: free.text.index(stop) + len(stop)]
    assert reply.finish_reason == "stop"
    assert reply.usage.completion_tokens < 12


def test_text_is_cut_after_the_stop_string_that_ends_first() -> None:
    assert cut_after_stop("a<x>b</y>c", ["</y>", "<x>"]) == ("a<x>", True)
    assert cut_after_stop("abc", ["</y>"]) == ("abc", False)


def test_the_interface_needs_no_torch() -> None:
    code = "import sys, pipeline.models.chat; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
