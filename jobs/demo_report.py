"""What `zoomtrail demo` says at its end: what was kept and why the rest was not, what the verifier saw, what to try."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.presets import DEFAULT, preset
from jobs.tables import printable
from pipeline.demo.questions import NEED_A_ZOOM
from pipeline.shards.cut import Cut, cut
from pipeline.shards.funnel import LEVELS, Funnel
from pipeline.shards.order import Order
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from prompts.rendering import question_text
from schemas.trajectory import Observation, Trajectory

_QUARTILES = """
SELECT count(*) AS n, quantile_cont(p_gold_overview, [0.25, 0.5, 0.75]) AS overview,
    quantile_cont(p_gold_evidence, [0.25, 0.5, 0.75]) AS evidence
FROM rows WHERE p_gold_evidence IS NOT NULL AND split_part(question_id, '-', 3) IN ({kinds})
"""

_BEST = """
SELECT shard, trajectory_id FROM rows JOIN kept USING (shard, trajectory_id)
ORDER BY rows.evidence_gain DESC NULLS LAST, trajectory_id LIMIT 1
"""


RIGHT = "answer_correct AND evidence_gain > 0"
"""What the tour cuts: right answers that the zooms made more probable."""


def report(console: Console, jobs: Mapping[str, Path], runs: Mapping[str, Path]) -> None:
    """Cuts each protocol's run for SFT and for RL, and prints what it holds. jobs, runs: job file and run directory.

    Raises UserError and Fatal as `cut` does.
    """
    rows = {name: Rows(RunStore(str(run))) for name, run in runs.items()}
    cuts = {name: (_cut(found, "sft"), _cut(found, "rl")) for name, found in rows.items()}
    funnels = {name: sft.funnel for name, (sft, _) in cuts.items()}
    _print(console, "What became of the attempts", _funnel(funnels))
    examples = {loss.reason: loss.example for found in funnels.values() for loss in found.losses if loss.example}
    for reason, example in examples.items():
        console.print(Text(printable(f"{reason}: {example}"), "dim"), soft_wrap=True)
    _print(console, "How probable the verifier finds the right answer where a zoom is needed", _probabilities(rows))
    _print_example(console, next(iter(rows.values())))
    _print(console, "What a trainer reads", _training_rows(runs, cuts))
    name = next(iter(runs))
    _print_next(console, jobs[name], runs[name])


def _cut(rows: Rows, kind: Literal["sft", "rl"]) -> Cut:
    return cut(rows, Order(kind, kind, preset(DEFAULT, kind)))


def _print(console: Console, title: str, table: Table) -> None:
    console.print(f"\n[bold]{title}[/]")
    console.print(table)


def _table(*headings: str, numbers: int = 0) -> Table:
    """numbers: how many of the last columns hold numbers."""
    table = Table(box=None, pad_edge=False, show_header=any(headings), header_style="dim", padding=(0, 3, 0, 0))
    for place, heading in enumerate(headings):
        is_number = place >= len(headings) - numbers
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return table


def _funnel(funnels: Mapping[str, Funnel]) -> Table:
    """A column for each protocol; under each level the attempts that were lost on the way to it, by reason."""
    table = _table("", *funnels, numbers=len(funnels))
    table.add_row("planned", *(str(found.planned) for found in funnels.values()))
    for level in LEVELS:
        lost = {n: {loss.reason: loss.rows for loss in f.losses if loss.level == level} for n, f in funnels.items()}
        totals = sum((Counter(by_reason) for by_reason in lost.values()), Counter[str]())
        for reason, _ in totals.most_common():
            counts = (f"-{by_reason[reason]}" if reason in by_reason else "" for by_reason in lost.values())
            table.add_row(Text(f"  {printable(reason)}"), *counts, style="yellow")
        style = "bold green" if level == LEVELS[-1] else ""
        table.add_row(level, *(str(found.reached[level]) for found in funnels.values()), style=style)
    return table


def _probabilities(rows: Mapping[str, Rows]) -> Table:
    table = _table("median (quartiles)", "attempts", "by the overview", "with the zooms", numbers=3)
    kinds = ", ".join(f"'{kind}'" for kind in NEED_A_ZOOM)
    for name, found in rows.items():
        (measured,) = found.query(_QUARTILES.format(kinds=kinds))
        table.add_row(name, str(measured["n"]), _spread(measured["overview"]), _spread(measured["evidence"]))
    return table


def _spread(quartiles: list[float] | None) -> str:
    if quartiles is None:
        return "not measured"
    low, median, high = quartiles
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _print_example(console: Console, rows: Rows) -> None:
    """The kept trajectory that gained most by its zooms, as the model wrote it. rows: after a cut."""
    for best in rows.query(_BEST):
        attempts = rows.store.rows(Trajectory, "teach", best["shard"])
        trajectory = next(t for t in attempts if t.trajectory_id == best["trajectory_id"])
        console.print("\n[bold]One trajectory that was kept[/]")
        console.print(Text(f"  {printable(question_text(trajectory.question))}"), soft_wrap=True)
        for turn in trajectory.turns:
            console.print(Text(f"  {printable(turn.raw)}", "cyan"), soft_wrap=True)
            for seen in turn.observations:
                console.print(Text(f"    {_shown(seen)}", "dim"), soft_wrap=True)


def _shown(seen: Observation) -> str:
    if not seen.frames:
        return printable(seen.text)
    first, last = seen.frames[0].time_s, seen.frames[-1].time_s
    return f"{len(seen.frames)} frames, {first:.1f} s to {last:.1f} s. {printable(seen.text)}"


def _training_rows(runs: Mapping[str, Path], cuts: Mapping[str, tuple[Cut, Cut]]) -> Table:
    table = _table("rows", "for", "files")
    for name, made in cuts.items():
        for kind, one in zip(("SFT", "RL"), made, strict=True):
            files = runs[name] / "cuts" / kind.lower() / "*.parquet"
            table.add_row(str(one.rows), f"{kind} with {name}", Text(str(files)))
    return table


def _print_next(console: Console, job: Path, run: Path) -> None:
    """The tour of the README, in its order."""
    console.print("\n[bold]What to try next[/]")
    for command, meaning in (
        (". .venv/bin/activate", "where `make` has installed `zoomtrail`"),
        (f"zoomtrail stats {run}", "where the attempts went, and why"),
        (f'zoomtrail cut {run} mine --where "{RIGHT}"', "rows of your own choice"),
        (f'zoomtrail regenerate {run} --where "NOT answer_correct" --attempts 2', "those questions alone, again"),
        (f'zoomtrail cut {run} mine-2 --where "{RIGHT}"', "the new rows are in"),
        (f"zoomtrail report {run}", "one HTML file to send to a colleague"),
        (f"zoomtrail view {run}", "watch them in a browser; Ctrl-C ends it"),
        (f"zoomtrail generate {job} --dry-run", "what a run would cost; the job file is there to be read"),
        ("zoomtrail init > job.yaml", "a job for videos, questions and models of your own"),
    ):
        console.print(Text(f"  {command}  ").append(f"# {meaning}", "dim"), soft_wrap=True)
