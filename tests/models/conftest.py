"""The tiny models, built and loaded once for all tests of models: two families, and every class there is."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from pipeline.models.local import LocalModel
from tests.tiny_classes import (
    build_idefics3_splitting,
    build_llava_onevision,
    build_qwen2_vl,
    build_qwen3_vl,
    build_smolvlm,
)
from tests.tiny_models import build_idefics3, build_qwen2_5_vl, declare_torchvision_operators

BUILDERS = {"idefics3": build_idefics3, "qwen2_5_vl": build_qwen2_5_vl}
ALL_BUILDERS = BUILDERS | {
    "idefics3_splitting": build_idefics3_splitting,
    "llava_onevision": build_llava_onevision,
    "qwen2_vl": build_qwen2_vl,
    "qwen3_vl": build_qwen3_vl,
    "smolvlm": build_smolvlm,
}
NEEDS = {
    "idefics3": (),
    "idefics3_splitting": (),
    "smolvlm": ("torchvision", "num2words"),
}
"""The packages that a class's processor needs; those not named need torchvision."""

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


@pytest.fixture(scope="session", params=sorted(ALL_BUILDERS))
def any_model_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in NEEDS.get(request.param, ("torchvision",)):
        if find_spec(package) is None:
            pytest.skip(f"{request.param}'s processor needs {package}")
    torch.set_num_threads(1)
    return ALL_BUILDERS[request.param](tmp_path_factory.mktemp("any") / request.param)


@pytest.fixture(scope="session")
def any_model(any_model_path: Path) -> LocalModel:
    return LocalModel(str(any_model_path), device="cpu", max_new_tokens=12)
