"""Throwaway environments, one for each trainer, and the children that run in them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TORCH = ("torch>=2.6,<2.14", "torchvision<0.29")
PACKAGES = {
    "llamafactory": ("llamafactory",),
    "ms-swift": ("ms-swift", "qwen-vl-utils"),
    "trl": ("trl", "pillow"),
    "verl": ("verl", "qwen-vl-utils"),
}
"""What a user installs to train a Qwen2.5-VL."""

TIMEOUT_S = 1800.0
TAIL = 15
"""Lines of a failed command that are shown."""

CHILDREN = Path(__file__).parent / "trainer_children"
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "WANDB_MODE": "disabled",
}


class Failed(Exception):
    """A trainer that could not be installed or run: the last lines that the command wrote."""


def python_of(trainer: str, folder: Path) -> Path:
    """The interpreter of the trainer's environment below `folder`, made where it is not there. Raises Failed."""
    home = folder / trainer
    python, done = home / "bin" / "python", home / "installed"
    packages = (*PACKAGES[trainer], *TORCH)
    if not (done.exists() and done.read_text().split("\n") == list(packages)):
        shutil.rmtree(home, ignore_errors=True)
        for command in _commands(home, python, packages):
            _run(command, os.environ | {"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")})
        done.write_text("\n".join(packages))
    return python


def _commands(home: Path, python: Path, packages: Sequence[str]) -> list[list[str]]:
    if uv := shutil.which("uv"):
        make = [uv, "venv", "--quiet", "--python", f"{sys.version_info.major}.{sys.version_info.minor}", str(home)]
        return [make, [uv, "pip", "install", "--quiet", "--python", str(python), *packages]]
    make = [sys.executable, "-m", "venv", str(home)]
    return [make, [str(python), "-m", "pip", "install", "--quiet", *packages]]


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
    _run([str(python), str(child), str(task), str(answer)], kept | QUIET | own, scratch)
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def _run(command: Sequence[str], environment: dict[str, str], folder: Path | None = None) -> None:
    try:
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no end within {TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise Failed("\n".join((done.stdout + done.stderr).strip().splitlines()[-TAIL:]) or f"status {done.returncode}")
