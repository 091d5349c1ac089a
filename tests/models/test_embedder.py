"""Texts and pictures in one space, by tiny models of both classes."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.models import build
from pipeline.models.embedder import LocalEmbedder
from schemas.config import Embedder
from schemas.errors import Rejected, UserError
from tests.models.chats import jpeg
from tests.tiny_models import build_clip, build_idefics3, build_siglip

BUILDERS = {"siglip": build_siglip, "clip": build_clip}


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BUILDERS[request.param](tmp_path_factory.mktemp("embedders") / request.param)


def test_texts_and_pictures_become_unit_vectors_of_one_space(folder: Path) -> None:
    embedder = LocalEmbedder(str(folder), "cpu")
    texts, pictures = embedder.embed(["a red sign", "x" * 500], [jpeg(n) for n in range(40)])
    assert (
        texts.shape[0] == 2 and pictures.shape == (40, texts.shape[1]) and texts.dtype == pictures.dtype == np.float32
    )
    assert np.linalg.norm(texts, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(pictures, axis=1) == pytest.approx(1, abs=1e-5)
    assert embedder.name == folder.name


def test_a_picture_has_one_vector_whatever_stands_beside_it(folder: Path) -> None:
    jpegs = [jpeg(n) for n in (3, 1, 3, 2)]
    one = LocalEmbedder(str(folder), "cpu")
    _, together = one.embed(["a"], jpegs)
    _, again = one.embed(["b"], jpegs[::-1])
    _, alone = LocalEmbedder(str(folder), "cpu").embed(["a"], jpegs[1:2])
    assert np.array_equal(together, again[::-1]) and np.array_equal(together[0], together[2])
    assert alone[0] == pytest.approx(together[1], abs=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_what_cannot_embed_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, said in ((tmp_path / "empty", "cannot be loaded"), (build_idefics3(tmp_path / "chat"), "does not embed")):
        with pytest.raises(UserError, match=said) as caught:
            LocalEmbedder(str(path), "cpu")
        assert "\n" not in str(caught.value)
    with pytest.raises(Rejected, match="cannot be decoded"):
        LocalEmbedder(str(build_siglip(tmp_path / "siglip")), "cpu").embed(["a"], [b"no picture"])


def test_a_job_has_one_embedder_in_memory_or_none(folder: Path) -> None:
    config = Embedder(path=str(folder), device="cpu")
    assert build.embedder(None) is None
    assert build.embedder(config) is build.embedder(config) is not None
