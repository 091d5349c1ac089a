"""Trains the embedded model of the demo from nothing: `python -m jobs.train_demo_model`.

Seeded; on a GPU where there is one, else on the CPU (see the model's card for how long). Run again, it goes on from its
last checkpoint. Measure the result with `python -m tests.benchmarks.demo_model --model DIR`.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

MODEL = Path(__file__).parents[1] / "pipeline" / "demo" / "model"


def main(
    out: Annotated[Path, typer.Option(help="Folder for the model.")] = MODEL,
    work: Annotated[Path, typer.Option(help="Folder for checkpoints and the log.")] = Path("demo-training"),
    seed: Annotated[int, typer.Option(help="Seeds weights and lessons.")] = 1,
    tower_steps: Annotated[int, typer.Option(help="Batches for the vision tower.")] = 2000,
    scenes: Annotated[int, typer.Option(help="Scenes that the language model learns on.")] = 5000,
    language_steps: Annotated[int, typer.Option(help="Batches for the language model.")] = 6000,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
) -> None:
    """Train the demo's vision-language model from nothing on rendered scenes."""
    from pipeline.demo.training.school import Curriculum, train
    from pipeline.models.loading import torch_device

    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def say(line: str) -> None:
        stamped = f"{time.monotonic() - began:7.0f} s  {line}"
        print(stamped, flush=True)
        with (work / "log.txt").open("a") as log:
            log.write(f"{stamped}\n")

    curriculum = Curriculum(tower_steps=tower_steps, n_scenes=scenes, language_steps=language_steps)
    train(out, work, curriculum, seed, torch_device(device), say)


if __name__ == "__main__":
    typer.run(main)
