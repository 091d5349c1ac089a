"""VideoZoomer's own records (arXiv 2512.22315, github.com/zsgvivo/VideoZoomer).

SFT: a JSON list of `messages` and `images` for LLaMA-Factory (`scripts/sft.yaml`, template `qwen2_vl`), pictures as PNG
files (`scripts/video_eval/tool_call_infer.py` names them so but writes JPEG bytes into them; here they are PNG, of the
very pixels that the teacher was shown). Every assistant message is learned, so a trajectory with a turn that must not
be learned is rejected; upstream learns the wrong zooms of its reflections, which are well-formed, and so do we.

RL: the JSON list that `verl/utils/dataset/multimodal_dataset.py` reads. It puts the overview in the place of the one
`<image>` of `problem`, decoding `videos` itself, and the system prompt in front, from the launch script; so `problem`
is the question alone. `solution` is the letter, or the text of an open answer. `data_source` chooses the reward
(`verl/utils/reward_score/__init__.py`): `longvideo-reason`, the published training set's, compares letters by rule and
has open answers judged; a name that upstream does not know has letters judged by a paid model, too.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.shards.formats.layout import PLACEHOLDER, Columns, Format, Layout, Piece, columns, prompt_sample, whole
from pipeline.shards.formats.llamafactory import SHAREGPT, sharegpt, sharegpt_info, sharegpt_pieces
from prompts.rendering import question_text

RL = columns(
    ("doc_id", pa.string()),
    ("videos", pa.list_(pa.string())),
    ("problem", pa.string()),
    ("solution", pa.string()),
    ("data_source", pa.string()),
    ("extra_info", pa.struct([("answer_type", pa.string())])),
)


def _rl(piece: Piece, pictures: Sequence[Any]) -> Columns:
    sample = prompt_sample(piece.example)
    return {
        "doc_id": sample.provenance.question_id,
        "videos": [sample.video.uri],
        "problem": f"{PLACEHOLDER}\n{question_text(piece.example.question)}",
        "solution": sample.ground_truth,
        "data_source": "longvideo-reason",
        "extra_info": {"answer_type": "multiple_choice" if sample.kind == "multiple_choice" else "open_ended"},
    }


VIDEOZOOMER = Format(
    name="videozoomer",
    about="VideoZoomer's own: messages with PNG files, and its RL JSON",
    layouts={
        ("sft", "files"): Layout(sharegpt, SHAREGPT, "json", ("messages",), "images", sharegpt_pieces, "png"),
        ("rl", "reference"): Layout(_rl, RL, "json", ("problem",), "videos", whole),
    },
    protocol="videozoomer",
    beside=sharegpt_info,
)
