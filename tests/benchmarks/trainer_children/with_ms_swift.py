"""ms-swift's own way to a training batch, as `swift sft` and `swift rlhf --rlhf_type grpo` take it."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from tiny_qwen import PUBLISHED_FIRST_SPECIAL, Row, build_text_model, build_vision_model, seen, serve

GIVEN = ("solution", "question_id", "choices", "clue_intervals")
QUIET = ("--torch_dtype", "float32", "--report_to", "none", "--use_cpu", "true", "--max_length", "65536")

GRPO = (
    *("--rlhf_type", "grpo", "--reward_funcs", "accuracy"),
    *("--num_generations", "2", "--per_device_train_batch_size", "2"),
)


@cache
def _model(scratch: Path, vision: bool) -> list[str]:
    """Its templates for Qwen know the ids of the published tokenizers by heart."""
    known = {"first": PUBLISHED_FIRST_SPECIAL}
    if vision:
        return [
            "--model",
            str(build_vision_model(scratch / "vision", **known)),
            "--model_type",
            "qwen2_5_vl",
            "--template",
            "qwen2_5_vl",
        ]
    return [
        "--model",
        str(build_text_model(scratch / "text", **known)),
        "--model_type",
        "qwen3",
        "--template",
        "qwen3_nothinking",
    ]


def _command(case: Row, scratch: Path) -> list[str]:
    data = ("--dataset", f"{case['folder']}/train.jsonl", "--dataset_shuffle", "false", "--strict", "true")
    out = ("--output_dir", str(scratch / "out"))
    return [*_model(scratch, case["vision"]), *QUIET, *data, *out, "--tuner_type", "full"]


def read(case: Row, scratch: Path) -> list[Row]:
    os.environ["ROOT_IMAGE_DIR"] = case["folder"]
    return _prompts(case, scratch) if case["kind"] == "rl" else _conversations(case, scratch)


def _conversations(case: Row, scratch: Path) -> list[Row]:
    from swift.pipelines.train.sft import SwiftSft

    run = SwiftSft(_command(case, scratch))
    rows, _ = run._prepare_dataset()
    return [_seen(run, rows[n]) for n in range(len(rows))]


def _prompts(case: Row, scratch: Path) -> list[Row]:
    from swift.pipelines.train.rlhf import SwiftRLHF

    run = SwiftRLHF([*GRPO, *_command(case, scratch)])
    rows, _ = run._prepare_dataset()
    run.template.set_mode("transformers")
    return [_seen(run, run.template.encode({**row}), GIVEN, row) for row in rows]


def _seen(run: Any, encoded: Row, names: tuple[str, ...] = (), source: Row | None = None) -> Row:
    return seen(run.template.tokenizer, run.template.data_collator([encoded]), names, source)


if __name__ == "__main__":
    serve(("ms-swift", "transformers", "torch"), read)
