"""What a run shows while it works: per stage done and left, calls, retries, tokens, dollars, time left."""

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from jobs.run_log import RunLog
from jobs.tally import Pool, Tallier, Tally
from pipeline.loads import Load
from schemas.config import DIRECTORIES

if TYPE_CHECKING:
    from jobs.metrics import RunMetrics
    from pipeline.cluster import Snapshot

_EVERY_S = 10.0
"""Seconds between two lines where the output is no terminal."""

_NO_ROOM_S = 20.0
"""Seconds for which shards wait for a stage without a worker before that is said: it takes a while to start one."""


class RunProgress:
    """A live table on a terminal, a line now and then elsewhere; and the same in the run's log and Ray's metrics."""

    def __init__(self, console: Console, tallier: Tallier, log: RunLog, metrics: "RunMetrics") -> None:
        self._console = console
        self._tallier = tallier
        self._log = log
        self._metrics = metrics
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._said_at = float("-inf")
        self._said = ""
        self._last: Tally | None = None

    def __enter__(self) -> "RunProgress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        if self._last and (line := bottleneck(self._last)):
            self._console.print(line, soft_wrap=True)
        self._log.end(error)

    def show(self, snapshot: "Snapshot") -> None:
        """Shows the latest state of the run."""
        tally = self._last = self._tallier.of(snapshot)
        self._log.note(tally)
        self._metrics.note(tally)
        if self._live:
            self._live.update(_table(tally))
            return
        line = f"{_stages(tally)}; {summary(tally)}"
        if line != self._said and time.monotonic() - self._said_at >= _EVERY_S:
            self._console.print(line, soft_wrap=True)
            self._said, self._said_at = line, time.monotonic()


def _table(tally: Tally) -> Table:
    table = Table(title=summary(tally), title_justify="left", title_style="")
    for column in ("stage", "shards", "items", "workers", "busy", "waiting", "rows"):
        table.add_column(column, justify="right" if column in ("shards", "items") else "left")
    for stage, done in tally.done.items():
        rows = ", ".join(f"{count} {status}" for status, count in tally.rows[stage].items())
        pool = tally.pools[stage]
        workers = (_workers(pool.load), _busy(pool), _waiting(pool.load))
        table.add_row(DIRECTORIES[stage], f"{done}/{tally.total}", str(tally.items[stage]), *workers, rows)
    return table


def _workers(load: Load) -> str:
    return f"{load.up} up" + (f", {load.pending} pending" if load.pending else "")


def _busy(pool: Pool) -> str:
    share = "" if pool.busy_lately is None else f", {_percent(pool.busy_lately)}"
    return f"{pool.load.busy}/{pool.load.slots}{share}"


def _waiting(load: Load) -> str:
    return f"{load.waiting}, oldest {load.oldest_s:.0f} s" if load.waiting else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def bottleneck(tally: Tally) -> str:
    """One line: which stage's workers were busiest, and how busy the others were; "" where none worked."""
    shares = {s: pool.busy_share for s, pool in tally.pools.items() if pool.busy_share is not None}
    if not shares:
        return ""
    first, *others = sorted(shares, key=lambda stage: -shares[stage])
    rest = ", ".join(f"{stage} {_percent(shares[stage])}" for stage in others)
    return f"{first} was the bottleneck: busy {_percent(shares[first])}" + (f"; {rest}" if rest else "")


def _pool_notes(tally: Tally) -> list[str]:
    """Which pool holds the others up now, and which has shards waiting and nobody up to take them."""
    lately = {stage: pool.busy_lately for stage, pool in tally.pools.items() if pool.busy_lately}
    notes = []
    if lately:
        busiest = max(lately, key=lambda stage: lately[stage])
        notes.append(f"busiest: {busiest} {_percent(lately[busiest])}")
    for stage, pool in tally.pools.items():
        load = pool.load
        if load.oldest_s > _NO_ROOM_S and not load.up:
            notes.append(f"{stage} waits for room: each of its {load.pending} workers takes {load.takes}")
    return notes


def _stages(tally: Tally) -> str:
    return ", ".join(f"{DIRECTORIES[stage]} {done}/{tally.total}" for stage, done in tally.done.items())


def summary(tally: Tally) -> str:
    """One line on calls, tokens, dollars and time."""
    parts = [f"{tally.sent} calls sent{_failures(tally)}", f"{tally.reused} found in calls/"]
    if tally.sent:
        parts += [f"{tally.tokens_per_minute or 0:,.0f} tokens/min", _cost(tally)]
    parts += _pool_notes(tally)
    if tally.lost:
        parts.append(f"{tally.lost} workers lost")
    if tally.nodes_lost:
        parts.append(f"{tally.nodes_lost} nodes lost")
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
