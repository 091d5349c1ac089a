"""What a run shows while it works: per stage done and left, calls, tokens, dollars, time left."""

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from schemas.captions import Usage
from schemas.config import DIRECTORIES

if TYPE_CHECKING:
    from pipeline.cluster import Snapshot

_EVERY_S = 10.0
"""Seconds between two lines where the output is no terminal."""


class RunProgress:
    """A live table on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._began = time.monotonic()
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

    def show(self, snapshot: "Snapshot") -> None:
        """Shows the latest state of the run."""
        if self._live:
            self._live.update(self._table(snapshot))
            return
        line = _line(snapshot)
        if line != self._said and time.monotonic() - self._said_at >= _EVERY_S:
            self._console.print(line, soft_wrap=True)
            self._said, self._said_at = line, time.monotonic()

    def _table(self, snapshot: "Snapshot") -> Table:
        table = Table(title=_calls(snapshot) + self._time_left(snapshot), title_justify="left", title_style="")
        for column in ("stage", "shards", "items", "rows"):
            table.add_column(column, justify="left" if column in ("stage", "rows") else "right")
        for stage, done in snapshot.done.items():
            statuses = _statuses(snapshot, stage)
            items = str(snapshot.workers[stage].items)
            table.add_row(DIRECTORIES[stage], f"{done}/{snapshot.total}", items, statuses)
        return table

    def _time_left(self, snapshot: "Snapshot") -> str:
        """An estimate from the shards that this process has taken through all stages."""
        replayed = [report for report in snapshot.reports if report.stage == "replay"]
        left = snapshot.total - snapshot.done["replay"]
        if not replayed or not left:
            return ""
        seconds = (time.monotonic() - self._began) / len(replayed) * left
        return f"; about {seconds / 60:.0f} min left" if seconds >= 90 else f"; about {seconds:.0f} s left"


def _statuses(snapshot: "Snapshot", stage: str) -> str:
    counts: dict[str, int] = {}
    for report in snapshot.reports:
        if report.stage == stage:
            for status, count in report.statuses.items():
                counts[status] = counts.get(status, 0) + count
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def _calls(snapshot: "Snapshot") -> str:
    counts = [count for worker in snapshot.workers.values() for count in worker.calls]
    sent, retried, reused = (sum(getattr(c, name) for c in counts) for name in ("sent", "retried", "reused"))
    usage = sum((report.usage for report in snapshot.reports), Usage())
    cost = "cost unknown" if usage.cost_usd is None else f"${usage.cost_usd:.2f}"
    text = f"{sent} calls sent, {retried} of them again after an error, {reused} found in calls/"
    if usage.calls:
        text += f"; committed: {usage.prompt_tokens + usage.completion_tokens} tokens, {cost}"
    return text + (f"; {snapshot.deaths} workers lost" if snapshot.deaths else "")


def _line(snapshot: "Snapshot") -> str:
    stages = ", ".join(f"{DIRECTORIES[stage]} {done}/{snapshot.total}" for stage, done in snapshot.done.items())
    return f"{stages}; {_calls(snapshot)}"
