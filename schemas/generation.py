"""A regeneration: further attempts at some questions of a run, perhaps made with other settings."""

import copy
from typing import Any

from pydantic import PositiveInt

from schemas.config import fingerprint
from schemas.record import Record

StageSettings = dict[str, dict[str, Any]]
"""By stage, what `stage_settings` gives."""


class Generation(Record):
    """What a regeneration was ordered with. The run's first attempts are generation 0 and have no such record.

    where: the condition on a question's rows, which any of them met, or with all_attempts each. limit: questions at
    most. attempts: new ones per question. changes: settings by dotted name that differ from the run's config.
    settings: all that its rows depend on.
    """

    number: PositiveInt
    where: str
    all_attempts: bool
    limit: PositiveInt | None
    attempts: PositiveInt
    changes: dict[str, Any]
    settings: StageSettings

    def same_order(self, other: "Generation") -> bool:
        """Whether both ask for the same: a model may have moved or be paid otherwise meanwhile."""
        named = ("where", "all_attempts", "limit", "attempts", "settings")
        return all(getattr(self, name) == getattr(other, name) for name in named)

    def fingerprints(self, verifier: dict[str, Any] | None = None) -> dict[str, str]:
        """Of each stage's settings. verifier: the replay settings of a further one, for its verdicts."""
        return {stage: fingerprint(of) for stage, of in judged_by(self.settings, verifier).items()}


def judged_by(settings: StageSettings, verifier: dict[str, Any] | None) -> StageSettings:
    """The same attempts' settings where another verifier judges. verifier: its replay settings, None for the own."""
    if verifier is None:
        return settings
    its_own = {name: value for name, value in verifier.items() if name.startswith("verifier")}
    return settings | {"replay": settings["teach"] | its_own}


def with_changes(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A config's document with the values of dotted names replaced. Raises ValueError where a name leads nowhere."""
    changed = copy.deepcopy(config)
    for name, value in changes.items():
        place = changed
        *sections, last = name.split(".")
        for section in sections:
            if place.get(section) is None:
                place[section] = {}
            place = place[section]
            if not isinstance(place, dict):
                raise ValueError(f"{name} is not a known setting")
        place[last] = copy.deepcopy(value)
    return changed
