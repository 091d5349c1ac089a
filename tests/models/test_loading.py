"""What is wrong with a model is said at once, in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from pipeline.models.loading import load, torch_device, torch_dtype, weights_hash
from schemas.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def copy(model_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_path, tmp_path / "copy"))


def truncate_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:50_000])


def drop_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in sorted(weights) if "layers.1" in name))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def drop_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def drop_processor(folder: Path) -> None:
    (folder / "processor_config.json").unlink()


def become_text_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))


def ask_for_own_code(folder: Path) -> None:
    auto = {"AutoConfig": "own.Config", "AutoModelForImageTextToText": "own.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto}))
    (folder / "own.py").write_text("raise SystemExit('code of a checkpoint was run')")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncate_weights, "is the folder complete"),
        (drop_a_weight, "lacks 1 weights"),
        (drop_template, "no chat template"),
        (drop_processor, "cannot be loaded"),
        (become_text_model, "cannot be loaded"),
        (ask_for_own_code, "cannot be loaded"),
    ],
)
def test_a_spoilt_folder_is_refused(copy: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(copy)
    with pytest.raises(UserError, match=said) as caught:
        load(str(copy), CPU, torch.float32)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_a_missing_package_say_what_to_do(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load(str(tmp_path / "missing"), CPU, torch.float32)

    def no_torchvision(*args: object, **kwargs: object) -> None:
        raise ImportError("Qwen2VLVideoProcessor requires the Torchvision library")

    monkeypatch.setattr(AutoProcessor, "from_pretrained", no_torchvision)
    with pytest.raises(UserError, match=r"install zoomtrail\[qwen\]"):
        load(str(model_path), CPU, torch.float32)


def test_device_and_dtype() -> None:
    assert torch_device("cpu") == CPU
    assert torch_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert torch_dtype("auto", CPU) == torch.float32
    assert torch_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert torch_dtype("float16", CPU) == torch.float16
    with pytest.raises(UserError, match="use auto, cpu"):
        torch_device("gpu")
    with pytest.raises(UserError, match="use auto, bfloat16"):
        torch_dtype("int3", CPU)


def test_of_a_checkpoints_generation_settings_only_end_tokens_stay(copy: Path) -> None:
    file = copy / "generation_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "do_sample": True, "top_k": 1, "repetition_penalty": 1.5}))
    model, processor = load(str(copy), CPU, torch.float32)
    kept = model.generation_config
    assert kept.eos_token_id == [processor.tokenizer.eos_token_id]
    assert (kept.do_sample, kept.top_k, kept.repetition_penalty) == (None, None, None)


def test_a_model_retrained_in_place_has_another_hash(copy: Path) -> None:
    model, _ = load(str(copy), CPU, torch.float32)
    before = weights_hash(str(copy), model)
    assert before == weights_hash(str(copy), model)
    weights = {name: tensor * 1.01 for name, tensor in load_file(copy / "model.safetensors").items()}
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert weights_hash(str(copy), model) != before
