"""Throwaway environments, one for each trainer, and the children that run in them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.environments import python_with, run

TORCH = ("torch>=2.6,<2.14", "torchvision<0.29")
PACKAGES = {
    "llamafactory": ("llamafactory",),
    "ms-swift": ("ms-swift", "qwen-vl-utils"),
    "trl": ("trl", "pillow"),
    "verl": ("verl", "qwen-vl-utils"),
}
"""What a user installs to train a Qwen2.5-VL."""

CHILDREN = Path(__file__).parent / "trainer_children"
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "WANDB_MODE": "disabled",
}


def python_of(trainer: str, folder: Path) -> Path:
    """The interpreter of the trainer's environment below `folder`, made where it is not there. Raises Failed."""
    return python_with((*PACKAGES[trainer], *TORCH), folder / trainer)


def ask(trainer: str, python: Path, scratch: Path, cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the trainer makes of the cases: `versions`, and of each of the `cases` its `rows` or an `error`.

    Raises Failed where the child gives no answer.
    """
    scratch.mkdir(parents=True)
    task, answer = scratch / "task.json", scratch / "answer.json"
    task.write_text(json.dumps({"scratch": str(scratch), "cases": list(cases)}))
    child = CHILDREN / f"with_{trainer.replace('-', '_')}.py"
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    own = {"HF_HOME": str(scratch / "hf"), "MODELSCOPE_CACHE": str(scratch / "ms")}
    run([str(python), str(child), str(task), str(answer)], kept | QUIET | own, scratch)
    found: dict[str, Any] = json.loads(answer.read_text())
    return found
