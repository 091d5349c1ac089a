"""How each protocol that shows frames lets the demo teacher look: what it calls, how long a look is, how often."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.demo.sight import FRAMES
from pipeline.demo.world import FPS
from schemas.timeline import Interval
from schemas.trajectory import Action


@dataclass(frozen=True)
class Lens:
    """call: the action that shows a span of seconds, with as many frames as it can where a lamp's flashes are counted.

    named: how a thought names the span of an action. zooms: most of an attempt. reading_s, counting_s: least and most
    seconds of a look at something to read or to look at, and at a lamp. together: whether a turn may hold several.
    """

    call: Callable[[Interval, bool], Action]
    named: Callable[[Action], str]
    zooms: int
    reading_s: Interval
    counting_s: Interval
    together: bool = False


def _by_rate(span: Interval, counting: bool) -> Action:
    """As many frames as the small model reads at once, no more than two a second unless a lamp is to be counted."""
    fps = FRAMES / (span[1] - span[0]) + 0.01
    fps = round(fps if counting else min(2.0, fps), 2)
    return Action(call_id="", kind="zoom", start_s=span[0], end_s=span[1], fps=fps)


def _seconds(action: Action) -> str:
    return f"{action.start_s:.1f} s to {action.end_s:.1f} s"


def _by_frames(span: Interval, counting: bool) -> Action:
    """By the frame rate that all rendered films have."""
    first, last = (round(time_s * FPS) for time_s in span)
    return Action(call_id="", kind="zoom", start_frame=first, end_frame=last)


def _frames(action: Action) -> str:
    return f"frames {action.start_frame} to {action.end_frame}"


VIDEOZOOMER = Lens(call=_by_rate, named=_seconds, zooms=4, reading_s=(5.4, 6.0), counting_s=(4.0, 4.3))
"""A look at a lamp is as long as its flashes can take, and no flash is between two of the frames."""

FRAMETHINKER = Lens(call=_by_frames, named=_frames, zooms=4, reading_s=(11.0, 12.0), counting_s=(2.5, 2.6))
"""Eight frames, far apart in the overview: a look at a sign must be long, one at a lamp shows a part of its flashes."""


def longvt(path: str) -> Lens:
    """The lens of LongVT for a video of this path. At a frame a second no flashes can be counted."""

    def crop(span: Interval, counting: bool) -> Action:
        return Action(call_id="", kind="zoom", path=path, start_s=span[0], end_s=span[1])

    return Lens(call=crop, named=_seconds, zooms=5, reading_s=(6.2, 6.8), counting_s=(6.2, 6.8), together=True)
