"""Whether a thought speaks of the place that its action calls: spans of seconds or of frames and ids of segments."""

import re
from collections.abc import Sequence

from schemas.timeline import Interval, length_s, overlap_s
from schemas.trajectory import Action, Trajectory, Turn, carried_out

_CLOCK = r"\d{1,3}:\d{2}(?::\d{2})?(?:\.\d+)?"
_NUMBER = r"\d{1,7}(?:\.\d+)?"
_SECONDS = r"\s*(?:s|sec|secs|second|seconds)\b"
_UNTIL = r"\s*(?:-|–|—|to|and|until|till|through)\s*"
_SPANS = (
    re.compile(rf"\[\s*({_NUMBER})\s*(?:s\b)?\s*,\s*({_NUMBER})\s*(?:s\b)?\s*\]"),
    re.compile(rf"(?<![\d.:])({_NUMBER})(?:{_SECONDS})?{_UNTIL}({_NUMBER}){_SECONDS}", re.I),
    re.compile(rf"(?<![\d:])({_CLOCK}){_UNTIL}({_CLOCK})", re.I),
)
_BARE_SPAN = re.compile(rf"\b(?:from|between)\s+({_NUMBER}){_UNTIL}({_NUMBER})\b", re.I)
_INDEX = r"(?:frames?\s+)?(?:numbers?\s+)?(?:from\s+|between\s+)?(\d{1,9})"
_FRAME_SPAN = re.compile(rf"\bframes?\s+{_INDEX}{_UNTIL}{_INDEX}\b(?![.:]\d)", re.I)
_FRAME = re.compile(r"\bframes?\s+(?:number\s+)?(\d{1,9})\b", re.I)
_MOMENT = re.compile(rf"(?<![\d:])({_CLOCK})|(?<![\d.])({_NUMBER}){_SECONDS}", re.I)
_PATH = re.compile(r"\(\s*(\d{1,6})\s*,\s*(\d{1,6})\s*(?:,\s*(\d{1,6})\s*)?,?\s*\)")
_TOP_SEGMENTS = re.compile(
    r"\b(?:segments?|captions?|(?:high|top)-level)\s{0,2}(?:caption|segment)?s?\W{0,4}(\d{1,6})\b", re.I
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_TOP_ORDINAL = re.compile(
    rf"\b({'|'.join(_ORDINALS)})\s+(?:(?:high|top)-level\s+|major\s+)?(?:segment|caption|part|section)\b", re.I
)
_RELATIVE = re.compile(
    r"\b(?:next|following|preceding|adjacent|neighbou?ring|remaining)\s+(?:\w+-level\s+)?(?:sub-?)?"
    r"(?:segment|clip|part|section|interval|seconds|caption|leaf|leaves)"
    r"|\b(?:beginning|start|middle|end|opening) of (?:the |this |that )?(?:video|film|clip|segment)",
    re.I,
)
_MOMENT_SLACK_S = 1.0
"""Seconds by which a moment may lie outside of the span that is zoomed for its sake."""


def consistent(trajectory: Trajectory, by_frames: bool = False) -> bool | None:
    """Whether each thought that names a span or a segment names one that its action calls; None where none does.

    by_frames: whether "frames 120 to 360" names a span: of the video, where a protocol's calls name frames so.

    A thought may name several: one that the call meets is enough (a segment meets those above and below it). Places
    that earlier actions looked at do not count against it, since a thought speaks of what was just seen.
    """
    agreements, before = [], list[Action]()
    for turn in trajectory.turns:
        for action in _calls(turn):
            agreements.append(_agrees(turn.think, action, before, by_frames))
            before.append(action)
    known = [agreement for agreement in agreements if agreement is not None]
    return all(known) if known else None


def zooms_mentioned(trajectory: Trajectory, by_frames: bool = False) -> float | None:
    """Share of the zooms, in 0..1, whose own thought names the place that is called; None without zooms.

    Read generously: a span, a moment, an id, `segment 2`, `the next segment`. Where no thought of the trajectory names
    a span or a segment, naming is not its teacher's habit: then None, unless the thought before a zoom is empty.
    by_frames: see `consistent`; spans of bare numbers are of frames then.
    """
    thoughts = [
        (turn.think, action) for turn in trajectory.turns for action in carried_out(turn.actions, turn.observations)
    ]
    if not thoughts:
        return None
    if any(_names_place(turn.think, by_frames) for turn in trajectory.turns):
        mentioned = [_mentions(think, action, by_frames) for think, action in thoughts]
    else:
        mentioned = [bool(think.strip()) for think, _ in thoughts]
        if all(mentioned):
            return None
    return sum(mentioned) / len(mentioned)


def _calls(turn: Turn) -> list[Action]:
    return [action for action in turn.actions if action.looks]


def _agrees(think: str, action: Action, before: Sequence[Action], by_frames: bool) -> bool | None:
    """Whether what a thought names is what was called; None where it names nothing, or only what was seen before."""
    if action.segment:
        named = _paths(think)
        new = [path for path in named if path not in {a.segment for a in before}]
        return _agreement(any(_on_one_line(path, action.segment) for path in new or named), bool(new))
    if _span(action) is None:
        return None
    met, unseen = _meets(_spans(think), _span(action), [_span(a) for a in before])
    if by_frames:
        met_frames, unseen_frames = _meets(_frame_spans(think), _frames(action), [_frames(a) for a in before])
        met, unseen = met or met_frames, unseen or unseen_frames
    return _agreement(met, unseen)


def _meets(named: Sequence[Interval], called: Interval | None, before: Sequence[Interval | None]) -> tuple[bool, bool]:
    """Whether one of the named spans meets the one called; whether one of them was not called before."""
    seen = [span for span in before if span]
    met = called is not None and any(overlap_s([span], [called]) > 0 for span in named)
    return met, any(overlap_s([span], seen) < 0.5 * length_s([span]) for span in named)


def _agreement(met: bool, names_new: bool) -> bool | None:
    return True if met else False if names_new else None


def _mentions(think: str, action: Action, by_frames: bool) -> bool:
    if _RELATIVE.search(think):
        return True
    if action.segment:
        top = action.segment[0]
        if any(_on_one_line(path, action.segment) for path in _paths(think)) or top in _top_segments(think):
            return True
    span = _span(action)
    if span is None:
        return False
    around = (span[0] - _MOMENT_SLACK_S, span[1] + _MOMENT_SLACK_S)
    if any(around[0] <= moment <= around[1] for moment in _moments(think)):
        return True
    bare = _intervals(_BARE_SPAN, think)
    frames = _frames(action)
    if by_frames and frames is not None:
        if any(frames[0] <= int(match[1]) <= frames[1] for match in _FRAME.finditer(think)):
            return True
        if any(overlap_s([s], [frames]) > 0 for s in [*_frame_spans(think), *bare]):
            return True
        bare = []
    return any(overlap_s([s], [span]) > 0 for s in [*_spans(think), *bare])


def _names_place(text: str, by_frames: bool) -> bool:
    return bool(_spans(text) or _paths(text) or _top_segments(text) or (by_frames and _frame_spans(text)))


def _span(action: Action) -> Interval | None:
    return None if action.start_s is None or action.end_s is None else (action.start_s, action.end_s)


def _frames(action: Action) -> Interval | None:
    return None if action.start_frame is None or action.end_frame is None else (action.start_frame, action.end_frame)


def _frame_spans(text: str) -> list[Interval]:
    return _intervals(_FRAME_SPAN, text)


def _spans(text: str) -> list[Interval]:
    return [span for pattern in _SPANS for span in _intervals(pattern, text)]


def _intervals(pattern: re.Pattern[str], text: str) -> list[Interval]:
    found = [(_seconds(m[1]), _seconds(m[2])) for m in pattern.finditer(text)]
    return [(start, end) for start, end in found if start < end]


def _moments(text: str) -> list[float]:
    """The times that a text names by themselves, not as an end of a span."""
    for pattern in _SPANS:
        text = pattern.sub(" ", text)
    return [_seconds(match[1] or match[2]) for match in _MOMENT.finditer(text)]


def _seconds(text: str) -> float:
    """`75.5`, `1:15.5` and `0:01:15.5` as seconds."""
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total


def _paths(text: str) -> list[tuple[int, ...]]:
    return [tuple(int(g) for g in match.groups() if g) for match in _PATH.finditer(text)]


def _top_segments(text: str) -> set[int]:
    numbers = {int(match[1]) for match in _TOP_SEGMENTS.finditer(text)}
    return numbers | {_ORDINALS.index(match[1].lower()) + 1 for match in _TOP_ORDINAL.finditer(text)}


def _on_one_line(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether one segment holds the other."""
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]
