"""A planned run, and each of its regenerations as a run by itself: its own settings, its own shards."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.job_file import faults
from pipeline.plan import Plan
from pipeline.plan_parts import PlannedShard
from pipeline.store import RunStore
from prompts.protocols import protocol
from schemas.config import STAGES, RunConfig, changed, fingerprint, stage_settings
from schemas.errors import UserError
from schemas.generation import Generation, StageSettings, with_changes


@dataclass(frozen=True)
class Run:
    """Shards to carry out with one config. config: with absolute paths; shards: what is planned of each, by number.

    verifier: the name of a further verifier, "" for the run's own. regeneration: its number, 0 for the run's own
    attempts.
    """

    config: RunConfig
    url: str
    fingerprints: dict[str, str]
    shards: dict[int, PlannedShard]
    verifier: str = ""
    regeneration: int = 0

    @property
    def attempts(self) -> int:
        return sum(shard.attempts for shard in self.shards.values())

    @cached_property
    def done(self) -> dict[str, set[int]]:
        """By stage the shards that it had committed when this was first asked: one listing of each."""
        store = RunStore(self.url, self.verifier)
        return {stage: store.finished(stage) & self.shards.keys() for stage in STAGES}

    def finished(self) -> bool:
        """Whether every shard had passed every stage when this or `done` was first asked."""
        return all(len(done) == len(self.shards) for done in self.done.values())


@dataclass(frozen=True)
class Begun:
    """A run as it was begun. written: its config as in the job file; folder: where the paths in it begin."""

    url: str
    written: RunConfig
    folder: Path

    def with_changes(self, changes: dict[str, Any]) -> RunConfig:
        """The config with other settings, as written. Raises UserError where they are none."""
        try:
            return RunConfig.model_validate(with_changes(self.written.model_dump(mode="json"), changes))
        except ValidationError as error:
            raise UserError(f"--set: {faults(error)}") from error
        except ValueError as error:
            raise UserError(f"--set: {error}") from error

    def regeneration(self, ordered: Generation, plan: Plan, changes: dict[str, Any] | None = None) -> Run:
        """A regeneration that is planned. changes: as they are said now, None: as they were when it was ordered.

        Raises UserError where it would come out otherwise.
        """
        written = self.with_changes(ordered.changes if changes is None else changes)
        settings = settings_of(written)
        if differences := changed(ordered.settings["replay"], settings["replay"]):
            raise UserError(
                f"regeneration {ordered.number} of {self.url} was ordered with other settings: {'; '.join(differences)}"
            )
        config = self.carried_out(written)
        prints = {stage: fingerprint(of) for stage, of in settings.items()}
        return Run(config, self.url, prints, plan.shards(ordered.number), "", ordered.number)

    def carried_out(self, written: RunConfig) -> RunConfig:
        """A config for further attempts: paths absolute, captions taken over from the run itself."""
        config = written.relative_to(self.folder)
        return config.model_copy(update={"captions": config.captions.model_copy(update={"reuse_from": self.url})})


def settings_of(written: RunConfig) -> StageSettings:
    """By stage, what the rows of a config depend on."""
    return stage_settings(written, protocol(written.protocol).version)


def folder_of(job: Path, url: str) -> str:
    """The folder of a job file as its run records it: relative where the run is local, so that both may move."""
    folder = job.resolve().parent
    return str(folder) if "://" in url else os.path.relpath(folder, url)


def begun(run: str) -> Begun:
    """A run that can be gone on with without its job file. Raises UserError where it cannot."""
    store = RunStore(absolute(run)).require()
    written = RunConfig.model_validate(store.recorded_config())
    if differences := changed((store.recorded_settings() or {})["replay"], settings_of(written)["replay"]):
        raise UserError(f"{run} was begun by another version of Zoomtrail: {'; '.join(differences)}")
    folder = store.recorded_folder()
    if folder is None or not _is_there(written.relative_to(folder).source.videos):
        lost = "does not tell where its job file lies" if folder is None else f"finds no videos from {folder}"
        raise UserError(f"{run} {lost}: run `zoomtrail generate JOB --out {run}` once, which notes it")
    return Begun(store.url, written, folder)


def absolute(url: str) -> str:
    """A local path made absolute: workers have a working directory of their own."""
    return url if "://" in url else str(Path(url).resolve())


def _is_there(folder: str) -> bool:
    return "://" in folder or Path(folder).is_dir()
