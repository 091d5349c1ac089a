"""From a role's configuration to its model; the embedded model stands in every role."""

import asyncio
from pathlib import Path

import pytest

from pipeline.models import build
from pipeline.models.build import chat_model, scorer
from pipeline.models.calls import CallStore
from pipeline.models.local import LocalModel
from prompts.protocols import protocol
from schemas.config import Demo, DemoVerifier, Local, Verifier
from schemas.errors import UserError
from tests.models.chats import chat, jpeg, probe

DEMO = Demo(backend="demo")
ZOOM = protocol("videozoomer")


def test_without_its_folder_the_embedded_model_is_missed_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "DEMO_FOLDER", tmp_path / "model")
    calls = CallStore(str(tmp_path))
    for build_role in (lambda: chat_model(DEMO, "teacher", calls, ZOOM), lambda: scorer(DEMO, calls)):
        with pytest.raises(UserError, match="holds no demo model") as caught:
            build_role()
        assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_the_embedded_model_is_one_in_memory_for_all_its_roles(
    tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "DEMO_FOLDER", model_path)
    calls = CallStore(str(tmp_path))
    verifier = scorer(DEMO, calls)
    assert isinstance(verifier, LocalModel) and verifier is scorer(DEMO, calls)
    assert sum(verifier.choice_probabilities([probe([jpeg(1)], choices=("FISH", "MOON"))])[0]) == pytest.approx(1)
    captioner = chat_model(DEMO, "captioner", calls, ZOOM)
    assert captioner.name == verifier.name == "zoomtrail-demo"
    assert chat_model(DEMO, "teacher", calls, ZOOM).name == "demo-teacher"


def test_a_local_models_reply_is_found_among_the_calls(tmp_path: Path, model_path: Path) -> None:
    calls, config = CallStore(str(tmp_path)), Local(path=str(model_path), device="cpu", max_tokens=4)
    first, again = (chat_model(config, "captioner", calls, ZOOM) for _ in range(2))
    reply = asyncio.run(first.complete(chat([jpeg(1)])))
    assert asyncio.run(again.complete(chat([jpeg(1)]))) == reply
    assert (first.counts.sent, again.counts.sent, again.counts.reused) == (1, 0, 1)


def test_a_verifier_compares_means_per_token_where_the_job_says_so(tmp_path: Path, model_path: Path) -> None:
    calls, question = CallStore(str(tmp_path)), probe([jpeg(1)], choices=("red", "The answer is blue"))
    plain = Verifier(path=str(model_path), device="cpu", answer_by="text", per_token=False)
    by_sum, by_mean = (scorer(v, calls) for v in (plain, plain.model_copy(update={"per_token": None})))
    assert by_sum is not None and by_mean is not None
    assert by_mean.choice_probabilities([question])[0][1] > by_sum.choice_probabilities([question])[0][1]


def test_the_embedded_verifier_compares_means_where_it_is_told_to(
    tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "DEMO_FOLDER", model_path)
    calls, question = CallStore(str(tmp_path)), probe([jpeg(1)], choices=("red", "The answer is blue"))
    by_sum, by_mean = (scorer(DemoVerifier(backend="demo", per_token=mean), calls) for mean in (False, True))
    assert by_sum is not None and by_mean is not None
    assert by_mean.score([question]).probabilities[0][1] > by_sum.score([question]).probabilities[0][1]
