"""Past one machine: trajectories per second by nodes, our own processor time for each, and a run of a million.

    python -m tests.benchmarks.scale [--part nodes|overhead|million|store] [--quick] [--json FILE] [--folder DIR]

The teacher is a server on loopback in a process of its own that answers after a fixed time; everything else is the
product, started by its command line. The videos are one of 8 s and 160x120 under many names, each with a hundred
attempts and a shard of its own, so that decoding weighs less than in life; there is no verifier.

nodes: Ray nodes of one CPU each on this machine, with one worker each that serves all stages and has a fixed number of
calls in flight; each trajectory zooms once. Bar: 0.9 of linear where the processors are less than 90 % busy, which must
be so at two numbers of nodes beyond the first; where they are full is told.
overhead: processor time a trajectory, by stage without Ray, and by kind of process with it.
million: a run is planned; of its shards the first tenth is carried out at no latency and without zooms, the others are
made to look finished. Then the run is resumed at 99 %, with its ledger as the workers left it. Bars: a tenth is
measured, the driver's memory grows by less than 10 % from half of the way to the end, and less than 30 s pass until the
resumed run asks its first call.
store: requests by kind of a run on an S3 server, and of its resume, which pays no call again.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tests.benchmarks.bars import Bar
from tests.benchmarks.call_server import CallServer
from tests.benchmarks.scale_command import Command, RayNodes, step
from tests.benchmarks.scale_million import million
from tests.benchmarks.scale_size import FULL, QUICK, Size
from tests.benchmarks.scale_store import store
from tests.benchmarks.scale_world import World

FULL_AT = 0.9
"""The share of their time from which on the processors count as full."""


def nodes(size: Size, folder: Path) -> tuple[list[dict[str, Any]], list[Bar]]:
    """Trajectories a second on each number of nodes, and on the most of them with as many calls as they can take.

    Of the numbers beyond the first two at least must be compared with it: elsewhere the processors are full, by our own
    work or by that of others, and nothing is known.
    """
    figures = [_on_nodes(n, size, size.in_flight, folder) for n in size.nodes]
    for one in figures:
        one["of linear"] = one["trajectories/s"] / figures[0]["trajectories/s"] / one["nodes"] * figures[0]["nodes"]
    free = [one for one in figures if one["processors busy"] < FULL_AT]
    compared = [one for one in free if one is not figures[0]] if figures[0] in free else []
    bars = [Bar("numbers of nodes compared", len(compared), min(2, len(figures) - 1))]
    bars += [Bar(f"{one['nodes']} nodes: of linear", one["of linear"], 0.9) for one in compared]
    figures.append(_on_nodes(size.nodes[-1], size, 16 * size.in_flight, folder))
    full = next((one for one in figures if one["processors busy"] >= FULL_AT), None)
    where = f"{full['nodes']} nodes, {full['calls in flight']} calls in flight" if full else "nowhere"
    rate = f": {full['trajectories/s']:.1f} trajectories/s" if full else ""
    return [*figures, {"processors full": where + rate}], bars


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
    ours = sum(now.cpu_s[kind] - cpu.cpu_s.get(kind, 0.0) for kind in now.cpu_s)
    return {
        "nodes": count,
        "calls in flight": count * in_flight,
        "trajectories/s": made / seconds,
        "of calls in flight": made / seconds / (count * in_flight / size.latency_s / 2),
        "processors busy": (now.busy_s - cpu.busy_s) / (now.at_s - cpu.at_s) / (os.cpu_count() or 1),
        "processors busy for us": ours / (now.at_s - cpu.at_s) / (os.cpu_count() or 1),
        "CPU ms a trajectory": 1e3 * ours / max(made, 1),
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


PARTS = {"nodes": nodes, "overhead": overhead, "million": million, "store": store}


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
    parser.add_argument("--folder", type=Path, help="where runs are made: 5 GB, a million files")
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
