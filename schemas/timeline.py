"""Seconds, frame indices and segment ids: the one conversion and the one segment function.

Captions, questions about a clip, hints, rewards, replay and export all call these, so they cannot drift apart.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

Interval = tuple[float, float]
"""(start, end) in seconds, start <= end."""

SegmentPath = tuple[int, ...]
"""1-based segment ids from the top level down: (h,), (h, m) or (h, m, l)."""

LEVELS = 3


@dataclass(frozen=True)
class Timeline:
    """When each frame of a video is on screen.

    times_s: start of each frame in presentation order, in seconds since the stream's first frame (so `times_s[0]` is
    0), strictly increasing; true for variable frame rate. duration_s: end of the last frame, in seconds.
    """

    times_s: Sequence[float]
    duration_s: float

    def index_at(self, time_s: float) -> int:
        """The index of the frame on screen at a time; times outside the video are clamped to its first or last frame.

        A frame's own start counts as its own, half a microsecond of rounding forgiven.
        """
        return min(max(bisect_right(self.times_s, time_s + 5e-7) - 1, 0), len(self.times_s) - 1)

    def seconds(self, first: int, last: int) -> Interval:
        """From the start of frame `first` to the start of frame `last`; an index past the last frame is the end."""
        start, end = (self.times_s[i] if i < len(self.times_s) else self.duration_s for i in (first, last))
        return start, end

    def within(self, interval: Interval) -> range:
        """Indices of the frames that start in [start, end); where none does, the frame on screen at `start`."""
        first = bisect_right(self.times_s, interval[0] - 5e-7)
        end = bisect_right(self.times_s, interval[1] - 5e-7)
        if first >= end:
            shown = self.index_at(interval[0])
            return range(shown, shown + 1)
        return range(first, end)


@dataclass(frozen=True)
class Segments:
    """The segment tree of LongVideo-R1: three levels of width, width² and width³ equal spans of a video's duration.

    Boundary j of level k lies at `duration * (j / width**k)`. The quotient is correctly rounded, so a boundary that two
    levels share is the same float in both, and no time falls between two segments. (The published code uses three
    definitions that disagree by up to 39 frames; see LongVideo-R1 `data/utils.py`, `sft_data_generation.py`.)
    """

    duration_s: float
    width: int

    def boundary(self, level: int, number: int) -> float:
        """Second at which segment `number` (0-based, flat) of a level (1, 2 or 3) begins."""
        return self.duration_s * (number / float(self.width**level))

    def span(self, path: SegmentPath) -> Interval:
        """(start, end) in seconds of a segment. Raises ValueError where no such segment exists."""
        if not self.exists(path):
            raise ValueError(f"no segment {path} in a tree of width {self.width}")
        number = self.flat(path)
        return self.boundary(len(path), number), self.boundary(len(path), number + 1)

    def exists(self, path: SegmentPath) -> bool:
        """Whether the path has 1 to 3 ids, each in 1..width."""
        return 1 <= len(path) <= LEVELS and all(1 <= i <= self.width for i in path)

    def flat(self, path: SegmentPath) -> int:
        """0-based number of a segment among all of its level."""
        number = 0
        for i in path:
            number = number * self.width + (i - 1)
        return number

    def path(self, level: int, number: int) -> SegmentPath:
        """The inverse of `flat`."""
        ids = []
        for _ in range(level):
            number, i = divmod(number, self.width)
            ids.append(i + 1)
        return tuple(reversed(ids))

    def at(self, time_s: float, level: int = LEVELS) -> SegmentPath:
        """The segment of a level that holds a time; t = duration belongs to the last one. Times outside are clamped."""
        count = self.width**level
        number = 0
        if self.duration_s > 0:
            number = min(max(int(time_s / self.duration_s * count), 0), count - 1)
        while number > 0 and time_s < self.boundary(level, number):
            number -= 1
        while number < count - 1 and time_s >= self.boundary(level, number + 1):
            number += 1
        return self.path(level, number)

    def paths(self, level: int) -> list[SegmentPath]:
        """All segments of a level, in order of time."""
        return [self.path(level, n) for n in range(self.width**level)]

    def covering(self, intervals: Sequence[Interval], level: int) -> list[SegmentPath]:
        """The segments of a level that any of the intervals touches, in order of time, each once."""
        numbers: set[int] = set()
        for start, end in intervals:
            first, last = self.flat(self.at(start, level)), self.flat(self.at(end, level))
            if last > first and end <= self.boundary(level, last):
                last -= 1
            numbers.update(range(first, last + 1))
        return [self.path(level, n) for n in sorted(numbers)]


def merge(intervals: Sequence[Interval], gap_s: float = 0.0) -> list[Interval]:
    """Intervals sorted and joined where they overlap or lie at most `gap_s` seconds apart."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1] + gap_s:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def overlap_s(one: Sequence[Interval], other: Sequence[Interval]) -> float:
    """Seconds in the intersection of two unions of intervals."""
    return sum(
        max(0.0, min(a_end, b_end) - max(a_start, b_start))
        for a_start, a_end in merge(one)
        for b_start, b_end in merge(other)
    )


def length_s(intervals: Sequence[Interval]) -> float:
    """Seconds in the union of intervals."""
    return sum(end - start for start, end in merge(intervals))
