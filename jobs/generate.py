"""`zoomtrail generate`: plan a run, carry it out over Ray, resume it."""

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import islice
from math import ceil
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from jobs.job_file import load_job
from jobs.roll_up import roll_up_apart
from jobs.run_log import RunLog
from jobs.runs import Begun, Run, absolute, folder_of, settings_of
from jobs.tally import Tallier, items_to_do
from pipeline.driver_lock import Driver, driving
from pipeline.models.build import demo_folder
from pipeline.plan import Plan, generations_of
from pipeline.plan_parts import PlannedShard
from pipeline.sources import load_questions, source_hash
from pipeline.store import RunStore
from prompts.protocol import ZoomProtocol
from prompts.protocols import protocol
from schemas.config import MODEL_ROLES, STAGES, Demo, Local, RunConfig, fingerprint
from schemas.errors import Fatal, UserError
from schemas.workers import Workers

if TYPE_CHECKING:
    from pipeline.actors import Crew
    from pipeline.cluster import Snapshot

_RAYS_COPY = "working_dir_files"
"""The folder in which Ray unpacks what `ray job submit --working-dir` sent."""

console = Console(stderr=True, highlight=False)


def generate(job: Path, out: str | None, limit: int | None, dry_run: bool, address: str) -> None:
    """Carries out what is missing of a run. Raises UserError for the user's mistakes, Fatal where it cannot go on."""
    if dry_run:
        from jobs.estimate import print_estimate

        print_estimate(_checked(job)[1], limit)
        return
    _checked(job)
    with driving(run_url(job, out)) as driver:
        run = plan_run(job, out, limit)
        runs = [run, *_regenerations(job, run.url)]
        summary = f"{sum(each.attempts for each in runs)} attempts in {sum(len(each.shards) for each in runs)} shards"
        unfinished = [each for each in runs if not each.finished()]
        if not unfinished:
            print(f"nothing to do: all {summary} of {run.url} are finished")
            roll_up_apart(RunStore(run.url), console)
            return
        for each in unfinished:
            checked_protocol(each.config)
        with ray_session(run.config.workers, address) as crew:
            for each in unfinished:
                if each.regeneration:
                    console.print(f"going on with regeneration {each.regeneration}: {each.attempts} attempts")
                carry_out(each, crew, driver)
    print(f"done: {summary} of {run.url}; see `zoomtrail stats {run.url}`")


def _regenerations(job: Path, url: str) -> list[Run]:
    """What was ordered by `zoomtrail regenerate`, each with the settings of then."""
    store = RunStore(url)
    if not generations_of(store):
        return []
    run, plan = Begun(url, load_job(job), job.resolve().parent), Plan(store)
    return [run.regeneration(ordered, plan) for ordered in plan.generations]


def run_url(job: Path, out: str | None = None) -> str:
    """Where the run of a job file is. out: default runs/NAME beside the job file. Raises UserError."""
    url = absolute(out or str(job.resolve().parent / "runs" / job.stem))
    if _RAYS_COPY in Path(url).parts:
        raise UserError(f"--out: {url} is in Ray's copy of the working directory, which it removes; name another")
    return url


def plan_run(job: Path, out: str | None = None, limit: int | None = None) -> Run:
    """Begins the run of a job file, or opens it again with what its source has gained. Calls nothing, needs no Ray.

    For its one driver, since it writes. Its regenerations are runs of their own. out: see `run_url`. Raises UserError.
    """
    written, config = _checked(job)
    settings, url = settings_of(written), run_url(job, out)
    if config.captions.reuse_from:
        from pipeline.stages.reuse import require_same_captions

        require_same_captions(config.captions.reuse_from, settings["caption"])
    store = RunStore(url)
    store.open_for(written, settings, folder_of(job, url))
    fingerprints = {stage: fingerprint(settings[stage]) for stage in STAGES}
    return Run(config, url, fingerprints, _planned(store, config, limit))


def _checked(job: Path) -> tuple[RunConfig, RunConfig]:
    """The configuration of a job file as written, and with absolute paths. Raises UserError where it cannot be run."""
    written = load_job(job)
    config = written.relative_to(job.resolve().parent)
    checked_protocol(config)
    return written, config


