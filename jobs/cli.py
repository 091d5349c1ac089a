"""The command line. Each command lives in its own file and is imported when it is called, so that `--help` is quick."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from schemas.errors import Fatal, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Long videos with questions in, verified zoom-in chain-of-thought trajectories out.",
)

JobFile = Annotated[Path, typer.Argument(help="The job's YAML file (`zoomtrail init` prints one).")]
RunDirectory = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or its URL.")]

FurtherVerifier = Annotated[
    str, typer.Option("--verifier", metavar="NAME", help="Look at the verdicts of a further verifier (see `verify`).")
]

VideoPlaces = Annotated[
    list[str],
    typer.Option(metavar="URL", help="Videos of other machines are fetched from below it, and beside the run itself."),
]

DEMO_PROTOCOLS = ["videozoomer", "longvideo_r1"]
NO_CHANGES: list[str] = []
NO_PLACES: list[str] = []

FORMATS = (
    *("native", "llamafactory", "llamafactory-alpaca", "ms-swift", "trl", "trl-steps", "verl"),
    *("longvideo_r1", "videozoomer", "framethinker", "longvt", "love_r1", "timesearch_r"),
)
"""Names of `pipeline/shards/formats/known.py`, for a help text that imports nothing heavy."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for films, jobs and runs.")] = Path("demo"),
    protocol: Annotated[
        list[str], typer.Option(help="How the model zooms; may be given several times.")
    ] = DEMO_PROTOCOLS,
    films: Annotated[int, typer.Option(min=1, help="Films to render, of two minutes each.")] = 3,
    attempts: Annotated[int, typer.Option(min=1, help="Trajectories per question.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first film's; the others' follow.")] = 7,
) -> None:
    """Show the whole pipeline at work on rendered films, with a small embedded model: no key, no GPU, no network."""
    from jobs.demo import demo

    demo(out, protocol, films, attempts, seed)


@app.command()
def generate(
    job: JobFile,
    out: Annotated[
        str | None, typer.Option(help="Run directory or URL; default: runs/NAME beside the job file.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N questions of the source.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would call and cost; call nothing.")] = False,
    address: Annotated[str, typer.Option(help="Ray cluster to use: `local`, `auto` or an address.")] = "local",
) -> None:
    """Plan a run and carry it out, or go on with it: the same command resumes."""
    from jobs.generate import generate

    generate(job, out, limit, dry_run, address)


@app.command()
def stats(
    run: RunDirectory,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Look only at rows that meet this condition.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Group by a column (see `columns`); many numbers by ranges.")
    ] = None,
    compare: Annotated[str | None, typer.Option(metavar="RUN2", help="Set another run beside this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    verifier: FurtherVerifier = "",
) -> None:
    """Show the funnel from planned to kept with the reason of every loss, costs, spreads, and the worst shards."""
    from jobs.stats import stats

    stats(run, where, as_json, verifier, by, compare)


@app.command()
def verify(
    run: RunDirectory,
    model: Annotated[str, typer.Option(help="A folder, a name on the hub, or with --base-url a server's name for it.")],
    base_url: Annotated[str, typer.Option(help="Of an OpenAI-compatible server.")] = "",
    name: Annotated[str, typer.Option(help="Of its verdicts; default: the last part of the model's.")] = "",
    answer_by: Annotated[Literal["letter", "text"], typer.Option(help="How it names a choice.")] = "letter",
    permutations: Annotated[int, typer.Option(min=1, help="Orders in which it is shown the choices.")] = 1,
    screens: Annotated[bool, typer.Option("--screens", help="Also by four frames, and by frames in disorder.")] = False,
    changes: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="Another setting, such as verifier.rollouts=8.")
    ] = NO_CHANGES,
    address: Annotated[str, typer.Option(help="Ray cluster to use: `local`, `auto` or an address.")] = "local",
) -> None:
    """Replay a run with another verifier, whose verdicts stand beside the first one's. Asks no teacher."""
    from jobs.verify import Another, verify

    verify(run, Another(model, base_url, name, answer_by, permutations, screens, tuple(changes)), address)


