"""`--set NAME=VALUE`: settings of a regeneration that differ from its run's."""

import os
from collections.abc import Sequence
from typing import Any

import yaml

from jobs.runs import Begun, settings_of
from schemas.config import Endpoint, RunConfig, changed
from schemas.errors import UserError

_OF_THE_COMMAND = ("workers", "budget")
"""How a command works, not what its attempts are: these hold for it alone."""

_CHANGEABLE = ("teacher", "student", "verifier", "embedder", "rollout", "view", *_OF_THE_COMMAND)


def parsed(texts: Sequence[str]) -> dict[str, Any]:
    """Values by dotted name, as a job file would hold them. Raises UserError for what a run cannot change."""
    changes: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not all(name.split(".")):
            raise UserError(f"--set {text}: write it as teacher.temperature=0.7")
        changes[_changeable(name)] = _value(name, value)
    for role in ("teacher", "student", "verifier"):
        price = [name for name in changes if name == role or name.startswith(f"{role}.price")]
        if f"{role}.model" in changes and not price:  # another model's price would be taken for its own
            changes[f"{role}.price"] = None
    return changes


def recorded(changes: dict[str, Any]) -> dict[str, Any]:
    """Those that belong to the attempts."""
    return {name: value for name, value in changes.items() if name.split(".")[0] not in _OF_THE_COMMAND}


def changed_config(run: Begun, changes: dict[str, Any]) -> RunConfig:
    """The run's config with the changes, as written. Raises UserError for unknown settings, wrong values, and what
    would need other captions."""
    written = run.with_changes(changes)
    if differences := changed(settings_of(run.written)["caption"], settings_of(written)["caption"]):
        raise UserError(
            f"--set: {'; '.join(differences)}: captions and overviews are taken over from the run, so this cannot "
            "change within it; begin a new run for it"
        )
    _require_keys(run.written, written)
    return written


def _require_keys(before: RunConfig, written: RunConfig) -> None:
    """A regeneration records the names of its variables: one that holds nothing may be a key that was pasted."""
    known = {Endpoint.model_fields["api_key_env"].default, *(of.api_key_env for of in before.endpoints.values())}
    for role, model in written.endpoints.items():
        if model.api_key_env not in known and not os.environ.get(model.api_key_env):
            raise UserError(f"--set {role}.api_key_env: it names a variable that is not set; it must hold the key")


def _changeable(name: str) -> str:
    section = name.split(".")[0]
    if section not in RunConfig.model_fields:
        raise UserError(f"--set {name}: {section} is no section of a job; one of {', '.join(_CHANGEABLE)}")
    if section == "attempts":
        raise UserError("--set attempts: say it by --attempts")
    if section not in _CHANGEABLE:
        raise UserError(f"--set {name}: {section} cannot change within a run; begin a new one for it")
    return name


def _value(name: str, text: str) -> Any:
    if name.endswith(".api_key_env"):  # should it be a key after all, no complaint of YAML's may repeat it
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {name}={text}: {' '.join(str(error).split())}") from error
    # YAML takes `off` and `yes` for truth values; here they are words.
    return text if isinstance(value, bool) and text.lower() not in ("true", "false") else value