def checked_protocol(config: RunConfig) -> ZoomProtocol:
    """The protocol of a config. Raises UserError where it does not exist or the config lacks what it needs."""
    try:
        zoom = protocol(config.protocol)
    except KeyError as error:
        raise UserError(f"protocol: {error.args[0]}") from error
    if zoom.uses_captions and config.captioner is None:
        raise UserError(f"captioner: {config.protocol} walks a caption tree, so the job must name a captioner")
    if config.rollout.hints != "off" and not zoom.has_hints:
        raise UserError(f"rollout.hints: {config.protocol} has no hints; set it to off")
    _check_reflection(config, zoom)
    _check_budget(config)
    for role in MODEL_ROLES:
        model = getattr(config, role)
        if isinstance(model, Local) and model.path[0] in "./" and not Path(model.path).exists():
            raise UserError(f"{role}.path: there is no model folder {model.path}")
        if isinstance(model, Demo):
            demo_folder()
    return zoom


def _check_budget(config: RunConfig) -> None:
    for role, endpoint in config.endpoints.items():
        if config.budget.dollars and endpoint.price is None:
            raise UserError(
                f"budget.dollars: what {role} costs is not known; set {role}.price, or budget.tokens instead"
            )


def _check_reflection(config: RunConfig, zoom: ZoomProtocol) -> None:
    rollout = config.rollout
    if config.student is not None and not rollout.reflect:
        raise UserError("student: it makes rollouts for the teacher to reflect on; set rollout.reflect, such as to 2")
    if rollout.reflect and zoom.stateless:
        raise UserError(f"rollout.reflect: a model of {zoom.name} never sees its earlier turns; set it to 0")
    if rollout.reflect and rollout.hints != "off":
        raise UserError("rollout.reflect: a wrong answer leads either to a hint or to a reflection; set one of them")


def _planned(store: RunStore, config: RunConfig, limit: int | None) -> dict[int, PlannedShard]:
    """The plan's shards after appending what the source has and the plan has not."""
    plan = Plan(store)
    if limit is not None and plan.n_questions > limit:
        raise UserError(f"--limit {limit}: this run is planned with {plan.n_questions} questions; choose another --out")
    request = {"source": source_hash(config.source), "attempts": config.attempts, "limit": limit}
    if not plan.covers(request):
        items = islice(load_questions(config.source), limit)
        extension = plan.extend(items, config.attempts, config.workers.videos_per_shard, request)
        if extension.duplicates:
            console.print(f"{extension.duplicates} source rows repeat an earlier one and are planned once")
    if not plan.n_parts:
        raise UserError(f"source.path: {config.source.path} holds no questions")
    return plan.shards(0)


def carry_out(run: Run, crew: "Crew", driver: Driver, after: Future[None] | None = None) -> None:
    """Makes what is missing of a run. crew: of a `ray_session`; after: nothing is begun before it is done.

    driver: the right to drive the run, got before anyone looked what is missing.
    Raises Fatal where it cannot go on, or another process has taken over, and what `after` raises.
    """
    from jobs.metrics import RunMetrics
    from jobs.progress import RunProgress
    from pipeline.cluster import Cluster

    store = RunStore(run.url, run.verifier)
    to_do = items_to_do(run.shards, run.done)
    tallier = Tallier(to_do, [role for role, model in run.config.endpoints.items() if model.price])
    with RunProgress(console, tallier, RunLog(store.storage), RunMetrics(run.url)) as progress:

        def show(snapshot: "Snapshot") -> None:
            progress.show(snapshot)
            driver.require()

        cluster = Cluster(run.config, run.url, run.fingerprints, run.shards, crew, run.verifier, run.done)
        asyncio.run(cluster.run(show, after))
    roll_up_apart(store, console)


@contextmanager
def ray_session(workers: Workers, address: str) -> Iterator["Crew"]:
    """Ray, with room for the pools of one run at a time. Raises UserError or Fatal; Fatal, too, for a Ctrl-C inside."""
    import ray

    _start_ray(workers, address)
    from pipeline.actors import Crew

    # As Ctrl-C: Ray, a pod that is drained and a batch system end a job so.
    signal.signal(signal.SIGTERM, _interrupt)
    crew = Crew(growing=address != "local")
    try:
        yield crew
        crew.dismiss()
    except KeyboardInterrupt:
        raise Fatal("stopped; the same command goes on from here") from None
    finally:
        ray.shutdown()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A Ctrl-C, though a shell that starts a job in the background (`nohup … &`) has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _start_ray(workers: Workers, address: str) -> None:
    """Connects to a cluster, or starts one of this machine that has room for every pool. Raises UserError or Fatal."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if address == "local":
            cpus = max(os.cpu_count() or 1, ceil(workers.all_cpus))
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except ConnectionError as error:
        raise UserError(f"--address {address}: no Ray cluster answers there") from error
    except Exception as error:  # Ray has no class of its own for a node that does not come up
        raise Fatal(f"Ray does not start: {' '.join(str(error).split())}") from error
