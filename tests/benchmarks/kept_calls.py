"""How long `zoomtrail calls` takes to go through the calls of a run, and what memory that needs.

    python -m tests.benchmarks.kept_calls [--quick] [--json FILE]

Calls of 8 kB each in a local folder, which the disk's cache holds: the figure is our own work, not the disk's.
"""

import argparse
import json
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jobs.calls import summed
from pipeline.kept_calls import KeptCalls
from pipeline.models.calls import CallStore
from pipeline.store import RunStore
from schemas.config import RunConfig, stage_settings
from schemas.record import content_id

MODEL = {"model": "teacher", "base_url": "http://127.0.0.1:1/v1", "price": {"input": 1, "output": 2}}
TEXT_BYTES = 7_500


def write(url: str, count: int) -> None:
    """A run with so many calls."""
    config = RunConfig.model_validate({"source": {"path": "q", "videos": "v"}, "teacher": MODEL})
    RunStore(url).open_for(config, stage_settings(config, "1"))
    root = Path(url)
    for number in range(count):
        key = content_id(number)
        request = {"model": "teacher", "messages": [{"role": "user", "content": "x" * TEXT_BYTES}], "max_tokens": 4096}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"reply {number}"}}
        response = {"choices": [choice], "usage": {"prompt_tokens": 2000, "completion_tokens": 20}}
        path = root / CallStore.name(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"key": key, "role": "teacher", "request": request, "response": response}))


def measure(count: int) -> dict[str, float]:
    """Seconds and memory of one pass over a run with so many calls."""
    with tempfile.TemporaryDirectory() as folder:
        write(folder, count)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        sums = summed(KeptCalls(RunStore(folder)).each())
        seconds = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda path: path.unlink(), Path(folder, "calls").rglob("*.json")))
    assert sum(one.files for one in sums.values()) == count
    return {"calls": count, "seconds": seconds, "calls a second": count / seconds, "MB grown": (after - before) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 calls only")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = [measure(count) for count in ((2_000,) if options.quick else (2_000, 20_000))]
    table = Table("figure", *(f"{figure['calls']:,}" for figure in figures), title="One pass over the kept calls")
    for name in ("seconds", "calls a second", "MB grown"):
        table.add_row(name, *(f"{figure[name]:.1f}" for figure in figures))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