@app.command()
def regenerate(
    run: RunDirectory,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL", help="Questions with a row that meets this; left out: list what was ordered so far."
        ),
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, help="New attempts per question.")] = 1,
    changes: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="Another setting, such as teacher.model=NAME.")
    ] = NO_CHANGES,
    all_attempts: Annotated[
        bool, typer.Option("--all-attempts", help="Only questions of which every row meets the condition.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many questions.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Make a further batch where this one is finished.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would call and cost; call nothing.")] = False,
    address: Annotated[str, typer.Option(help="Ray cluster to use: `local`, `auto` or an address.")] = "local",
) -> None:
    """Make new attempts at questions whose rows meet a condition; nothing that is there changes."""
    from jobs.regenerate import Wanted, list_regenerations, regenerate

    wanted = Wanted(where or "", attempts, tuple(changes), all_attempts, limit, again)
    if wanted == Wanted("") and not dry_run:
        list_regenerations(run)
    else:
        regenerate(run, wanted, dry_run, address)


@app.command()
def calls(
    run: RunDirectory,
    role: Annotated[str | None, typer.Option(help="Only calls of this role, such as teacher.")] = None,
    model: Annotated[str | None, typer.Option(help="Only calls of this model.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print one line per call.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Calls listed at most.")] = 50,
    show: Annotated[str | None, typer.Option(metavar="KEY", help="Print one call: its request and reply.")] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Count the calls that no row refers to any more.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --prune: remove them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show what was paid for: the kept calls by role and model, or one by one; prune those of no more use."""
    from jobs.calls import Wanted, calls

    calls(run, Wanted(listed, show, prune, yes, role, model, limit, as_json))


@app.command()
def clean(
    run: RunDirectory,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
    minutes: Annotated[float, typer.Option(min=0, help="Only what has not changed for so long.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show what a crash left behind: files under temporary names, unfinished uploads, torn calls; remove it."""
    from jobs.clean import clean

    clean(run, yes, minutes, as_json)


@app.command()
def cut(
    run: RunDirectory,
    name: Annotated[str, typer.Argument(help="Name of the cut: RUN/cuts/NAME; not needed with --explain.")] = "",
    preset: Annotated[
        str | None, typer.Option(help="A named condition (see `presets`), or a YAML file; `default` without --where.")
    ] = None,
    where: Annotated[str | None, typer.Option(metavar="SQL", help="A condition over the columns of `columns`.")] = None,
    kind: Annotated[
        Literal["sft", "rl", "rl-steps"],
        typer.Option("--for", help="Rows for supervised training, for RL on questions, or on single zooms."),
    ] = "sft",
    format: Annotated[str, typer.Option(help=f"Whose records: {', '.join(FORMATS)}.")] = "native",
    media: Annotated[
        Literal["reference", "embedded", "files"] | None,
        typer.Option(help="Pictures by frame number, inside the rows, or beside them; default: as the format wants."),
    ] = None,
    learn: Annotated[
        Literal["all", "corrections"],
        typer.Option(help="Of a wrong rollout that was corrected: learn all turns, or its corrections only."),
    ] = "all",
    pass_rate_above: Annotated[
        float | None, typer.Option(metavar="0..1", help="Keep questions more of whose attempts were right.")
    ] = None,
    pass_rate_below: Annotated[
        float | None, typer.Option(metavar="0..1", help="Keep questions fewer of whose attempts were right.")
    ] = None,
    distinct_questions: Annotated[
        float | None, typer.Option(metavar="0..1", help="Of questions on one video that are so alike, keep one.")
    ] = None,
    distinct_thoughts: Annotated[
        float | None, typer.Option(metavar="0..1", help="Of attempts on one video that think so alike, keep one.")
    ] = None,
    per_question: Annotated[int | None, typer.Option(help="Attempts to keep of a question, at most.")] = None,
    per_video: Annotated[int | None, typer.Option(help="Of a video; for rl, questions.")] = None,
    per_letter: Annotated[int | None, typer.Option(help="Of a reference letter; for rl, questions.")] = None,
    best_by: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Keep the attempts of a question that have most of it (-COLUMN: least)."),
    ] = None,
    test_share: Annotated[float, typer.Option(help="Share of the videos whose rows are for test.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Draws the test videos, and what stays where there is too much.")] = 0,
    tokenizer: Annotated[str, typer.Option(metavar="MODEL", help="Count tokens as this model does.")] = "",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Drop rows with more tokens.")] = None,
    rows_per_file: Annotated[
        int | None, typer.Option(min=1, help="Of Parquet; default: 10000, or 256 with pictures.")
    ] = None,
    mb_per_file: Annotated[int | None, typer.Option(min=1, help="Of Parquet, in megabytes before compression.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what each clause drops; write nothing.")] = False,
    verifier: FurtherVerifier = "",
) -> None:
    """Write the rows that meet a condition as a trainer reads them. Calls no model."""
    from jobs import cut as job
    from pipeline.shards.formats.known import known_format
    from pipeline.shards.order import Order

    thinning: dict[str, object] = {
        "pass_rate_above": pass_rate_above,
        "pass_rate_below": pass_rate_below,
        "distinct_questions": distinct_questions,
        "distinct_thoughts": distinct_thoughts,
        "per_question": per_question,
        "per_video": per_video,
        "per_letter": per_letter,
        "best_by": best_by,
    }
    order = Order(
        name=name,
        kind=kind,
        condition=job.condition(preset, where, kind, thinning),
        rows_per_file=rows_per_file,
        bytes_per_file=mb_per_file and mb_per_file * 1_000_000,
        format=known_format(format),
        media=media,
        learn=learn,
        test_share=test_share,
        seed=seed,
        tokenizer=tokenizer,
        max_tokens=max_tokens,
    )
    (job.explain if explain else job.cut)(run, order, verifier)


