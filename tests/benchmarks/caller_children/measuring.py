"""What every calling child shares: its task, its requests, and how it is measured. Needs the standard library only.

A child is run as `python CHILD task.json answer.json`. Task: base_url, calls, in_flight, pictures (folder of JPEGs, or
""), images (in each request), scratch (an empty folder), spread_s (seconds over which the slots start).
Answer: what `Measured` holds.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

PADDING = "A man walks through a wide street, and a red car comes from the left. "


@dataclass
class Task:
    base_url: str
    calls: int
    in_flight: int
    images: int
    pictures: str
    scratch: str
    spread_s: float = 0.0

    def text(self, number: int) -> str:
        """2.4 kB, different for each call."""
        return f"Request {number}: what happens next? " + PADDING * 34

    def jpegs(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(Path(self.pictures).glob("*.jpg"))] if self.images else []


@dataclass
class Measured:
    """seconds: from the first call to the last reply; cpu_s: of this process in that time, all threads.

    sustained: calls per second that the slots kept up once each had its first reply, 0 where they are not ours to
    watch; replies: those that came with text; lag_s: by which the event loop was late, one for each hundredth second.
    startup_s: that came before, and is in no other figure, where it is measured apart.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    sustained: float = 0.0
    replies: int = 0
    lag_s: list[float] = field(default_factory=list)
    startup_s: float = 0.0
    version: str = ""


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def drive(task: Task, call: Callable[[int], Awaitable[str]]) -> Measured:
    """Keeps `in_flight` calls under way until all are through. call: from a number to the text of the reply.

    One call before the clock starts brings in what is imported late.
    """
    await call(-1)
    numbers = iter(range(task.calls))
    measured = Measured()
    rates: list[float] = []

    async def slot(place: int) -> None:
        await asyncio.sleep(task.spread_s * place / task.in_flight)
        ends = []
        for number in numbers:
            text = await call(number)
            measured.replies += bool(text)
            ends.append(time.perf_counter())
        if len(ends) > 1:
            rates.append((len(ends) - 1) / (ends[-1] - ends[0]))

    watching = asyncio.ensure_future(_watch(measured.lag_s))
    began, cpu_began = time.perf_counter(), cpu_s()
    await asyncio.gather(*(slot(place) for place in range(task.in_flight)))
    measured.seconds, measured.cpu_s = time.perf_counter() - began, cpu_s() - cpu_began
    watching.cancel()
    measured.sustained = sum(rates)
    return measured


async def _watch(lags: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.01)
        lags.append(time.perf_counter() - began - 0.01)


def answer(measure: Callable[[Task], Measured]) -> None:
    """The main function of a child."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    os.environ.setdefault("OPENAI_API_KEY", "none")
    task = Task(**json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(asdict(measure(task))))
