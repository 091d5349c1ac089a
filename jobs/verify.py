"""`zoomtrail verify`: verdicts by another model, beside the run's own."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from jobs.generate import Run, absolute, carry_out, ray_session
from jobs.job_file import faults
from pipeline.driver_lock import require_undriven
from pipeline.plan import Plan
from pipeline.store import RunStore
from prompts.protocols import protocol
from schemas.config import STAGES, RunConfig, VerifierConfig, fingerprint, stage_settings
from schemas.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Another:
    """A further verifier. model: a folder, a hub name, or with base_url what a server calls it. name: of its verdicts,
    by default the last part of the model's."""

    model: str
    base_url: str = ""
    name: str = ""
    answer_by: str = "letter"
    permutations: int = 1
    screens: bool = False

    @property
    def called(self) -> str:
        return self.name or self.model.rstrip("/").split("/")[-1]

    def config(self) -> VerifierConfig:
        """Raises UserError where it is none."""
        asked = {"answer_by": self.answer_by, "permutations": self.permutations, "screens": self.screens}
        where: dict[str, Any] = {"backend": "local", "path": self.model}
        if self.model == "demo":
            where, asked = {"backend": "demo"}, {}
        elif self.base_url:
            where = {"backend": "endpoint", "model": self.model, "base_url": self.base_url}
        elif Path(self.model).is_dir():
            where["path"] = str(Path(self.model).resolve())
        elif self.model.startswith((".", "~", "/")) or self.model.count("/") != 1:
            raise UserError(f"--model {self.model}: there is no such folder, and no name on the hub is written so")
        try:
            found: VerifierConfig = TypeAdapter(VerifierConfig).validate_python(where | asked)
        except ValidationError as error:
            raise UserError(f"verifier: {faults(error)}") from error
        return found


def verify(run: str, another: Another, address: str) -> None:
    """Replays all that a run has taught with another verifier. Raises UserError for the user's mistakes, Fatal where it
    cannot go on; the same command goes on from there."""
    require_undriven(absolute(run))
    planned = _planned(absolute(run), another)
    summary = f"{planned.attempts} attempts in {len(planned.shards)} shards by {planned.verifier}"
    if planned.finished():
        print(f"nothing to do: {summary} are verified")
        return
    with ray_session(planned.config.workers, address) as crew:
        carry_out(planned, crew)
    print(f"done: {summary}; see `zoomtrail stats {run}`, and `--verifier {planned.verifier}` of stats and cut")


def _planned(url: str, another: Another) -> Run:
    if not _NAME.fullmatch(another.called):
        raise UserError(f"--name {another.called!r}: letters, digits, '.', '_' and '-' only")
    own = RunStore(url).require()
    recorded = RunConfig.model_validate(own.recorded_config())
    config = recorded.model_copy(update={"verifier": another.config()})
    settings = stage_settings(config, protocol(config.protocol).version)
    own_settings = own.recorded_settings() or {}
    taught = own.finished("teach")
    shards = {number: rows for number, rows in Plan(own).shards().items() if number in taught}
    if not shards:
        raise UserError(f"{url}: no shard has trajectories yet; run `zoomtrail generate` first")
    # What is replayed is what the run recorded, whatever this version would have recorded.
    asked = {k: v for k, v in settings["replay"].items() if k.startswith(("verifier", "judge"))}
    replay = own_settings["teach"] | asked
    RunStore(url, another.called).open_verifier(replay)
    fingerprints = {stage: fingerprint(own_settings[stage]) for stage in STAGES} | {"replay": fingerprint(replay)}
    return Run(config, url, fingerprints, shards, another.called)
