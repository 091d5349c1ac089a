"""Named conditions, one YAML file each: {name, description, source, where: [{reason, sql}], thinning: …, rl: …}.

A row is kept where every clause is true. A clause that is NULL (nothing measured) counts as failed, so a clause that
is to pass where nothing was measured says so: `x IS NULL OR x > 0`. A dropped row counts for the first clause it fails.
`thinning` holds what is left out of these rows, as in `pipeline/shards/thinning.py`; `rl` the same for RL instead.
What the command line says of it goes before both.
"""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from schemas.errors import UserError

if TYPE_CHECKING:
    from pipeline.shards.condition import Condition
    from pipeline.shards.formats.layout import Kind

DEFAULT = "default"


def preset_names() -> list[str]:
    """The presets that exist, sorted."""
    names = (entry.name for entry in files(__package__).iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def preset(name: str, kind: "Kind" = "sft") -> "Condition":
    """The condition of a preset, or of a user's YAML file, for rows of a kind.

    Raises UserError with the names that exist, or with what is wrong in the file.
    """
    from pydantic import ValidationError

    from jobs.presets.document import Preset

    try:
        found = Preset.model_validate(_document(name))
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise UserError(f"--preset {name}: {place + ': ' if place else ''}{fault['msg']}") from error
    return found.condition(kind)


def preset_text(name: str) -> str:
    """The file of a preset, comments and all. Raises UserError with the names that exist."""
    if name not in preset_names():
        raise UserError(f"--preset {name}: there is no such preset; there are {', '.join(preset_names())}")
    return (files(__package__) / f"{name}.yaml").read_text(encoding="utf-8")


def _document(name: str) -> Any:
    """What a preset's file, or a user's, says."""
    if not name.endswith((".yaml", ".yml")):
        return yaml.safe_load(preset_text(name))
    try:
        return yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--preset {name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"--preset {name} is not YAML: {str(error).splitlines()[0]}") from error
