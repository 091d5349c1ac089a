"""Past one machine: trajectories per second by nodes, our own processor time for each, and a run of a million.

    python -m tests.benchmarks.scale [--part nodes|overhead|million] [--quick] [--json FILE] [--folder DIR]

The teacher is a server on loopback in a process of its own that answers after a fixed time; everything else is the
product, started by its command line. The videos are one of 8 s and 160x120 under many names, each with a hundred
attempts and a shard of its own, so that decoding weighs less than in life; there is no verifier.

nodes: Ray nodes of one CPU each on this machine, with one worker each that serves all stages and has a fixed number of
calls in flight; each trajectory zooms once. Bar: 0.9 of linear where the processors are less than 90 % busy.
overhead: processor time a trajectory, by stage without Ray, and by kind of process with it.
million: a run is planned; of its shards the first tenth is carried out at no latency and without zooms, the others are
made to look finished. Then the run is resumed at 99 %. Bars: the driver's memory grows by less than 10 % from half of
the way to the end, and less than 30 s pass until the resumed run asks its first call.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tests.benchmarks.call_server import CallServer
from tests.benchmarks.scale_command import ROOT, Command, RayNodes
from tests.benchmarks.scale_world import World


@dataclass(frozen=True)
class Size:
    """How much is done. nodes: numbers of them; latency_s: of calls; in_flight: calls of a node; window_s: measured.

    attempts: in the overhead part. million: attempts planned.
    """

    nodes: tuple[int, ...]
    latency_s: float
    in_flight: int
    window_s: float
    attempts: int
    million: int


FULL = Size((1, 2, 4, 8), 4.0, 8, 60.0, 2000, 1_000_000)
QUICK = Size((1, 2), 2.0, 4, 10.0, 400, 10_000)


@dataclass
class Bar:
    """What must be reached. at_most: the bound is an upper one."""

    text: str
    figure: float
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.figure <= self.bound if self.at_most else self.figure >= self.bound

    def __str__(self) -> str:
        relation = "at most" if self.at_most else "at least"
        return f"{'met   ' if self.met else 'MISSED'} {self.text}: {self.figure:.2f}, {relation} {self.bound:g}"


def nodes(size: Size, folder: Path) -> tuple[list[dict[str, Any]], list[Bar]]:
    """Trajectories a second on each number of nodes, and on the most of them with as many calls as they can take."""
    figures = [_on_nodes(n, size, size.in_flight, folder) for n in size.nodes]
    for one in figures:
        one["of linear"] = one["trajectories/s"] / figures[0]["trajectories/s"] / one["nodes"] * figures[0]["nodes"]
    bars = [
        Bar(f"{one['nodes']} nodes: of linear", one["of linear"], 0.9)
        for one in figures
        if one["processors busy"] < 0.9
    ]
    full = _on_nodes(size.nodes[-1], size, 16 * size.in_flight, folder)
    return [*figures, full], bars


def _on_nodes(count: int, size: Size, in_flight: int, folder: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as name, CallServer(size.latency_s, zooms=1) as server:
        expected = count * in_flight / size.latency_s / 2 * (size.window_s + 60)
        world = World(Path(name), max(4 * count, int(expected / 100) + 3 * count))
        world.write()
        world.write_job(server.base_url, in_flight, {"shared": count, "cpus": 1})
        with RayNodes(count) as address, Command(world, server, address) as command:
            while command.look() < 0.9 * count * in_flight and not _late(command):
                pass
            _pause(command, size.latency_s)
            began, before, cpu = *command.points[-1], command.watcher.samples[-1]
            _pause(command, size.window_s)
            ended, after, now = *command.points[-1], command.watcher.samples[-1]
    made, seconds = (after - before) / 2, ended - began
    return {
        "nodes": count,
        "calls in flight": count * in_flight,
        "trajectories/s": made / seconds,
        "of calls in flight": made / seconds / (count * in_flight / size.latency_s / 2),
        "processors busy": (now.busy_s - cpu.busy_s) / (now.at_s - cpu.at_s) / (os.cpu_count() or 1),
        "CPU ms a trajectory": 1e3 * sum(now.cpu_s[k] - cpu.cpu_s.get(k, 0.0) for k in now.cpu_s) / max(made, 1),
    }


def _late(command: Command) -> bool:
    """Whether a minute has passed since the first answer: then more calls than these will not be in flight."""
    first = next((at_s for at_s, calls in command.points if calls), None)
    return first is not None and command.points[-1][0] - first > 60


def _pause(command: Command, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        command.look()


def overhead(size: Size, folder: Path) -> tuple[list[dict[str, Any]], list[Bar]]:
    """Processor milliseconds a trajectory, without zooms and with one."""
    figures = []
    for zooms in (0, 1):
        with tempfile.TemporaryDirectory(dir=folder) as name, CallServer(0.0, zooms) as server:
            world = World(Path(name), size.attempts // 100)
            world.write()
            world.write_job(server.base_url, 8, {})
            alone = step("stages", world, str(world.folder / "alone"))
            with Command(world, server) as command:
                command.finish()
            (_, first, begin), (_, last, end) = command.at(0.3), command.at(0.95)
        made = (last - first) / (zooms + 1)
        one: dict[str, Any] = {"zooms": zooms}
        for stage, of in alone.items():
            one[f"{stage} alone"] = 1e3 * of["cpu_s"] / of["attempts"]
            one[f"{stage} alone, decoder"] = 1e3 * of["decoder_cpu_s"] / of["attempts"]
            one[f"{stage} alone, store requests"] = sum(of["requests"].values()) / of["attempts"]
        for kind in ("driver", "workers", "decoders", "meter and watch", "ray", "server"):
            one[f"with Ray: {kind}"] = 1e3 * (end.cpu_s.get(kind, 0.0) - begin.cpu_s.get(kind, 0.0)) / made
        figures.append(one)
    return figures, []


def million(size: Size, folder: Path) -> tuple[list[dict[str, Any]], list[Bar]]:
    """Planning, a tenth carried out, and resuming at 99 %."""
    with tempfile.TemporaryDirectory(dir=folder) as name, CallServer(0.0, zooms=0) as server:
        world = World(Path(name), size.million // 100)
        world.write()
        world.write_job(server.base_url, 16, {})
        figures: list[dict[str, Any]] = []
        _told(figures, {"step": "plan", **step("plan", world, str(world.out))})
        tenth, last = world.videos // 10, world.videos // 100
        with Command(world, server) as command:
            while not (done := sorted((world.out / "verdicts").glob("shard-*.parquet"))):
                command.look()
        world.finish(range(tenth, world.videos), like=int(done[0].stem.removeprefix("shard-")))
        with Command(world, server) as command:
            command.finish()
        _told(figures, {"step": "carry out a tenth", **_carried_out(command)})
        _undo(world, last)
        world.keep_calls(size.million - len(list(world.out.glob("calls/*/*.json"))))
        _told(figures, {"step": "resume: read", **step("resume", world, str(world.out))})
        seconds = {}
        for budget in (None, {"tokens": 10**12}):
            world.write_job(server.base_url, 16, {}, **({"budget": budget} if budget else {}))
            with Command(world, server) as command:
                while not command.look() and not command.points[-1][1]:
                    pass
            seconds["with a budget" if budget else "without a budget"] = command.points[-1][0]
            _undo(world, last)
        _told(figures, {"step": "resume: seconds to the first call", **seconds})
    grown = figures[1]["driver MB at 100 %"] / figures[1]["driver MB at 50 %"]
    bars = [Bar("driver's memory at the end, of that halfway", grown, 1.1, at_most=True)]
    bars += [Bar(f"seconds to the first call, {how}", s, 30, at_most=True) for how, s in seconds.items()]
    return figures, bars


def _told(figures: list[dict[str, Any]], one: dict[str, Any]) -> None:
    """Adds figures, and says them at once: what follows takes long."""
    figures.append(one)
    print(json.dumps(one), file=sys.stderr, flush=True)


def _carried_out(command: Command) -> dict[str, float]:
    made, samples = command.points[-1][1], command.watcher.samples
    (began, first, begin), (ended, last, end) = command.at(0.1), command.at(1.0)
    found = {f"driver MB at {100 * share:.0f} %": command.at(share)[2].driver_mb for share in (0.1, 0.5, 1.0)}
    found |= {"attempts": made, "driver peak MB": max(sample.driver_mb for sample in samples)}
    found |= {"trajectories/s": (last - first) / (ended - began)}
    cpu = {kind: 1e3 * (end.cpu_s[kind] - begin.cpu_s.get(kind, 0.0)) / (last - first) for kind in end.cpu_s}
    return found | {f"CPU ms: {kind}": ms for kind, ms in cpu.items()}


def _undo(world: World, shards: int) -> None:
    """Takes back the last shards' verdicts and trajectories, so that they are to be made."""
    for folder in ("trajectories", "verdicts"):
        for shard in range(world.videos - shards, world.videos):
            (world.out / folder / f"shard-{shard:05d}.parquet").unlink(missing_ok=True)


