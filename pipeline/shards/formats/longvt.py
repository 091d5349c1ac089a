"""LongVT's own records (arXiv 2511.20785, github.com/EvolvingLMMs-Lab/LongVT).

SFT: Parquet for lmms-engine with one column, `messages`, whose contents are parts of the types `text`, `image_url` and
`video_url`, media by path below `data_folder`: set that to the cut's folder. The schema is the same in every file, with
both kinds of URL; inferred per shard they cannot be concatenated (LongVT's issue #14). The overview is one `video_url`,
our path, of which the loader takes the same frames, one a second and at most 512 (`fps: 1`, `max_frames: 512`,
`max_pixels: 50176` in its YAML); an overview that a job's `view` narrowed to fewer frames is a picture each, as the
frames of crops always are. Where tokens are counted, the video counts as its mark alone. Every message but system's and
user's is learned, so a trajectory with a turn that must not be learned is rejected; the tools stay in the system text.

RL: verl Parquet with the columns of `examples/video_tools/process_time_r1.py` and `video_segment`, which the published
reward for time compares with the last crop: questions without exactly one clue interval are rejected. The rollout
writes the tool of its config into the system message itself, so it is taken out here, and its tool opens the path that
the model copies: so the prompt names the file, not the alias that our teacher saw. `ability` is read by nothing.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pipeline.shards.formats.layout import (
    MESSAGE,
    PLACEHOLDER,
    Columns,
    Example,
    Format,
    Layout,
    Piece,
    all_learned,
    columns,
    plain_messages,
    prompt_sample,
    whole,
)
from pipeline.shards.formats.tools import apart
from prompts.longvt import BUDGET, OVERVIEW_FRAMES, alias, n_frames
from prompts.rendering import question_text
from schemas.errors import Fatal, Rejected

_URL = pa.struct([("url", pa.string())])
_PART = pa.struct([("type", pa.string()), ("text", pa.string()), ("image_url", _URL), ("video_url", _URL)])
SFT = columns(("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(_PART))]))))
_VIDEO = pa.struct(
    [
        ("type", pa.string()),
        ("video", pa.string()),
        ("fps", pa.int64()),
        ("min_frames", pa.int64()),
        ("max_frames", pa.int64()),
        ("max_pixels", pa.int64()),
    ]
)
_DUMMY = pa.struct([("create_kwargs", pa.struct([("dummy", pa.string())]))])
_INFO = pa.struct(
    [
        ("split", pa.string()),
        ("index", pa.int64()),
        ("answer", pa.string()),
        ("question", pa.string()),
        ("need_tools_kwargs", pa.bool_()),
        ("tools_kwargs", pa.struct([("crop_video", _DUMMY)])),
        ("video_segment", pa.list_(pa.float64())),
    ]
)
RL = columns(
    ("data_source", pa.string()),
    ("prompt", pa.list_(MESSAGE)),
    ("videos", pa.list_(_VIDEO)),
    ("ability", pa.string()),
    ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
    ("extra_info", _INFO),
)

_FILM = "<video>"
_MARKS = re.compile(f"({PLACEHOLDER}|{_FILM})")


def _sft_pieces(example: Example) -> list[Piece]:
    return [_with_film(piece) for piece in all_learned(example)]


def _with_film(piece: Piece) -> Piece:
    """The overview's pictures as one film, where the loader shows the same ones of it."""
    system, opening, *rest = piece.messages
    video, shown = piece.example.sample.video, opening.content.count(PLACEHOLDER)
    if shown != n_frames(video.duration_s, video.fps, OVERVIEW_FRAMES):
        return piece
    film = opening.model_copy(update={"content": _FILM + opening.content.removeprefix(PLACEHOLDER * shown)})
    return replace(piece, messages=(system, film, *rest), images=piece.images[shown:])


def _sft(piece: Piece, pictures: Sequence[Any]) -> Columns:
    if sum(m.content.count(PLACEHOLDER) for m in piece.messages) != len(pictures):
        raise Fatal(f"{piece.example.sample.provenance.trajectory_id}: images would be misplaced")
    left, film = iter(pictures), piece.example.sample.video.uri
    messages = [{"role": m.role, "content": list(_parts(m.content, left, film))} for m in piece.messages]
    return {"messages": messages}


def _parts(text: str, pictures: Iterator[str], film: str) -> Iterator[Columns]:
    for span in _MARKS.split(text):
        part: Columns = {"type": "text", "text": None, "image_url": None, "video_url": None}
        if span == PLACEHOLDER:
            yield part | {"type": "image_url", "image_url": {"url": next(pictures)}}
        elif span == _FILM:
            yield part | {"type": "video_url", "video_url": {"url": film}}
        elif span:
            yield part | {"text": span}


def _rl(piece: Piece, pictures: Sequence[Any]) -> Columns:
    sample = prompt_sample(piece.example)
    if len(sample.clue_intervals) != 1:
        raise Rejected("not one clue interval", "the published reward for time compares with one")
    (system, opening), _ = apart(piece.messages, sample.tools)
    asked = opening.content.rpartition(PLACEHOLDER)[2].removesuffix(alias(sample.video.video_id))
    film = opening.model_copy(update={"content": f"{_FILM}{asked}{sample.video.uri}"})
    return {
        "data_source": "longvt",
        "prompt": plain_messages([system, film]),
        "videos": [_video(sample.video.uri)],
        "ability": "long_video_qa",
        "reward_model": {"style": "rule", "ground_truth": sample.ground_truth},
        "extra_info": {
            "split": piece.example.split,
            "index": piece.example.number,
            "answer": sample.ground_truth,
            "question": question_text(piece.example.question),
            "need_tools_kwargs": True,
            "tools_kwargs": {"crop_video": {"create_kwargs": {"dummy": "dummy"}}},
            "video_segment": list(sample.clue_intervals[0]),
        },
    }


def _video(uri: str) -> Columns:
    """As `qwen_vl_utils` reads it: a frame a second, at most 512 of at most 224 x 224 pixels."""
    limits = {"fps": 1, "min_frames": 1, "max_frames": OVERVIEW_FRAMES, "max_pixels": BUDGET.max_pixels}
    return {"type": "video", "video": f"file://{uri}", **limits}


LONGVT = Format(
    name="longvt",
    about="LongVT's own: messages with parts for lmms-engine, and its RL Parquet",
    layouts={
        ("sft", "files"): Layout(_sft, SFT, "parquet", (), "", _sft_pieces),
        ("rl", "reference"): Layout(_rl, RL, "parquet", ("prompt",), "", whole),
    },
    protocol="longvt",
)
