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

DEMO_PROTOCOLS = ["videozoomer", "longvideo_r1"]
NO_CHANGES: list[str] = []

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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    verifier: FurtherVerifier = "",
) -> None:
    """Show the funnel from planned to kept, with the reason of every loss."""
    from jobs.stats import stats

    stats(run, where, as_json, verifier)


@app.command()
def verify(
    run: RunDirectory,
    model: Annotated[str, typer.Option(help="A folder, a name on the hub, or with --base-url a server's name for it.")],
    base_url: Annotated[str, typer.Option(help="Of an OpenAI-compatible server.")] = "",
    name: Annotated[str, typer.Option(help="Of its verdicts; default: the last part of the model's.")] = "",
    answer_by: Annotated[Literal["letter", "text"], typer.Option(help="How it names a choice.")] = "letter",
    permutations: Annotated[int, typer.Option(min=1, help="Orders in which it is shown the choices.")] = 1,
    screens: Annotated[bool, typer.Option("--screens", help="Also by four frames, and by frames in disorder.")] = False,
    address: Annotated[str, typer.Option(help="Ray cluster to use: `local`, `auto` or an address.")] = "local",
) -> None:
    """Replay a run with another verifier, whose verdicts stand beside the first one's. Asks no teacher."""
    from jobs.verify import Another, verify

    verify(run, Another(model, base_url, name, answer_by, permutations, screens), address)


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
def cut(
    run: RunDirectory,
    name: Annotated[str, typer.Argument(help="Name of the cut: RUN/cuts/NAME.")],
    preset: Annotated[str | None, typer.Option(help="A named condition; `default` where neither is given.")] = None,
    where: Annotated[str | None, typer.Option(metavar="SQL", help="A condition over the columns of `stats`.")] = None,
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
    test_share: Annotated[float, typer.Option(help="Share of the videos whose rows are for test.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Draws the test videos.")] = 0,
    tokenizer: Annotated[str, typer.Option(metavar="MODEL", help="Count tokens as this model does.")] = "",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Drop rows with more tokens.")] = None,
    rows_per_file: Annotated[
        int | None, typer.Option(min=1, help="Of Parquet; default: 10000, or 256 with pictures.")
    ] = None,
    verifier: FurtherVerifier = "",
) -> None:
    """Write the rows that meet a condition as a trainer reads them. Calls no model."""
    from jobs.cut import Export, cut

    export = Export(format, media, learn, test_share, seed, tokenizer, max_tokens)
    cut(run, name, preset, where, kind, rows_per_file, export, verifier)


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
    print(f"zoomtrail: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
