"""LLaMA-Factory's own way to a training batch, as `llamafactory-cli train` takes it (`train/sft/workflow.py`)."""

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from tiny_qwen import Row, build_text_model, build_vision_model, seen, serve

COMMAND = {
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "full",
    "cutoff_len": 65536,
    "trust_remote_code": False,
    "report_to": "none",
    "overwrite_cache": True,
    "bf16": False,
    "use_cpu": True,
}
"""A user's YAML without model, template and data."""


def excuse_torchaudio() -> None:
    """An empty module where torchaudio's wheel, built for CUDA, cannot be imported: it is used for sound alone."""
    try:
        import torchaudio  # noqa: F401
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        empty = ModuleType("torchaudio")
        empty.__spec__ = find_spec("torchaudio")
        sys.modules["torchaudio"] = empty


@cache
def _model(scratch: Path, vision: bool) -> Path:
    return build_vision_model(scratch / "vision") if vision else build_text_model(scratch / "text")


def read(case: Row, scratch: Path) -> list[Row]:
    from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    command: dict[str, Any] = {
        **COMMAND,
        "model_name_or_path": str(_model(scratch, case["vision"])),
        "template": "qwen2_vl" if case["vision"] else "qwen3_nothink",
        "dataset_dir": case["folder"],
        "dataset": case["cut"],
        "mask_history": case["last_turn"],
        "output_dir": str(scratch / "out"),
    }
    model_args, data_args, training_args, _, _ = get_train_args(command)
    module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    data = get_dataset(template, model_args, data_args, training_args, stage="sft", **module)["train_dataset"]
    collate = SFTDataCollatorWith4DAttentionMask(
        template=template, model=None, pad_to_multiple_of=8, label_pad_token_id=-100, **module
    )
    return [seen(module["tokenizer"], collate([row])) for row in data]


if __name__ == "__main__":
    excuse_torchaudio()
    serve(("llamafactory", "transformers", "torch"), read)
