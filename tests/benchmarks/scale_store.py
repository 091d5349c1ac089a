"""What a run and its resume ask of an object store, counted by an S3 server on loopback.

The run is carried out by its command; only its folder lies on the store. Requests are told by the folder of the run
that they are about, and what is of no folder (settings, the lock of the driver) under `run`. Some are made by the
minute and not by the attempt (the lock, the log), so that a short run has more of them for each than a long one.
"""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.benchmarks.bars import Bar
from tests.benchmarks.call_server import CallServer
from tests.benchmarks.scale_command import Command
from tests.benchmarks.scale_size import Size
from tests.benchmarks.scale_world import World
from tests.object_store import BUCKET, ObjectStore, Seen, object_store, reached

RUN = "run"
REDONE = 10
"""Of so many shards one is to be made again by the resume."""


def store(size: Size, folder: Path) -> tuple[list[dict[str, Any]], list[Bar]]:
    """Requests for each attempt of a whole run, and of a resume for each that it makes again."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as name,
        CallServer(0.0, zooms=1) as server,
        object_store() as s3,
        reached(s3),
    ):
        world = World(Path(name), size.store // 100)
        world.write()
        world.write_job(server.base_url, 16, {"shared": 2})
        url = f"s3://{BUCKET}/{RUN}"
        with Command(world, server, out=url) as command:
            command.finish()
        figures = [_figures("a whole run", s3, world.attempts, world.videos)]
        redone = max(1, world.videos // REDONE)
        _undo(world.videos, redone)
        s3.forget()
        with Command(world, server, out=url) as command:
            command.finish()
        figures.append(_figures("its resume", s3, redone * world.attempts // world.videos, redone))
        asked = command.points[-1][1]
    return figures, [Bar("calls that the resume asked again", asked, 0, at_most=True)]


def _undo(shards: int, redone: int) -> None:
    """Takes back the last shards of teaching and replaying, so that they are to be made from the calls kept."""
    import fsspec

    fs = fsspec.filesystem("s3", use_listings_cache=False)
    for folder in ("trajectories", "verdicts"):
        for shard in range(shards - redone, shards):
            fs.rm_file(f"{BUCKET}/{RUN}/{folder}/shard-{shard:05d}.parquet")


def _figures(step: str, s3: ObjectStore, attempts: int, shards: int) -> dict[str, Any]:
    asked: dict[str, Counter[str]] = {}
    for one in s3.seen:
        asked.setdefault(_folder(one), Counter())[one.kind] += 1
    each = {
        folder: {kind: n / attempts for kind, n in sorted(kinds.items())} for folder, kinds in sorted(asked.items())
    }
    every = {kind: n / attempts for kind, n in sorted(s3.counts.items())}
    return {"step": step, "attempts": attempts, "shards": shards, "for each attempt": {"all": every, **each}}


def _folder(one: Seen) -> str:
    """The folder of the run that a request is about."""
    path = parse_qs(one.query).get("prefix", [""])[0] if one.kind == "LIST" else one.key
    within = path.removeprefix(RUN).strip("/")
    return f"{within.split('/')[0]}/" if "/" in within or (one.kind == "LIST" and within) else "run"
