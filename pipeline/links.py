"""The ways from a worker to a meter: to that of its run, in a process of its own, or to one beside it."""

from dataclasses import dataclass
from typing import Any

from pipeline.leases import Grant, Report
from pipeline.meter import Meter
from schemas.config import Endpoint


class Alone:
    """To a meter of this process's own, for a stage that runs without a cluster."""

    def __init__(self, endpoint: Endpoint, role: str) -> None:
        self.worker = "alone"
        self._meter = Meter({role: endpoint})

    async def exchange(self, report: Report) -> Grant:
        """See `Meter.exchange`."""
        return self._meter.exchange(report)


@dataclass(frozen=True)
class ToActor:
    """To the meter of a run. actor: its handle."""

    worker: str
    actor: Any

    async def exchange(self, report: Report) -> Grant:
        """See `Meter.exchange`."""
        grant: Grant = await self.actor.exchange.remote(report)
        return grant
