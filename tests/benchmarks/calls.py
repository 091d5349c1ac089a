"""Calls per second and processor time a call: our `EndpointModel`, every reply durable, beside clients that keep none.

    python -m tests.benchmarks.calls [--quick] [--peers] [--json FILE] [--envs FOLDER]

One server on loopback answers all of them, each in a process of its own, in turns; figures are medians of the rounds.
`sustained` is the rate that the slots keep up once each has had its first reply. Where it is compared with the ideal
rate, the slots start spread over one latency, as calls come in a run that is under way; elsewhere all start at once.
`--peers` adds bespokelabs-curator, distilabel and Ray Data, each as published. What Ray Data takes to start, that is a
run of one call, is told apart and is in no other figure.
Exit status 1 where a bar is missed; a system that cannot be installed or fails misses one of its own.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from tests.benchmarks.bars import Bar
from tests.benchmarks.call_server import CallServer
from tests.benchmarks.environments import Failed, python_with, run

ROOT = Path(__file__).parents[2]
OURS, BARE, DEFAULT = "ours", "bare", "bare_httpx"
PEERS = {
    "with_curator": ("bespokelabs-curator==0.1.31",),
    "with_distilabel": ("distilabel[openai]==1.5.3", "requests"),
    "with_ray_data": (),
}
"""What is installed for each; Ray Data is there already."""


@dataclass(frozen=True)
class Case:
    """calls: of each system in each round, `in_flight` at a time; images: of 448x252 in each request.

    spread: the slots start spread over one latency, and not all at once.
    """

    name: str
    systems: tuple[str, ...]
    latency_s: float
    calls: int
    in_flight: int
    images: int = 0
    rounds: int = 1
    spread: bool = False


AT_1_S = Case("1 s", (OURS, BARE, DEFAULT), 1.0, 2048, 512, rounds=5)
TEXT = Case("5 s, text", (OURS, BARE), 5.0, 2048, 512, rounds=2, spread=True)
IMAGES = Case("5 s, 16 images", (OURS, BARE), 5.0, 2048, 512, images=16, rounds=2, spread=True)
MANY = Case("2,048 in flight", (OURS, BARE), 5.0, 6144, 2048)
BESIDE_PEERS = Case("peers, 1 s", (OURS, BARE, *PEERS), 1.0, 1536, 512, rounds=2)
FULL = (AT_1_S, TEXT, IMAGES, MANY)
QUICK = (
    Case("1 s", (OURS, BARE), 1.0, 1024, 512, rounds=2),
    Case("2,048 in flight", (OURS,), 2.0, 3072, 2048),
)


FEWER = {"with_ray_data": 256}
"""Calls of a system that has four in flight and would take seven minutes for all of them; its rate is as steady."""


def calls_of(case: Case, system: str) -> int:
    """That a system makes in each round of a case."""
    return FEWER.get(system, case.calls)


@dataclass(frozen=True)
class Figures:
    """Of one system in one case. lost: calls without a reply, or whose reply was not kept where it should be.

    startup_s: before its first call, 0 where that is not told apart.
    """

    case: str
    system: str
    per_s: float
    sustained: float
    cpu_ms: float
    lag_median_ms: float
    lag_p99_ms: float
    lag_max_ms: float
    most_in_flight: int
    lost: int
    startup_s: float
    version: str


@dataclass(frozen=True)
class Bench:
    """Where it runs: a folder on a local disk, and the interpreter of each system that there is."""

    folder: Path
    pythons: dict[str, Path]

    def measure(self, case: Case, system: str, server: CallServer) -> Figures:
        """Raises Failed where the system does not get through."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            scratch = Path(name)
            task = {
                "base_url": server.base_url,
                "calls": calls_of(case, system),
                "in_flight": case.in_flight,
                "images": case.images,
            }
            task |= {"pictures": str(self.folder / "pictures"), "scratch": name}
            task["spread_s"] = case.latency_s if case.spread else 0.0
            (scratch / "task.json").write_text(json.dumps(task))
            module = f"tests.benchmarks.caller_children.{system}"
            command = [str(self.pythons[system]), "-m", module, str(scratch / "task.json"), str(scratch / "out.json")]
            server.seen()
            run(command, {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": name, "HOME": name}, scratch)
            found = json.loads((scratch / "out.json").read_text())
            kept = len(list((scratch / "calls").rglob("*.json"))) - 1 if system == OURS else found["replies"]
        return _figures(case, system, found, min(kept, found["replies"]), server.seen().most)


def _figures(case: Case, system: str, found: dict[str, Any], kept: int, most: int) -> Figures:
    lags = sorted(found["lag_s"]) or [0.0]
    calls = calls_of(case, system)
    return Figures(
        case=case.name,
        system=system,
        per_s=calls / found["seconds"],
        sustained=found["sustained"],
        cpu_ms=found["cpu_s"] / calls * 1e3,
        lag_median_ms=median(lags) * 1e3,
        lag_p99_ms=lags[int(0.99 * (len(lags) - 1))] * 1e3,
        lag_max_ms=lags[-1] * 1e3,
        most_in_flight=most,
        lost=calls - kept,
        startup_s=found["startup_s"],
        version=found["version"],
    )


def rounds(bench: Bench, case: Case) -> Iterator[Figures]:
    """The figures of each system in each round; one that fails is told of, and not tried again."""
    systems = [system for system in case.systems if system in bench.pythons]
    with CallServer(case.latency_s) as server:
        for _ in range(case.rounds):
            for system in list(systems):
                try:
                    yield bench.measure(case, system, server)
                except Failed as error:
                    systems.remove(system)
                    print(f"{case.name}: {system} failed: {error}", file=sys.stderr)


def medians(figures: Sequence[Figures]) -> list[Figures]:
    """One for each system of a case."""
    found = []
    for system in dict.fromkeys(f.system for f in figures):
        own = [asdict(f) for f in figures if f.system == system]
        middle = {k: median(o[k] for o in own) for k, v in own[0].items() if isinstance(v, float | int)}
        found.append(Figures(**{**own[0], **middle, "lost": max(o["lost"] for o in own)}))
    return found


def bars(case: Case, figures: Sequence[Figures]) -> Iterator[Bar]:
    """What our figures in a case must reach. A system that was asked for and has none is nothing to stand beside."""
    by = {f.system: f for f in figures}
    for absent in (system for system in case.systems if system not in by):
        yield Bar(f"{case.name}: {absent} gets through", 0, 1)
    if OURS not in by:
        return
    ours, ideal = by[OURS], case.in_flight / case.latency_s
    yield Bar(f"{case.name}: calls lost", ours.lost, 0, at_most=True)
    yield Bar(f"{case.name}: most calls in flight", ours.most_in_flight, case.in_flight)
    if case.spread:
        yield Bar(f"{case.name}: share of the ideal rate", ours.sustained / ideal, 0.90 if case.images else 0.95)
    if BARE in by and case.name == AT_1_S.name:
        yield Bar(f"{case.name}: rate, bare aiohttp = 1", ours.per_s / by[BARE].per_s, 0.9)
        yield Bar(f"{case.name}: processor time a call, bare aiohttp = 1", ours.cpu_ms / by[BARE].cpu_ms, 1.5, True)
    for peer in (system for system in PEERS if system in by):
        yield Bar(f"{case.name}: rate, {peer} = 1", ours.per_s / by[peer].per_s, 1)
        yield Bar(f"{case.name}: processor time a call, {peer} = 1", ours.cpu_ms / by[peer].cpu_ms, 1, True)


def install(bench: Bench, envs: Path) -> None:
    """The environment of each peer, where it can be made; another is told of."""
    for peer, packages in PEERS.items():
        try:
            bench.pythons[peer] = python_with(packages, envs / peer) if packages else Path(sys.executable)
        except Failed as error:
            print(f"{peer} cannot be installed: {error}", file=sys.stderr)


def render_pictures(folder: Path) -> None:
    """64 JPEGs of 448x252 and about 18 kB: coloured fields under grain."""
    folder.mkdir()
    dice = np.random.default_rng(0)
    for number in range(64):
        fields = np.kron(dice.integers(0, 255, (8, 14, 3)), np.ones((32, 32, 1)))[:252]
        grainy = np.clip(fields + dice.normal(0, 12, fields.shape), 0, 255).astype("uint8")
        Image.fromarray(grainy).save(folder / f"{number:02d}.jpg", quality=73)


def print_table(figures: Sequence[Figures]) -> None:
    table = Table("case", "system", title="Model calls on loopback")
    for name in ("calls/s", "sustained", "CPU ms a call", "lag ms: median", "p99", "max", "lost", "start s"):
        table.add_column(name, justify="right")
    for f in figures:
        lags = (f"{lag:.1f}" for lag in (f.lag_median_ms, f.lag_p99_ms, f.lag_max_ms))
        system = f"{f.system} {f.version}".strip()
        rates = (f"{f.per_s:.0f}", f"{f.sustained:.0f}", f"{f.cpu_ms:.2f}")
        table.add_row(f.case, system, *rates, *lags, str(f.lost), f"{f.startup_s:.1f}" if f.startup_s else "")
    Console(width=130).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="text only, under a minute")
    parser.add_argument("--peers", action="store_true", help="other tools as well, installed for it")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--envs", type=Path, help="where the tools' environments are kept; default: nowhere")
    options = parser.parse_args()
    cases = (QUICK if options.quick else FULL) + ((BESIDE_PEERS,) if options.peers else ())
    figures, found = list[Figures](), list[Bar]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render_pictures(folder / "pictures")
        bench = Bench(folder, dict.fromkeys((OURS, BARE, DEFAULT), Path(sys.executable)))
        if options.peers:
            install(bench, options.envs or folder / "envs")
        for case in cases:
            of_case = medians(list(rounds(bench, case)))
            figures += of_case
            found += bars(case, of_case)
    print_table(figures)
    print("\n".join(map(str, found)))
    if options.json:
        document = {"figures": [asdict(f) for f in figures], "bars": [{**asdict(b), "met": b.met} for b in found]}
        options.json.write_text(json.dumps(document, indent=2))
    return 0 if all(bar.met for bar in found) else 1


if __name__ == "__main__":
    sys.exit(main())
