"""`zoomtrail demo`: the whole pipeline on rendered films, with a small embedded model."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from threading import Event

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.demo.world import FIRST_TRAINING_SEED
from prompts.protocols import protocol
from schemas.errors import Fatal, UserError

console = Console(highlight=False)
progress_console = Console(stderr=True, highlight=False)

_CAPTIONER = """
# The model that captions the clips of a film and answers `video_qa`.
captioner:
  backend: demo
"""

_JOB = Template("""\
# An ordinary Zoomtrail job, written by `zoomtrail demo`: `zoomtrail generate` carries it out or goes on with it.
# `zoomtrail init --protocol $protocol` prints the form for models of your own.

protocol: $protocol
attempts: $attempts

source:
  path: questions.jsonl        # {qid, video, question, choices, answer, clue_intervals, ...}, one a line
  videos: videos
$captioner
# The model that thinks and zooms. The demo's finds its way by what it is shown, and never sees the reference answers.
teacher:
  backend: demo

# The model that checks the evidence on the real frames.
verifier:
  backend: demo

# How much of a film is shown: signs cannot be read in the small frames of the overview, only in a zoom.
view:
  overview_frames: $overview_frames
  overview_side: 80
  zoom_frames: $zoom_frames
  zoom_side: 448
  caption_frames: $caption_frames
  caption_side: 80

captions:
  min_width: $min_width                 # children per segment: few, as the films are short

workers:
  shared: 1                    # one worker captions, teaches and replays, and loads the model once
  videos_per_shard: 1
  cpus: 2
""")


def demo(out: Path, protocols: Sequence[str], films: int, attempts: int, seed: int) -> None:
    """Renders films, asks about them, runs a job for each protocol, cuts it, and says what came of it.

    Carries out what is missing of it, as `generate` does. Raises UserError for the user's mistakes, Fatal where it
    cannot go on.
    """
    began = time.monotonic()
    names = [_known(name) for name in dict.fromkeys(protocols)]
    if seed + films > FIRST_TRAINING_SEED:
        raise UserError(f"--seed {seed}: films from seed {FIRST_TRAINING_SEED} on are what the model was trained with")
    seeds = range(seed, seed + films)
    console.print("[bold]Zoomtrail demo[/]: rendered films, questions about them, a small embedded model")
    try:
        _begin(out, names, seeds, attempts)
        _run(out, names, seeds)
    except KeyboardInterrupt:
        raise Fatal("stopped; the same command goes on from here") from None
    from jobs.demo_report import report

    report(console, {name: job_path(out, name) for name in names}, {name: run_path(out, name) for name in names})
    console.print(f"\nDone in {time.monotonic() - began:.0f} s.")


def _known(name: str) -> str:
    try:
        return protocol(name).name
    except KeyError as error:
        raise UserError(f"--protocol: {error.args[0]}") from error


@dataclass(frozen=True)
class Pace:
    """How closely a film is looked at: frames of a caption, children of a segment, frames of a zoom."""

    caption_frames: int
    min_width: int
    zoom_frames: int


BRISK = Pace(caption_frames=6, min_width=2, zoom_frames=12)
"""For a demo that is over in a minute and a half."""

THOROUGH = Pace(caption_frames=8, min_width=3, zoom_frames=16)
"""For attempts that less often go wrong by themselves."""


def job_text(name: str, attempts: int, pace: Pace = BRISK) -> str:
    """The job file of a protocol, which reads `questions.jsonl` and `videos/` beside it."""
    captioner = _CAPTIONER if protocol(name).uses_captions else ""
    return _JOB.substitute(
        protocol=name,
        attempts=attempts,
        captioner=captioner,
        overview_frames=512 if name == "longvt" else 24,  # LongVT's frames tell no times but by being one a second
        zoom_frames=8 if captioner else pace.zoom_frames,  # a walk down the captions looks at many clips, a zoom at one
        caption_frames=pace.caption_frames,
        min_width=pace.min_width,
    )


def job_path(out: Path, name: str) -> Path:
    """The job file of a protocol."""
    return out / f"{name}.yaml"


def run_path(out: Path, name: str) -> Path:
    """The run directory of a protocol: where `zoomtrail generate` puts it by itself."""
    return out / "runs" / name


def _begin(out: Path, names: Sequence[str], seeds: Sequence[int], attempts: int) -> None:
    """Writes questions and jobs. Raises UserError where those of another demo are there."""
    from pipeline.demo.corpus import as_jsonl, corpus_questions

    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_once(out / "questions.jsonl", as_jsonl(corpus_questions(seeds)))
        for name in names:
            _write_once(job_path(out, name), job_text(name, attempts))
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror or error}") from error


def _write_once(path: Path, text: str) -> None:
    if not path.exists():
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    elif path.read_text(encoding="utf-8") != text:
        raise UserError(
            f"{path} is there and differs from what this demo writes: choose another --out; "
            "an edited job is carried out by `zoomtrail generate`"
        )


def _run(out: Path, names: Sequence[str], seeds: Sequence[int]) -> None:
    from jobs.generate import carry_out, plan_run, ray_session, run_url
    from pipeline.driver_lock import driving

    with ExitStack() as stack:
        drivers = [stack.enter_context(driving(run_url(job_path(out, name)))) for name in names]
        runs = [plan_run(job_path(out, name)) for name in names]
        unfinished = [(run, driver) for run, driver in zip(runs, drivers, strict=True) if not run.finished()]
        if not unfinished:
            _say(f"Nothing to do: all {sum(run.attempts for run in runs)} attempts in {out} are finished.")
            return
        rendered = stack.enter_context(_rendering(out, seeds))
        crew = stack.enter_context(ray_session(unfinished[0][0].config.workers, "local"))
        for run, driver in unfinished:
            _say(f"{run.config.protocol}: {run.attempts} attempts: caption, teach, replay")
            carry_out(run, crew, driver, rendered)


def _say(line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


@contextmanager
def _rendering(out: Path, seeds: Sequence[int]) -> Iterator[Future[None]]:
    """Renders the films while Ray starts; stops between two of them where the demo is stopped."""
    with ThreadPoolExecutor(1) as thread:
        stopped = Event()
        try:
            yield thread.submit(_render, out, seeds, stopped)
        finally:
            stopped.set()


def _render(out: Path, seeds: Sequence[int], stopped: Event) -> None:
    from pipeline.demo.corpus import write_films

    columns = (TextColumn("rendering films"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    hidden = not progress_console.is_terminal
    with Progress(*columns, console=progress_console, transient=True, disable=hidden) as progress:
        task = progress.add_task("films")

        def show(done: int, total: int) -> None:
            if stopped.is_set():
                raise CancelledError
            progress.update(task, completed=done, total=total)

        write_films(out / "videos", seeds, show)
    _say(f"{len(seeds)} films of two minutes, and a copy that is cut short: {out / 'videos'}")
