"""A run of a million attempts: planned, a tenth carried out, and resumed at 99 %."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.bars import Bar
from tests.benchmarks.call_server import CallServer
from tests.benchmarks.scale_command import Command, step
from tests.benchmarks.scale_size import Size
from tests.benchmarks.scale_world import World

ENOUGH = 10_000
"""Attempts that are carried out beyond the tenth: until it begins to be measured, some are done."""

Figures = dict[str, Any]


def million(size: Size, folder: Path) -> tuple[list[Figures], list[Bar]]:
    with tempfile.TemporaryDirectory(dir=folder) as name, CallServer(0.0, zooms=0) as server:
        world = World(Path(name), size.million // 100)
        world.write()
        world.write_job(server.base_url, 16, {})
        figures: list[Figures] = []
        _told(figures, {"step": "plan", **step("plan", world, str(world.out))})
        tenth = _carry_out(world, server, min(world.videos // 10 + ENOUGH // 100, world.videos // 5))
        _told(figures, {"step": "carry out a tenth", **tenth})
        _undo(world, world.videos // 100)
        world.keep_calls(size.million - len(list(world.out.glob("calls/*/*.json"))))
        seconds = _resume(world, server)
        _told(figures, {"step": "resume: seconds to the first call", **seconds})
        _told(figures, {"step": "resume: read", **step("resume", world, str(world.out))})
    grown = tenth["driver MB at 100 %"] / tenth["driver MB at 50 %"]
    bars = [
        Bar("attempts carried out and measured", tenth["attempts"], size.million // 10),
        Bar("driver's memory at the end, of that halfway", grown, 1.1, at_most=True),
    ]
    return figures, bars + [Bar(f"seconds to the first call, {how}", s, 30, at_most=True) for how, s in seconds.items()]


def _told(figures: list[Figures], one: Figures) -> None:
    """Adds figures, and says them at once: what follows takes long."""
    figures.append(one)
    print(json.dumps(one), file=sys.stderr, flush=True)


def _carry_out(world: World, server: CallServer, shards: int) -> Figures:
    """Figures of a session that makes the first shards; the others look finished: like the first that was made."""
    with Command(world, server) as command:
        while not (done := sorted((world.out / "verdicts").glob("shard-*.parquet"))):
            command.look()
    world.finish(range(shards, world.videos), like=int(done[0].stem.removeprefix("shard-")))
    with Command(world, server) as command:
        command.finish()
    return _figures(command)


def _figures(command: Command) -> Figures:
    made, samples = command.points[-1][1], command.watcher.samples
    (began, first, begin), (ended, last, end) = command.at(0.1), command.at(1.0)
    found: Figures = {f"driver MB at {100 * share:.0f} %": command.at(share)[2].driver_mb for share in (0.1, 0.5, 1.0)}
    found |= {"attempts": made, "driver peak MB": max(sample.driver_mb for sample in samples)}
    found |= {"trajectories/s": (last - first) / (ended - began)}
    cpu = {kind: 1e3 * (end.cpu_s[kind] - begin.cpu_s.get(kind, 0.0)) / (last - first) for kind in end.cpu_s}
    return found | {f"CPU ms: {kind}": ms for kind, ms in cpu.items()}


def _resume(world: World, server: CallServer) -> dict[str, float]:
    """Seconds until a resumed run asks its first call. The ledger is each time as the workers left it: in many files.

    It stays so, though a session with a budget makes one file of them.
    """
    ledger, left, seconds = world.out / "ledger", world.folder / "ledger", dict[str, float]()
    shutil.copytree(ledger, left, copy_function=os.link)
    for how, more in {"with a budget": {"budget": {"tokens": 10**12}}, "without a budget": {}}.items():
        world.write_job(server.base_url, 16, {}, **more)
        with Command(world, server) as command:
            seconds[how] = command.first_call()
        _undo(world, world.videos // 100)
        shutil.rmtree(ledger)
        shutil.copytree(left, ledger, copy_function=os.link)
    return seconds


def _undo(world: World, shards: int) -> None:
    """Takes back the last shards, so that they are to be made: their captions, too, which are another video's."""
    for folder in ("captions", "trajectories", "verdicts"):
        for shard in range(world.videos - shards, world.videos):
            (world.out / folder / f"shard-{shard:05d}.parquet").unlink(missing_ok=True)
