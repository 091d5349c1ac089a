"""TRL's own way to a training batch: `SFTTrainer` with its collator, `GRPOTrainer` through steps of training."""

from functools import cache
from pathlib import Path
from typing import Any

from tiny_qwen import Row, build_text_model, build_vision_model, seen, serve

GIVEN = ("ground_truth", "question_id", "choices", "clue_intervals")
QUIET = {"report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no", "disable_tqdm": True}


@cache
def _model(scratch: Path, vision: bool) -> Path:
    """TRL patches the templates that it knows, so the models have two of those."""
    import trl

    templates = Path(trl.__file__).parent / "chat_templates"
    if vision:
        return build_vision_model(scratch / "vision", (templates / "qwen2_5_vl.jinja").read_text())
    return build_text_model(scratch / "text", (templates / "qwen3_instruct_2507.jinja").read_text())


def _rows(case: Row) -> Any:
    from datasets import load_dataset

    return load_dataset("parquet", data_files=f"{case['folder']}/*.parquet", split="train")


def read(case: Row, scratch: Path) -> list[Row]:
    return _prompts(case, scratch) if case["kind"] == "rl" else _conversations(case, scratch)


def _conversations(case: Row, scratch: Path) -> list[Row]:
    from trl import SFTConfig, SFTTrainer

    whole = case["format"] == "trl"
    config = SFTConfig(str(scratch / "out"), assistant_only_loss=whole, max_length=None, **QUIET)
    trainer = SFTTrainer(str(_model(scratch, case["vision"])), args=config, train_dataset=_rows(case))
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    return [seen(tokenizer, trainer.data_collator([row])) for row in trainer.train_dataset]


def _prompts(case: Row, scratch: Path) -> list[Row]:
    """Steps of GRPO, a row each; the prompt is what the model is given to go on from."""
    from trl import GRPOConfig, GRPOTrainer

    rewarded: list[Row] = []

    def reward(completions: list[Any], **given: Any) -> list[float]:
        rewarded.append({name: given[name][0] for name in GIVEN})
        return [float(n) for n, _ in enumerate(completions)]

    rows = _rows(case)
    config = GRPOConfig(
        str(scratch / "out"),
        **QUIET,
        max_steps=len(rows),
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=4,
        shuffle_dataset=False,
    )
    model = str(_model(scratch, case["vision"]))
    trainer = GRPOTrainer(model, reward_funcs=reward, args=config, train_dataset=rows)
    started: list[Row] = []
    generate = trainer.model.generate

    def watched(**given: Any) -> Any:
        started.append(given)
        return generate(**given)

    trainer.model.generate = watched
    trainer.train()
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    return [seen(tokenizer, _first(given), GIVEN, columns) for given, columns in zip(started, rewarded, strict=True)]


def _first(given: Row) -> Row:
    """The first of two equal prompts of a step."""
    grid = given.get("image_grid_thw")
    one: Row = {name: given[name][:1] for name in ("input_ids", "attention_mask")}
    if grid is None:
        return one
    return one | {"image_grid_thw": grid[: len(grid) // 2], "pixel_values": given["pixel_values"].chunk(2)[0]}


if __name__ == "__main__":
    serve(("trl", "transformers", "torch"), read)
