"""The formats that exist. A new one is one file and one line here."""

from pipeline.shards.formats.framethinker import FRAMETHINKER
from pipeline.shards.formats.layout import Format
from pipeline.shards.formats.llamafactory import LLAMAFACTORY, LLAMAFACTORY_ALPACA
from pipeline.shards.formats.longvideo_r1 import LONGVIDEO_R1
from pipeline.shards.formats.longvt import LONGVT
from pipeline.shards.formats.love_r1 import LOVE_R1
from pipeline.shards.formats.ms_swift import MS_SWIFT
from pipeline.shards.formats.native import NATIVE
from pipeline.shards.formats.timesearch_r import TIMESEARCH_R
from pipeline.shards.formats.trl import TRL, TRL_STEPS
from pipeline.shards.formats.verl import VERL
from pipeline.shards.formats.videozoomer import VIDEOZOOMER
from schemas.errors import UserError

FORMATS: tuple[Format, ...] = (
    NATIVE,
    LLAMAFACTORY,
    LLAMAFACTORY_ALPACA,
    MS_SWIFT,
    TRL,
    TRL_STEPS,
    VERL,
    LONGVIDEO_R1,
    VIDEOZOOMER,
    FRAMETHINKER,
    LONGVT,
    LOVE_R1,
    TIMESEARCH_R,
)


def known_format(name: str) -> Format:
    """The format of a name. Raises UserError with those that exist."""
    for known in FORMATS:
        if known.name == name:
            return known
    raise UserError(f"no such format: {name!r}; there are {', '.join(f.name for f in FORMATS)}")
