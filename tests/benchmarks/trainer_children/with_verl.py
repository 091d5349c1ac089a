"""verl's own way to a prompt: `RLHFDataset` with its collation, then the tokens as its agent loop makes them."""

from functools import cache
from pathlib import Path
from typing import Any

from tiny_qwen import Row, build_text_model, build_vision_model, seen, serve

GIVEN = ("data_source", "reward_model", "extra_info", "index")


@cache
def _processors(scratch: Path, vision: bool) -> tuple[Any, Any]:
    from verl.utils import hf_processor, hf_tokenizer

    path = build_vision_model(scratch / "vision") if vision else build_text_model(scratch / "text")
    return hf_tokenizer(str(path)), hf_processor(str(path)) if vision else None


def read(case: Row, scratch: Path) -> list[Row]:
    from omegaconf import OmegaConf
    from torch.utils.data import DataLoader
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

    tokenizer, processor = _processors(scratch, case["vision"])
    files = sorted(str(path) for path in Path(case["folder"]).glob("train-*.parquet"))
    limits = {"max_prompt_length": 65536, "filter_overlong_prompts": True, "filter_overlong_prompts_workers": None}
    config = OmegaConf.create({**limits, "cache_dir": str(scratch / "verl"), "return_raw_chat": True})
    data = RLHFDataset(files, tokenizer, config, processor)
    batches = list(DataLoader(data, batch_size=len(data), collate_fn=collate_fn))
    (batch,) = batches
    rows = [{name: batch[name][n] for name in (*GIVEN, "raw_prompt")} for n in range(len(data))]
    return [seen(tokenizer, _tokens(data, row["raw_prompt"]), GIVEN, row) for row in rows]


def _tokens(data: Any, messages: Any) -> Any:
    """As `RLHFDataset` counts them and `experimental/agent_loop` makes them."""
    from verl.utils.tokenizer import build_multimodal_processor_inputs

    speaker = data.processor or data.tokenizer
    text = speaker.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    if data.processor is None:
        return dict(data.tokenizer(text, add_special_tokens=False))
    images, videos, audio = data._process_multi_modal_info(messages, data.image_patch_size, data.config)
    given = {"images": images, "videos": videos, "audio": audio, "mm_processor_kwargs": {}}
    return dict(build_multimodal_processor_inputs(data.processor, text=[text], **given))


if __name__ == "__main__":
    serve(("verl", "transformers", "torch"), read)
