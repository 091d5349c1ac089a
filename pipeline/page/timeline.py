"""A video's timeline as a page draws it: rows of spans, as shares of its duration."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.page.attempt import Attempt
from pipeline.page.told import ToldTurn
from schemas.timeline import merge
from schemas.verdict import Verdict

_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_MOST_TICKS = 8


@dataclass(frozen=True)
class Span:
    """start_s, end_s: seconds. left, width: per cent of the duration. label: what it is; turn: number, 0 for none."""

    start_s: float
    end_s: float
    left: float
    width: float
    label: str
    short: str = ""
    turn: int = 0


@dataclass(frozen=True)
class Track:
    """A row of spans. kind: `captions`, `clues` or `zooms`."""

    kind: str
    name: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Drawn:
    """tracks from top to bottom; ticks: (second, per cent)."""

    duration_s: float
    tracks: tuple[Track, ...]
    ticks: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Point:
    """A step of the curve of p(gold). x: per cent of the width; p: 0..1. name: what was shown by then."""

    x: float
    p: float
    name: str
    short: str
    turn: int


def drawn(attempt: Attempt, turns: Sequence[ToldTurn]) -> Drawn | None:
    """The timeline of an attempt's video; None where it has none."""
    video = attempt.video
    if video is None or video.duration_s <= 0:
        return None
    tracks = [
        *_captions(attempt, video.duration_s),
        *_clues(attempt, video.duration_s),
        *_zooms(turns, video.duration_s),
    ]
    return Drawn(video.duration_s, tuple(tracks), _ticks(video.duration_s))


def curve(verdict: Verdict | None, turns: Sequence[ToldTurn]) -> list[Point]:
    """p(gold) of the question alone, with the overview, and after each zoom; empty where nothing was measured."""
    if verdict is None or not verdict.p_gold_steps:
        return []
    of_zoom = {look.zoom: turn.number for turn in turns for look in turn.looks if look.zoom}
    found = [("the overview", "overview", verdict.p_gold_steps[0], 0)]
    found += [(f"zoom {k}", str(k), p, of_zoom.get(k, 0)) for k, p in enumerate(verdict.p_gold_steps[1:], 1)]
    if verdict.p_gold_blind is not None:
        found.insert(0, ("the question alone", "blind", verdict.p_gold_blind, 0))
    last = max(1, len(found) - 1)
    return [Point(round(6 + 88 * i / last, 2), p, name, short, turn) for i, (name, short, p, turn) in enumerate(found)]


def clock(seconds: float) -> str:
    """Seconds as a player shows them: `0:07.5`, `61:02.0`, `1:01:02`."""
    tenths = round(max(0.0, seconds) * 10)
    minutes, rest = divmod(tenths, 600)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d}:{rest // 10:02d}"
    return f"{minutes}:{rest / 10:04.1f}"


def _captions(attempt: Attempt, duration_s: float) -> Iterable[Track]:
    """A row for each level of the caption tree."""
    nodes = attempt.tree.nodes if attempt.tree else ()
    for level in sorted({len(node.path) for node in nodes}):
        spans = [
            _span(node.start_s, node.end_s, duration_s, f"{_path(node.path)} {node.caption or node.error}", "")
            for node in nodes
            if len(node.path) == level
        ]
        yield Track("captions", f"captions {level}" if level > 1 else "captions", tuple(spans))


def _clues(attempt: Attempt, duration_s: float) -> Iterable[Track]:
    question = attempt.trajectory.question if attempt.trajectory else None
    if question and question.clue_intervals:
        spans = [_span(start, end, duration_s, "clue interval", "") for start, end in merge(question.clue_intervals)]
        yield Track("clues", "clues", tuple(spans))


def _zooms(turns: Sequence[ToldTurn], duration_s: float) -> Iterable[Track]:
    """The looks of all turns, over one another where they overlap: each row holds what fits beside each other."""
    rows: list[list[Span]] = []
    for turn in turns:
        for look in turn.looks:
            of = look.action
            if of is None or not of.looks or of.start_s is None or of.end_s is None:
                continue
            label = f"turn {turn.number}: {of.kind} {clock(of.start_s)} to {clock(of.end_s)}"
            label += "" if look.zoom else ", refused"
            span = _span(of.start_s, of.end_s, duration_s, label, str(look.zoom or "×"), turn.number)
            free = next((row for row in rows if all(_apart(span, other) for other in row)), None)
            if free is None:
                rows.append(free := [])
            free.append(span)
    for number, row in enumerate(rows):
        yield Track("zooms", "zooms" if not number else "", tuple(row))


def _span(start_s: float, end_s: float, duration_s: float, label: str, short: str, turn: int = 0) -> Span:
    left = 100 * min(max(start_s / duration_s, 0.0), 1.0)
    right = 100 * min(max(end_s / duration_s, 0.0), 1.0)
    width = max(right - left, 0.4)
    return Span(start_s, end_s, round(min(left, 100 - width), 3), round(width, 3), label, short, turn)


def _apart(one: Span, other: Span) -> bool:
    return one.left >= other.left + other.width or other.left >= one.left + one.width


def _ticks(duration_s: float) -> tuple[tuple[float, float], ...]:
    step = next((step for step in _STEPS_S if duration_s / step <= _MOST_TICKS), _STEPS_S[-1])
    return tuple((float(t), round(100 * t / duration_s, 3)) for t in range(0, int(duration_s) + 1, step))


def _path(path: Sequence[int]) -> str:
    return f"({','.join(map(str, path))})"
