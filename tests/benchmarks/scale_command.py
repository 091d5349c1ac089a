"""`zoomtrail generate` under measurement, and Ray nodes for it."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.call_server import CallServer
from tests.benchmarks.scale_watch import Sample, Watcher
from tests.benchmarks.scale_world import World

ROOT = Path(__file__).parents[2]
PATIENCE_S = 7200.0


@dataclass
class Command:
    """`zoomtrail generate` at work, watched. points: seconds since it began, with the calls answered until then.

    out: the run, "" for the world's own.
    """

    world: World
    server: CallServer
    address: str = "local"
    out: str = ""
    points: list[tuple[float, int]] = field(default_factory=list)

    def __enter__(self) -> "Command":
        out = self.out or str(self.world.out)
        command = [sys.executable, "-m", "jobs.cli", "generate", str(self.world.job), "--out", out]
        self.server.seen()
        self._log = (self.world.folder / "command.log").open("ab")
        self._began = time.monotonic()
        self.process = subprocess.Popen(
            [*command, "--address", self.address], stdout=self._log, stderr=self._log, cwd=ROOT
        )
        self.watcher = Watcher(self.process.pid).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.watcher.__exit__()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)
        self._log.close()

    def look(self) -> int:
        """Waits a moment; the calls under way then. Raises RuntimeError where the command has failed."""
        time.sleep(0.25)
        seen = self.server.seen()
        before = self.points[-1][1] if self.points else 0
        self.points.append((time.monotonic() - self._began, before + seen.answered))
        if self.process.poll() or self.points[-1][0] > PATIENCE_S:
            raise RuntimeError((self.world.folder / "command.log").read_text()[-2000:])
        return seen.now

    def first_call(self) -> float:
        """Waits for its first call; seconds until then. Raises RuntimeError where it ends without one."""
        ended = False
        while not self.look() and not self.points[-1][1]:
            if ended:
                raise RuntimeError((self.world.folder / "command.log").read_text()[-2000:])
            ended = self.process.poll() is not None
        return self.points[-1][0]

    def finish(self) -> None:
        """Waits for its end."""
        while self.process.poll() is None:
            self.look()

    def at(self, share: float) -> tuple[float, int, Sample]:
        """When that share of all calls was answered: seconds, calls, and the sample nearest to it."""
        at_s, calls = next(p for p in self.points if p[1] >= share * self.points[-1][1])
        return at_s, calls, min(self.watcher.samples, key=lambda sample: abs(sample.at_s - at_s))


class RayNodes:
    """So many nodes of one CPU each, beside a head that takes no work: `with RayNodes(8) as address`."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __enter__(self) -> str:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        for _ in range(self._count):
            self._cluster.add_node(num_cpus=1)
        return str(self._cluster.address)

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()


def step(name: str, world: World, out: str) -> dict[str, Any]:
    """The figures of a step in a process of its own: see `scale_steps`. Raises RuntimeError where it fails."""
    command = [sys.executable, "-m", "tests.benchmarks.scale_steps", name, str(world.job), out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found
