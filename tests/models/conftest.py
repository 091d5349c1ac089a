"""Both tiny models, built and loaded once for all tests of models."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from pipeline.models.local import LocalModel
from tests.tiny_models import build_idefics3, build_qwen2_5_vl, declare_torchvision_operators

BUILDERS = {"idefics3": build_idefics3, "qwen2_5_vl": build_qwen2_5_vl}

declare_torchvision_operators()


@pytest.fixture(scope="session", params=sorted(BUILDERS))
def model_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "qwen2_5_vl" and find_spec("torchvision") is None:
        pytest.skip("Qwen's processor needs torchvision")
    torch.set_num_threads(1)
    return BUILDERS[request.param](tmp_path_factory.mktemp("tiny") / request.param)


@pytest.fixture(scope="session")
def model(model_path: Path) -> LocalModel:
    return LocalModel(str(model_path), device="cpu", max_new_tokens=12)
