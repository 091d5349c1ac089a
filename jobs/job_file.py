"""Reading `job.yaml`: a valid configuration, or one line that says what to change."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from schemas.config import RunConfig
from schemas.errors import UserError


def load_job(path: Path) -> RunConfig:
    """The configuration in a job file, its paths as written. Raises UserError."""
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no job file {path}; `zoomtrail init > {path}` writes one") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} holds no settings; `zoomtrail init` prints a commented example")
    try:
        return RunConfig.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{path}: {faults(error)}") from error


def faults(error: ValidationError) -> str:
    """What is wrong with a configuration, setting by setting; five at most."""
    return "; ".join(_fault(fault) for fault in error.errors()[:5])


def _fault(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"] if part not in ("endpoint", "local", "demo")) or "the file"
    if fault["type"] == "extra_forbidden":
        return f"{place} is not a known setting"
    return f"{place}: {fault['msg'].removeprefix('Value error, ')}"
