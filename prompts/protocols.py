"""The protocols that exist. A new one is one file and one line here."""

from prompts.framethinker import FrameThinker
from prompts.longvideo_r1 import LongVideoR1
from prompts.longvt import LongVT
from prompts.love_r1 import LoveR1
from prompts.protocol import ZoomProtocol
from prompts.timesearch_r import TimeSearchR
from prompts.videozoomer import VideoZoomer

PROTOCOLS: tuple[ZoomProtocol, ...] = (
    VideoZoomer(),
    LongVideoR1(),
    FrameThinker(),
    LongVT(),
    LoveR1(),
    TimeSearchR(),
)


def protocol(name: str) -> ZoomProtocol:
    """The protocol of a name. Raises KeyError with the names that exist."""
    for known in PROTOCOLS:
        if known.name == name:
            return known
    raise KeyError(f"{name!r}; known protocols: {', '.join(p.name for p in PROTOCOLS)}")
