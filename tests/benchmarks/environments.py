"""Throwaway environments with other people's packages, below a folder that may be kept from run to run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TIMEOUT_S = 1800.0
TAIL = 15
"""Lines of a failed command that are shown."""


class Failed(Exception):
    """Something that could not be installed or run: the last lines that the command wrote."""


def python_with(packages: Sequence[str], home: Path) -> Path:
    """The interpreter of an environment that holds the packages, made where it is not there. Raises Failed."""
    python, done = home / "bin" / "python", home / "installed"
    if not (done.exists() and done.read_text().split("\n") == list(packages)):
        shutil.rmtree(home, ignore_errors=True)
        for command in _commands(home, python, packages):
            run(command, os.environ | {"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")})
        done.write_text("\n".join(packages))
    return python


def _commands(home: Path, python: Path, packages: Sequence[str]) -> list[list[str]]:
    if uv := shutil.which("uv"):
        make = [uv, "venv", "--quiet", "--python", f"{sys.version_info.major}.{sys.version_info.minor}", str(home)]
        return [make, [uv, "pip", "install", "--quiet", "--python", str(python), *packages]]
    make = [sys.executable, "-m", "venv", str(home)]
    return [make, [str(python), "-m", "pip", "install", "--quiet", *packages]]


def run(command: Sequence[str], environment: dict[str, str], folder: Path | None = None) -> None:
    """Runs a command to its end. Raises Failed where it fails or takes more than `TIMEOUT_S`."""
    try:
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no end within {TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise Failed("\n".join((done.stdout + done.stderr).strip().splitlines()[-TAIL:]) or f"status {done.returncode}")
