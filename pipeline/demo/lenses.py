"""How each protocol that shows frames lets the demo teacher look: what it calls, how long a look is, how often."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.demo.asked import Target
from pipeline.demo.sight import FRAMES
from pipeline.demo.world import FPS
from schemas.timeline import Interval
from schemas.trajectory import Action


@dataclass(frozen=True)
class Lens:
    """call: the action that shows a span of seconds, given what is looked for there, None for nothing in particular.

    named: how a thought names the span of an action. zooms: most of an attempt. reading_s, counting_s: least and most
    seconds of a look at something to read or to look at, and at a lamp. together: whether a turn may hold several.
    """

    call: Callable[[Interval, Target | None], Action]
    named: Callable[[Action], str]
    zooms: int
    reading_s: Interval
    counting_s: Interval
    together: bool = False


def _by_rate(span: Interval, target: Target | None) -> Action:
    """As many frames as the small model reads at once, no more than two a second unless a lamp is to be counted."""
    fps = FRAMES / (span[1] - span[0]) + 0.01
    fps = round(fps if target and target.flashes else min(2.0, fps), 2)
    return Action(call_id="", kind="zoom", start_s=span[0], end_s=span[1], fps=fps)


def _seconds(action: Action) -> str:
    return f"{action.start_s:.1f} s to {action.end_s:.1f} s"


def _by_frames(span: Interval, target: Target | None) -> Action:
    """By the frame rate that all rendered films have."""
    first, last = (round(time_s * FPS) for time_s in span)
    return Action(call_id="", kind="zoom", start_frame=first, end_frame=last)


def _frames(action: Action) -> str:
    return f"frames {action.start_frame} to {action.end_frame}"


def _by_second(span: Interval, target: Target | None) -> Action:
    """Whole seconds, the nearest."""
    start = round(span[0])
    return Action(call_id="", kind="zoom", start_s=float(start), end_s=float(max(start + 1, round(span[1]))))


def _by_query(span: Interval, target: Target | None) -> Action:
    """Eight frames of what is looked for."""
    query = target.name if target else None
    return Action(call_id="", kind="zoom", start_s=span[0], end_s=span[1], query=query, num_frames=8)


VIDEOZOOMER = Lens(call=_by_rate, named=_seconds, zooms=4, reading_s=(5.4, 6.0), counting_s=(4.0, 4.3))
"""A look at a lamp is as long as its flashes can take, and no flash is between two of the frames."""

FRAMETHINKER = Lens(call=_by_frames, named=_frames, zooms=4, reading_s=(11.0, 12.0), counting_s=(2.5, 2.6))
"""Eight frames, far apart in the overview: a look at a sign must be long, one at a lamp shows a part of its flashes."""

LOVE_R1 = Lens(call=_by_second, named=_seconds, zooms=2, reading_s=(5.4, 6.0), counting_s=(4.0, 4.3))

TIMESEARCH_R = Lens(call=_by_query, named=_seconds, zooms=4, reading_s=(5.4, 6.0), counting_s=(4.0, 4.3))


def longvt(path: str) -> Lens:
    """The lens of LongVT for a video of this path. At a frame a second no flashes can be counted."""

    def crop(span: Interval, target: Target | None) -> Action:
        return Action(call_id="", kind="zoom", path=path, start_s=span[0], end_s=span[1])

    return Lens(call=crop, named=_seconds, zooms=5, reading_s=(6.2, 6.8), counting_s=(6.2, 6.8), together=True)
