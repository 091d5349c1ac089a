"""Our own records: the columns of `schemas/samples.py`, with nothing left out.

By reference a row names each frame (index, time, size, hash) and a loader decodes the video; embedded, `images` holds
JPEG bytes as `datasets` stores an Image, and the references move to `frames`. Which tokens are learned stands in
`train` of each message.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.shards.formats.layout import IMAGE, Columns, Format, Kind, Layout, Media, Piece, whole
from schemas.arrow import arrow_schema
from schemas.record import Record
from schemas.samples import RlSample, SftSample, StepSample

_RECORDS: dict[Kind, type[Record]] = {"sft": SftSample, "rl": RlSample, "rl-steps": StepSample}


def _by_reference(piece: Piece, pictures: Sequence[Any]) -> Columns:
    sample = piece.example.sample
    return sample.model_dump(exclude={"images"}) | {"images": sample.images}


def _embedded(piece: Piece, pictures: Sequence[Any]) -> Columns:
    sample = piece.example.sample
    return sample.model_dump(exclude={"images"}) | {"images": list(pictures), "frames": sample.images}


def _with_pictures(schema: pa.Schema) -> pa.Schema:
    at = schema.get_field_index("images")
    # Nullable, for `datasets` takes a column for pictures only where the field is the one that it would write itself.
    return schema.set(at, pa.field("images", pa.list_(IMAGE))).insert(at + 1, schema.field(at).with_name("frames"))


def _layouts() -> dict[tuple[Kind, Media], Layout]:
    made: dict[tuple[Kind, Media], Layout] = {}
    for kind, record in _RECORDS.items():
        text = ("messages",) if kind == "sft" else ("prompt",)
        schema = arrow_schema(record)
        made[kind, "reference"] = Layout(_by_reference, schema, "parquet", text, "images", whole)
        made[kind, "embedded"] = Layout(_embedded, _with_pictures(schema), "parquet", text, "images", whole)
    return made


NATIVE = Format(name="native", about="Parquet with everything that Zoomtrail knows of a row", layouts=_layouts())