@app.command()
def presets(
    name: Annotated[str, typer.Argument(help="Print this one, to read or to make your own of.")] = "",
) -> None:
    """List the named conditions for `cut`, with the recipes that they follow."""
    from jobs.presets.listing import presets

    presets(name)


@app.command()
def view(
    run: RunDirectory,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free one.")] = 8757,
    host: Annotated[str, typer.Option(help="Where to listen; by default this machine alone can look.")] = "127.0.0.1",
    verifier: FurtherVerifier = "",
    open_browser: Annotated[bool, typer.Option("--open", help="Open the browser, too.")] = False,
    videos: VideoPlaces = NO_PLACES,
) -> None:
    """Watch trajectories on a local page: video, timeline, frames, thoughts, checks, and what the trainer sees."""
    from jobs.view import view

    view(run, host, port, verifier, open_browser, videos)


@app.command()
def report(
    run: RunDirectory,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Default: RUN/report.html.")] = None,
    preset: Annotated[str, typer.Option(help="What counts as kept.")] = "default",
    each: Annotated[int, typer.Option(min=0, help="Attempts to show of each outcome.")] = 2,
    seed: Annotated[int, typer.Option(help="Draws them.")] = 0,
    verifier: FurtherVerifier = "",
    videos: VideoPlaces = NO_PLACES,
) -> None:
    """Write the statistics and a sample of attempts as one HTML file to send to a colleague."""
    from jobs.report import report

    report(run, out, preset, each, seed, verifier, videos)


@app.command()
def columns() -> None:
    """List the columns that a condition may name, with their meanings."""
    from jobs.columns import columns

    columns()


@app.command()
def init(
    protocol: Annotated[str | None, typer.Option(help="How the model zooms; default: videozoomer.")] = None,
    place: Annotated[
        Literal["laptop", "node", "cluster", "kuberay"] | None,
        typer.Option("--for", help="Sized for a laptop, a node with 8 GPUs or a cluster; or a KubeRay cluster itself."),
    ] = None,
) -> None:
    """Print a commented job file."""
    from jobs.init import init

    init(protocol, place)


@app.command()
def doctor(job: JobFile) -> None:
    """Reach every model, video and path of a job, and say what is wrong and how to mend it."""
    from jobs.doctor import doctor

    doctor(job)


def main() -> None:
    """Exit status 0: done; 1: failed, the line says how to go on; 2: the user's mistake, in one line."""
    try:
        app()
    except UserError as error:
        sys.exit(_say(error, 2))
    except Fatal as error:
        sys.exit(_say(error, 1))


def _say(message: object, status: int) -> int:
    from jobs.tables import printable

    print(f"zoomtrail: {printable(str(message))}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
