"""`zoomtrail verify`: verdicts by another model, beside the run's own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from jobs.changes import parsed
from jobs.generate import carry_out, ray_session
from jobs.job_file import faults
from jobs.runs import Run, absolute
from pipeline.driver_lock import driving
from pipeline.plan import Plan
from pipeline.store import RunStore
from prompts.protocols import protocol
from schemas.config import RunConfig, VerifierConfig, fingerprint, stage_settings
from schemas.errors import UserError
from schemas.generation import judged_by, with_changes

_SAID_OTHERWISE = ("backend", "model", "path", "base_url")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Another:
    """A further verifier. model: a folder, a hub name, or with base_url what a server calls it. name: of its verdicts,
    by default the last part of the model's. changes: its other settings, as in `--set`."""

    model: str
    base_url: str = ""
    name: str = ""
    answer_by: str = "letter"
    permutations: int = 1
    screens: bool = False
    changes: tuple[str, ...] = ()

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
        document = with_changes({"verifier": where | asked}, _settings(self.changes))["verifier"]
        try:
            found: VerifierConfig = TypeAdapter(VerifierConfig).validate_python(document)
        except ValidationError as error:
            raise UserError(f"verifier: {faults(error)}") from error
        return found


def _settings(changes: Sequence[str]) -> dict[str, Any]:
    """Settings of the verifier by dotted name. Raises UserError for those of another part of the run, which is taken as
    it was made, and for what has an option of its own."""
    found = parsed(changes)
    for name in found:
        if not name.startswith("verifier."):
            raise UserError(f"--set {name}: only settings of the verifier, such as verifier.rollouts=8")
        if name.split(".")[1] in _SAID_OTHERWISE:
            raise UserError(f"--set {name}: say it by --model and --base-url")
    return found


def verify(run: str, another: Another, address: str) -> None:
    """Replays all that a run has taught with another verifier. Raises UserError for the user's mistakes, Fatal where it
    cannot go on; the same command goes on from there."""
    url, name = RunStore(absolute(run)).require().url, another.called
    with driving(url) as driver:
        runs = plan_verification(url, another)
        attempts, shards = sum(each.attempts for each in runs), sum(len(each.shards) for each in runs)
        summary = f"{attempts} attempts in {shards} shards by {name}"
        unfinished = [each for each in runs if not each.finished()]
        if not unfinished:
            print(f"nothing to do: {summary} are verified")
            return
        with ray_session(runs[0].config.workers, address) as crew:
            for each in unfinished:
                carry_out(each, crew, driver)
    print(f"done: {summary}; see `zoomtrail stats {run}`, and `--verifier {name}` of stats and cut")


def plan_verification(url: str, another: Another) -> list[Run]:
    """What is taught of the run's own attempts and of each regeneration, to be judged by another. Raises UserError."""
    if not _NAME.fullmatch(another.called):
        raise UserError(f"--name {another.called!r}: letters, digits, '.', '_' and '-' only")
    own = RunStore(url).require()
    recorded, own_settings, plan = own.recorded_config(), own.recorded_settings() or {}, Plan(own)
    taught = own.finished("teach")
    # What is replayed is what the run recorded, whatever this version would have recorded.
    config = RunConfig.model_validate(recorded).model_copy(update={"verifier": another.config()})
    replay = judged_by(own_settings, stage_settings(config, protocol(config.protocol).version)["replay"])["replay"]
    runs = []
    for ordered in (None, *plan.generations):
        number, changes, settings = (
            (ordered.number, ordered.changes, ordered.settings) if ordered else (0, {}, own_settings)
        )
        shards = {shard: planned for shard, planned in plan.shards(number).items() if shard in taught}
        marks = {stage: fingerprint(of) for stage, of in judged_by(settings, replay).items()}
        its_own = RunConfig.model_validate(with_changes(recorded, changes))
        config = its_own.model_copy(update={"verifier": another.config()})
        runs += [Run(config, url, marks, shards, another.called, number)] if shards else []
    if not runs:
        raise UserError(f"{url}: no shard has trajectories yet; run `zoomtrail generate` first")
    RunStore(url, another.called).open_verifier(replay)
    return runs
