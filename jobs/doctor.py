"""`zoomtrail doctor`: reach every model, video and path of a job; say what is wrong and how to mend it."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from jobs.job_file import load_job
from prompts.protocol import ZoomProtocol
from schemas.config import MODEL_ROLES, BatchEndpoint, Demo, Embedder, Endpoint, Local, RunConfig
from schemas.errors import Fatal, UserError


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it is well, and what was found or is to be done.

    note: it is well, but something is worth knowing.
    """

    what: str
    well: bool
    text: str
    note: bool = False

    @property
    def mark(self) -> str:
        if not self.well:
            return "[red]fault[/]"
        return "[yellow]note [/]" if self.note else "[green]ok   [/]"


def doctor(job: Path) -> None:
    """Prints one line per check. Raises UserError where any found a fault."""
    config = load_job(job).relative_to(job.resolve().parent)
    console = Console(highlight=False)
    faults = total = 0
    for finding in _findings(config):
        total += 1
        faults += not finding.well
        console.print(finding.mark, escape(f"{finding.what}: {finding.text}"), soft_wrap=True)
    if faults:
        raise UserError(f"{faults} of {total} checks found a fault")


def _findings(config: RunConfig) -> Iterator[Finding]:
    from jobs.generate import checked_protocol

    zoom: ZoomProtocol | None = None
    try:
        zoom = checked_protocol(config)
        yield Finding("protocol", True, f"{zoom.name} version {zoom.version}")
    except UserError as error:
        yield Finding("protocol", False, str(error))
    yield from _source(config)
    for role in MODEL_ROLES:
        model = getattr(config, role)
        if isinstance(model, Endpoint):
            yield from _endpoint(role, model, zoom)
        elif isinstance(model, Local):
            yield _local(role, model)
        elif isinstance(model, Demo):
            yield _demo(role)
    if config.embedder:
        yield _local("embedder", config.embedder)
    if config.captions.reuse_from:
        yield _reuse(config.captions.reuse_from)


def _source(config: RunConfig) -> Iterator[Finding]:
    from pipeline.sources import BadRow, load_questions

    video_ids: dict[str, None] = {}
    count = 0
    try:
        for item in load_questions(config.source):
            count += 1
            if isinstance(item, BadRow):
                yield Finding("question", False, f"{item.message}; its attempts would be failed rows")
            else:
                video_ids[item.video_id] = None
    except UserError as error:
        yield Finding("source", False, str(error))
        return
    yield Finding("source", count > 0, f"{count} questions on {len(video_ids)} videos")
    for video_id in video_ids:
        yield _video(config, video_id)


def _video(config: RunConfig, video_id: str) -> Finding:
    from pipeline.media.errors import VideoError
    from pipeline.media.sandbox import open_video
    from pipeline.sources import video_uri

    uri = video_uri(config.source, video_id)
    try:
        with open_video(uri, video_id) as opened:
            video = opened.video
            opinion = _second_opinion(opened.path)
    except VideoError as error:
        return Finding("video", False, f"{error.message}; its attempts would be failed rows")
    except Fatal as error:
        return Finding("video", False, str(error))
    if opinion == "disagree":
        return Finding("video", False, f"{video_id}: decord shows other pictures than PyAV; leave this file out")
    size = f"{video.width}x{video.height}, {video.duration_s:.1f} s, {video.n_frames} frames, {video.codec}"
    return Finding("video", True, f"{video_id}: {size}" + (", decord agrees" if opinion == "agree" else ""))


def _second_opinion(path: str) -> str:
    """What decord says of a file; asked in a process of its own, since it may crash on what PyAV reads well."""
    from pipeline.media.witness import witness

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(witness, path).result()
        except BrokenProcessPool:
            return "not applicable"


def _endpoint(role: str, model: Endpoint, zoom: ZoomProtocol | None) -> Iterator[Finding]:
    """Reaches the endpoint, then asks it small questions about what the role needs of it."""
    from pipeline.models.trial import Need, lacks

    if unreached := _unreached(role, model):
        yield Finding(role, False, unreached)
        return
    writes_turns = zoom is not None and role in ("teacher", "student")
    pictures = role != "judge" and (zoom is None or not (writes_turns and zoom.uses_captions))
    need = Need(pictures, zoom.stop if zoom is not None and writes_turns else ())
    try:
        found = lacks(model, role, need)
    except Fatal as error:
        yield Finding(role, False, f"{model.base_url}: {error}")
        return
    yield Finding(role, True, f"{model.model} answers at {model.base_url}")
    if isinstance(model, BatchEndpoint) and model.batch:
        yield _batches(role, model)
    for lack in found:
        yield Finding(role, not lack.fatal, f"{model.model} {lack.text}", note=True)


def _unreached(role: str, model: Endpoint) -> str:
    """What is wrong with address, key or model name; "" where the endpoint answers, and be it that it refuses."""
    import openai

    key = os.environ.get(model.api_key_env)
    client = openai.OpenAI(base_url=model.base_url, api_key=key or "none", timeout=30.0, max_retries=0)
    headers = {"Idempotency-Key": f"doctor-{role}"}
    try:
        client.chat.completions.create(
            model=model.model,
            messages=[{"role": "user", "content": "Say yes."}],
            max_tokens=16,
            extra_headers=headers,
        )
    except (openai.BadRequestError, openai.UnprocessableEntityError):
        return ""
    except openai.APIStatusError as error:
        hint = f"the variable {model.api_key_env} is {'set' if key else 'not set'}"
        return f"{model.base_url} answers HTTP {error.status_code} for {model.model!r} ({hint})"
    except openai.APIError as error:
        return f"{model.base_url} cannot be reached ({type(error).__name__}); check {role}.base_url"
    finally:
        client.close()
    return ""


def _batches(role: str, model: BatchEndpoint) -> Finding:
    """Whether the endpoint has batches, as the job asks for them: those that there are may be listed."""
    import openai

    key = os.environ.get(model.api_key_env) or "none"
    client = openai.OpenAI(base_url=model.base_url, api_key=key, timeout=30.0, max_retries=0)
    try:
        client.batches.list(limit=1)
    except openai.APIStatusError as error:
        why = f"{model.base_url} answers HTTP {error.status_code} where batches are listed"
        return Finding(role, False, f"{why}: set {role}.batch to false, or use a provider and a key with batches")
    except (openai.APIError, ValueError) as error:
        why = f"{model.base_url} answers in no known form where batches are listed ({type(error).__name__})"
        return Finding(role, False, f"{why}: set {role}.batch to false")
    finally:
        client.close()
    return Finding(role, True, f"{model.base_url} has batches")


def _local(role: str, model: Local | Embedder) -> Finding:
    from transformers import AutoConfig

    try:
        kind = AutoConfig.from_pretrained(model.path).model_type
    except (OSError, ValueError) as error:
        return Finding(
            role, False, f"{model.path} is no model folder ({str(error).splitlines()[0]}); check {role}.path"
        )
    return Finding(role, True, f"{model.path} is a {kind} model")


def _demo(role: str) -> Finding:
    from pipeline.models.build import demo_folder

    try:
        demo_folder()
    except UserError as error:
        return Finding(role, False, str(error))
    return Finding(role, True, "the embedded model, which knows nothing but the demo's rendered videos")


def _reuse(run: str) -> Finding:
    from pipeline.store import RunStore

    try:
        shards = len(RunStore(run).require().finished("caption"))
    except UserError as error:
        return Finding("captions.reuse_from", False, str(error))
    return Finding("captions.reuse_from", True, f"{shards} captioned shards in {run}")
