"""One limit for the whole cluster: four workers, 600 requests a minute allowed, and the server's own clock as witness.

    python -m tests.benchmarks.rate_limit [--quick] [--json FILE]

Four Ray actors call through the product's endpoint model and the run's meter, each with more calls waiting than the
limit lets pass. The server, a process of its own, logs when each call comes. Bars: no sliding window holds more than
2 % over what is allowed, and at least 95 % of it is used between the first call and the last. The window is a minute;
with --quick it is 30 s of the same flow, in which 2 % are six calls.
"""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from pipeline.cluster import named_actor
from pipeline.links import ToActor
from pipeline.meter import Meter
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage
from pipeline.models.endpoint import EndpointModel
from schemas.config import Endpoint
from tests.scripted_server import ScriptedServer

WORKERS = 4
PER_MINUTE = 600


@dataclass(frozen=True)
class Outcome:
    """calls: that came to the server, in seconds; most: in a window of window_s; allowed: in such a window.

    used: share of what was allowed between the first call and the last; by_worker: calls of each.
    """

    calls: int
    seconds: float
    window_s: float
    allowed: float
    most: int
    over: float
    used: float
    by_worker: list[int]

    @property
    def passed(self) -> bool:
        return self.over <= 0.02 and self.used >= 0.95


class Caller:
    """A worker that always has calls waiting."""

    def __init__(self, name: str, meter: str, config: Endpoint, run_url: str) -> None:
        self._name = name
        link = ToActor(name, ray.get_actor(meter))
        self._model = EndpointModel(config, "teacher", CallStore(run_url), link=link)

    async def call(self, seconds: float) -> int:
        """Calls for so long, and gives the number of replies."""
        until = time.monotonic() + seconds

        async def lane(number: int) -> int:
            replies = 0
            while time.monotonic() < until:
                text = f"{self._name} {number} {replies}"
                await self._model.complete([ChatMessage("user", (text,))])
                replies += 1
            return replies

        replies = await asyncio.gather(*map(lane, range(32)))
        await self._model.close()
        return sum(replies)


def most_in(window_s: float, times: list[float]) -> int:
    """Of all sliding windows, the most calls in one. times: ascending."""
    first = most = 0
    for last, at in enumerate(times):
        while times[first] <= at - window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def trial(folder: Path, seconds: float, window_s: float) -> Outcome:
    """Four workers call for so many seconds."""
    with ScriptedServer(folder / "log.jsonl", latency_s=0.5) as server:
        config = Endpoint(model="m", base_url=server.base_url, limits={"requests_per_minute": PER_MINUTE})
        meter = f"rate-limit-{secrets.token_hex(4)}"
        actor = named_actor(Meter, meter, {"teacher": config})
        remote: Any = ray.remote(num_cpus=0)(Caller)
        callers = [remote.remote(f"w{n}", meter, config, str(folder / "run")) for n in range(WORKERS)]
        by_worker = ray.get([caller.call.remote(seconds) for caller in callers], timeout=seconds + 120)
        times = sorted(call["begin"] for call in server.calls())
        ray.kill(actor)
    took, allowed = times[-1] - times[0], PER_MINUTE * window_s / 60
    most = most_in(window_s, times)
    used = (len(times) - 1) / (PER_MINUTE / 60 * took)
    return Outcome(len(times), took, window_s, allowed, most, most / allowed - 1, used, by_worker)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50 s and windows of 30 s")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seconds, window_s = (50.0, 30.0) if options.quick else (150.0, 60.0)
    ray.init(address="local", include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            outcome = trial(Path(folder), seconds, window_s)
    finally:
        ray.shutdown()
    Console().print(
        f"{outcome.calls} calls in {outcome.seconds:.1f} s by {WORKERS} workers: {outcome.by_worker}"
        f"; at most {outcome.most} in {window_s:.0f} s, {outcome.over:+.1%} of the {outcome.allowed:.0f} allowed"
        f"; {outcome.used:.1%} used: {'passed' if outcome.passed else 'FAILED'}",
        soft_wrap=True,
    )
    if options.json:
        options.json.write_text(json.dumps(asdict(outcome), indent=2))
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
