"""What a run shows while it works: per stage done and left, calls, retries, tokens, dollars, time left."""

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from jobs.run_log import RunLog
from jobs.tally import Tallier, Tally
from schemas.config import DIRECTORIES

if TYPE_CHECKING:
    from pipeline.cluster import Snapshot

_EVERY_S = 10.0
"""Seconds between two lines where the output is no terminal."""


class RunProgress:
    """A live table on a terminal, a line now and then elsewhere; and the same in the run's log."""

    def __init__(self, console: Console, tallier: Tallier, log: RunLog) -> None:
        self._console = console
        self._tallier = tallier
        self._log = log
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._said_at = float("-inf")
        self._said = ""

    def __enter__(self) -> "RunProgress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        self._log.end(error)

    def show(self, snapshot: "Snapshot") -> None:
        """Shows the latest state of the run."""
        tally = self._tallier.of(snapshot)
        self._log.note(tally)
        if self._live:
            self._live.update(_table(tally))
            return
        line = f"{_stages(tally)}; {summary(tally)}"
        if line != self._said and time.monotonic() - self._said_at >= _EVERY_S:
            self._console.print(line, soft_wrap=True)
            self._said, self._said_at = line, time.monotonic()


def _table(tally: Tally) -> Table:
    table = Table(title=summary(tally), title_justify="left", title_style="")
    for column in ("stage", "shards", "items", "rows"):
        table.add_column(column, justify="left" if column in ("stage", "rows") else "right")
    for stage, done in tally.done.items():
        rows = ", ".join(f"{count} {status}" for status, count in tally.rows[stage].items())
        table.add_row(DIRECTORIES[stage], f"{done}/{tally.total}", str(tally.items[stage]), rows)
    return table


def _stages(tally: Tally) -> str:
    return ", ".join(f"{DIRECTORIES[stage]} {done}/{tally.total}" for stage, done in tally.done.items())


def summary(tally: Tally) -> str:
    """One line on calls, tokens, dollars and time."""
    parts = [f"{tally.sent} calls sent{_failures(tally)}", f"{tally.reused} found in calls/"]
    if tally.sent:
        parts += [f"{tally.tokens_per_minute or 0:,.0f} tokens/min", _cost(tally)]
    if tally.lost:
        parts.append(f"{tally.lost} workers lost")
    if any(spent.paused for spent in tally.roles.values()):
        parts.append("waiting for a server that does not answer")
    if batched := sum(spent.batched for spent in tally.roles.values()):
        parts.append(f"{batched:,} requests in batches")
    if tally.seconds_left:
        left = tally.seconds_left
        parts.append(f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left")
    return "; ".join(parts)


def _failures(tally: Tally) -> str:
    causes = ", ".join(f"{count} {cause}" for cause, count in sorted(tally.failed.items()))
    return f" ({tally.failed.total()} failed: {causes})" if causes else ""


def _cost(tally: Tally) -> str:
    if tally.dollars is None:
        return "cost unknown"
    projected = "" if tally.projected_dollars is None else f" of about ${tally.projected_dollars:.2f}"
    return f"${tally.dollars:.2f}{projected}"