def step(name: str, world: World, out: str) -> dict[str, Any]:
    """The figures of a step in a process of its own: see `scale_steps`. Raises RuntimeError where it fails."""
    command = [sys.executable, "-m", "tests.benchmarks.scale_steps", name, str(world.job), out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


PARTS = {"nodes": nodes, "overhead": overhead, "million": million}


def flat(figures: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names and figures as text, nested ones with the names that they are under."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name}: ")
        else:
            yield (
                f"{before}{name}",
                f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value),
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two nodes, ten thousand attempts: a few minutes")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; may be given several times")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where runs are made: 10 GB, 3 million files")
    options = parser.parse_args()
    size, document, bars = QUICK if options.quick else FULL, dict[str, Any](), list[Bar]()
    for part in options.part or PARTS:
        figures, found = PARTS[part](size, options.folder or Path(tempfile.gettempdir()))
        bars += found
        document[part] = figures
        for one in figures:
            table = Table("figure", "", title=part)
            for row in flat(one):
                table.add_row(*row)
            Console(width=110).print(table)
    print(f"{os.cpu_count()} processors; load before: {psutil.getloadavg()}")
    print("\n".join(map(str, bars)))
    if options.json:
        document["bars"] = [{"text": b.text, "figure": b.figure, "bound": b.bound, "met": b.met} for b in bars]
        options.json.write_text(json.dumps(document, indent=2))
    return 0 if all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
