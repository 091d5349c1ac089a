"""Named conditions, one YAML file each: {name, description, source, where: [{reason, sql}]}.

A row is kept where every clause is true. A clause that is NULL (nothing measured) counts as failed, so a clause that
is to pass where nothing was measured says so: `x IS NULL OR x > 0`. A dropped row counts for the first clause it fails.
"""

from importlib.resources import files
from typing import TYPE_CHECKING

import yaml

from schemas.errors import UserError

if TYPE_CHECKING:
    from pipeline.shards.condition import Condition

DEFAULT = "default"


def preset_names() -> list[str]:
    """The presets that exist, sorted."""
    names = (entry.name for entry in files(__package__).iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def preset(name: str) -> "Condition":
    """The condition of a preset. Raises UserError with the names that exist."""
    from pipeline.shards.condition import Clause, Condition

    if name not in preset_names():
        raise UserError(f"--preset {name}: there is no such preset; there are {', '.join(preset_names())}")
    document = yaml.safe_load((files(__package__) / f"{name}.yaml").read_text(encoding="utf-8"))
    clauses = tuple(Clause(entry["reason"], entry["sql"]) for entry in document["where"])
    return Condition(document["name"], document["description"], document["source"], clauses)
