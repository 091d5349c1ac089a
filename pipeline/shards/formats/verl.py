"""verl (github.com/verl-project/verl), read as of 0.9.1: RL prompts for `verl/utils/dataset/rl_dataset.py`.

`RLHFDataset` reads Parquet by `datasets`, splits each content of `prompt` at `<image>` and takes the next of `images`:
a picture, which is what `datasets` makes of an Image column. `reward_model.ground_truth`, `data_source` and
`extra_info` go to the reward function as they are; `extra_info.index` tells questions apart, in `rl-steps` attempts.
verl knows no reward for our `data_source`: name a function by `custom_reward_function`, which makes a trajectory of the
rollout for one of ours (`prompts.PROTOCOL.reward`). There is no mask: the policy's own tokens are learned.

`rl-steps` has the messages before a zoom as prompt, and in `extra_info` the recorded turn (`action`) and the verifier's
probability of the reference before and after it: a process reward for a single step.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.shards.formats.layout import (
    IMAGE,
    INTERVALS,
    MESSAGE,
    Columns,
    Format,
    Layout,
    Piece,
    asked_about,
    columns,
    plain_messages,
    prompt_sample,
    whole,
)
from prompts.rendering import question_text
from schemas.samples import RlSample, StepSample

_REWARD = pa.struct([("style", pa.string()), ("ground_truth", pa.string())])
_INFO = (
    ("split", pa.string()),
    ("index", pa.int64()),
    ("question", pa.string()),
    ("answer", pa.string()),
    ("question_id", pa.string()),
    ("trajectory_id", pa.string()),
    ("protocol", pa.string()),
    ("kind", pa.string()),
    ("choices", pa.list_(pa.string())),
    ("clue_intervals", INTERVALS),
    ("video_id", pa.string()),
    ("video_path", pa.string()),
    ("duration", pa.float64()),
    ("fps", pa.float64()),
    ("total_frames", pa.int64()),
    ("caption_width", pa.int64()),
)
_RL_INFO = (*_INFO, ("n_attempts", pa.int64()), ("n_correct", pa.int64()), ("pass_rate", pa.float64()))
_STEP_INFO = (
    *_INFO,
    ("turn", pa.int64()),
    ("action", pa.string()),
    ("p_before", pa.float64()),
    ("p_after", pa.float64()),
    ("evidence_gain", pa.float64()),
)


def _schema(info: Sequence[tuple[str, pa.DataType]]) -> pa.Schema:
    return columns(
        ("data_source", pa.string()),
        ("prompt", pa.list_(MESSAGE)),
        ("images", pa.list_(IMAGE)),
        ("ability", pa.string()),
        ("reward_model", _REWARD),
        ("extra_info", pa.struct(list(info))),
    )


def _record(piece: Piece, pictures: Sequence[Any]) -> Columns:
    sample = prompt_sample(piece.example)
    return {
        "data_source": f"zoomtrail_{sample.provenance.protocol}",
        "prompt": plain_messages(piece.messages),
        "images": list(pictures),
        "ability": "long_video_qa",
        "reward_model": {"style": "rule", "ground_truth": sample.ground_truth},
        "extra_info": _info(piece, sample) | _measured(sample),
    }


def _info(piece: Piece, sample: RlSample | StepSample) -> Columns:
    return {
        "split": piece.example.split,
        "index": piece.example.number,
        "question": question_text(piece.example.question),
        "answer": sample.answer_text,
        **asked_about(sample),
        "trajectory_id": sample.provenance.trajectory_id,
        "protocol": sample.provenance.protocol,
        "kind": sample.kind,
        "video_id": sample.video.video_id,
        "video_path": sample.video.uri,
        "duration": sample.video.duration_s,
        "fps": sample.video.fps,
        "total_frames": sample.video.n_frames,
        "caption_width": sample.caption_width,
    }


def _measured(sample: RlSample | StepSample) -> Columns:
    if isinstance(sample, RlSample):
        return {"n_attempts": sample.n_attempts, "n_correct": sample.n_correct, "pass_rate": sample.pass_rate}
    return {
        "turn": sample.turn,
        "action": sample.action,
        "p_before": sample.p_before,
        "p_after": sample.p_after,
        "evidence_gain": sample.evidence_gain,
    }


VERL = Format(
    name="verl",
    about="verl: RL prompts with pictures, ground truth and what a reward needs",
    layouts={
        ("rl", "embedded"): Layout(_record, _schema(_RL_INFO), "parquet", ("prompt",), "images", whole),
        ("rl-steps", "embedded"): Layout(_record, _schema(_STEP_INFO), "parquet", ("prompt",), "images", whole),
    },
)
