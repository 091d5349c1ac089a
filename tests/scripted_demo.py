"""`make demo`: the whole pipeline on videos rendered on the spot, against the scripted server of the tests.

    python -m tests.scripted_demo [--out DIR] [--protocol NAME …]

What is real: the videos, the decoding, the stages over Ray, the replay, the shards, the cuts. What is not: captioner
and teacher are scripted (they are told the reference answers), and the verifier is a tiny model with random weights.
The embedded model of `zoomtrail demo` takes their place when it is trained.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from tests.jobfiles import write_job
from tests.scripted_server import ScriptedServer
from tests.tiny_models import build_idefics3

ROOT = Path(__file__).parent.parent
console = Console(highlight=False)


def zoomtrail(*arguments: object) -> None:
    """Runs the command as a user would, and shows it."""
    console.print(f"\n[bold]$ zoomtrail {' '.join(map(str, arguments))}[/]")
    subprocess.run([sys.executable, "-m", "jobs.cli", *map(str, arguments)], cwd=ROOT, check=True)


def prepare(out: Path, base_url: str, protocol: str) -> Path:
    """Three rendered videos, a broken one, twelve questions, a tiny verifier and the job file."""
    if not (out / "verifier").exists():
        build_idefics3(out / "verifier")
    return write_job(
        out, base_url, protocol, n_videos=3, per_video=3, seconds=24.0, broken=True, verifier={"path": "verifier"}
    )


def load(out: Path, cut: str) -> None:
    """Loads a cut as a trainer would."""
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset("parquet", data_files=str(out / "cuts" / cut / "*.parquet"), split="train")
    console.print(f'datasets.load_dataset("parquet", …): {cut} has {len(rows)} rows of {len(rows.features)} columns')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "demo-scripted")
    parser.add_argument("--protocol", nargs="+", default=["videozoomer", "longvideo_r1"])
    options = parser.parse_args()
    began = time.monotonic()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    console.print(
        "This demo runs the endpoint path against a [bold]scripted server[/]: it stands in for captioner and teacher, "
        "and is told the answers.\nIt verifies with a [bold]tiny model of random weights[/], so its probabilities mean "
        "nothing."
        "\nThe rest is real: rendered videos (one of them broken), Ray workers, replay, shards, cuts."
    )
    for protocol in options.protocol:
        truth = options.out / "questions.jsonl"
        write_job(options.out, "http://127.0.0.1/v1", protocol, n_videos=3, per_video=3, seconds=24.0, broken=True)
        with ScriptedServer(options.out / "calls.jsonl", truth) as server:
            job, run = prepare(options.out, server.base_url, protocol), options.out / "runs" / protocol
            zoomtrail("generate", job, "--out", run)
        zoomtrail("stats", run)
        zoomtrail("cut", run, "sft", "--preset", "mechanical")
        zoomtrail("cut", run, "rl", "--preset", "mechanical", "--for", "rl")
        load(run, "sft")
        load(run, "rl")
    console.print(
        f"\nDone in {time.monotonic() - began:.0f} s. The runs are in {options.out}/runs; try `zoomtrail stats` on one."
    )


if __name__ == "__main__":
    main()
