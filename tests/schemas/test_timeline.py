"""One definition of segments: ids and boundaries agree everywhere, for every width and duration."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.timeline import LEVELS, Segments, Timeline, length_s, merge, overlap_s

durations = (
    st.floats(1.0, 36_000.0) | st.integers(1, 36_000).map(float) | st.integers(30, 900_000).map(lambda n: n / 29.97)
)
trees = st.builds(Segments, durations, st.integers(3, 8))
levels = st.integers(1, LEVELS)
fractions = st.floats(0.0, 1.0)


@given(trees, levels, fractions)
def test_every_time_lies_in_the_segment_named_for_it(tree: Segments, level: int, fraction: float) -> None:
    time = tree.duration_s * fraction
    path = tree.at(time, level)
    start, end = tree.span(path)
    assert start <= time
    assert time < end or time == end == tree.duration_s
    assert path == tree.at(time, LEVELS)[:level]


@given(trees, levels)
def test_the_ends_of_the_video_belong_to_the_first_and_last_segment(tree: Segments, level: int) -> None:
    first, last = (1,) * level, (tree.width,) * level
    assert (tree.at(0.0, level), tree.at(tree.duration_s, level)) == (first, last)
    assert (tree.at(-1.0, level), tree.at(tree.duration_s * 2, level)) == (first, last)
    assert (tree.span(first)[0], tree.span(last)[1]) == (0.0, tree.duration_s)


@given(trees, st.data())
def test_a_boundary_belongs_to_the_segment_it_begins(tree: Segments, data: st.DataObject) -> None:
    level = data.draw(levels)
    number = data.draw(st.integers(0, tree.width**level - 1))
    start = tree.boundary(level, number)
    assert tree.flat(tree.at(start, level)) == number
    if number:
        assert tree.flat(tree.at(math.nextafter(start, 0.0), level)) == number - 1


@given(trees, st.integers(1, LEVELS - 1))
def test_children_tile_their_parent_exactly(tree: Segments, level: int) -> None:
    for parent in tree.paths(level):
        children = [tree.span((*parent, i)) for i in range(1, tree.width + 1)]
        assert (children[0][0], children[-1][1]) == tree.span(parent)
        assert all(a[1] == b[0] for a, b in pairwise(children))
        assert all(start < end for start, end in children)


@given(trees, levels)
def test_flat_numbers_count_the_segments_in_order_of_time(tree: Segments, level: int) -> None:
    paths = tree.paths(level)
    assert [tree.flat(path) for path in paths] == list(range(tree.width**level))
    assert all(tree.path(level, n) == path for n, path in enumerate(paths))
    assert all(tree.exists(path) for path in paths)
    assert [tree.span(path)[0] for path in paths] == sorted(tree.span(path)[0] for path in paths)


@given(trees, levels, st.lists(st.tuples(fractions, fractions), min_size=1, max_size=4))
def test_covering_names_exactly_the_segments_that_an_interval_touches(
    tree: Segments, level: int, ends: list[tuple[float, float]]
) -> None:
    clues = [(tree.duration_s * min(pair), tree.duration_s * max(pair)) for pair in ends]
    named = tree.covering(clues, level)
    assert named == sorted(set(named))
    for path in tree.paths(level):
        shared = overlap_s([tree.span(path)], clues)
        holds_a_point = any(start == end and tree.at(start, level) == path for start, end in clues)
        assert (path in named) == (shared > 0 or holds_a_point)


def test_an_interval_that_ends_on_a_boundary_does_not_touch_the_next_segment() -> None:
    tree = Segments(64.0, 4)
    assert tree.covering([(8.0, 16.0)], 1) == [(1,)]
    assert tree.covering([(16.0, 16.0)], 1) == [(2,)]
    assert tree.covering([(64.0, 64.0)], 3) == [(4, 4, 4)]
    assert tree.covering([], 2) == []


@pytest.mark.parametrize("path", [(), (0,), (5,), (1, 5), (1, 1, 0), (1, 1, 1, 1)])
def test_a_segment_that_does_not_exist_has_no_span(path: tuple[int, ...]) -> None:
    tree = Segments(64.0, 4)
    assert not tree.exists(path)
    with pytest.raises(ValueError, match="no segment"):
        tree.span(path)


VARIABLE = Timeline(times_s=(0.0, 0.04, 0.5, 2.0), duration_s=2.1)


@pytest.mark.parametrize(
    ("time", "index"),
    [(-1.0, 0), (0.0, 0), (0.039, 0), (0.0399999, 1), (0.04, 1), (1.9, 2), (2.0, 3), (2.1, 3), (99.0, 3)],
)
def test_a_time_shows_the_frame_that_is_on_screen(time: float, index: int) -> None:
    assert VARIABLE.index_at(time) == index


@pytest.mark.parametrize(
    ("interval", "frames"),
    [
        ((0.0, 2.1), range(4)),
        ((0.04, 0.5), range(1, 2)),
        ((0.1, 0.4), range(1, 2)),
        ((0.6, 1.9), range(2, 3)),
        ((2.05, 2.1), range(3, 4)),
    ],
)
def test_an_interval_holds_the_frames_that_begin_in_it_or_the_one_on_screen(
    interval: tuple[float, float], frames: range
) -> None:
    assert VARIABLE.within(interval) == frames


@given(trees, st.integers(1, 120), levels)
def test_every_frame_belongs_to_exactly_one_segment_where_frames_are_dense(
    tree: Segments, per: int, level: int
) -> None:
    count = tree.width**LEVELS * per
    if count > 20_000:
        count = 20_000
    timeline = Timeline([tree.duration_s * i / count for i in range(count)], tree.duration_s)
    spans = [timeline.within(tree.span(path)) for path in tree.paths(level)]
    if all(len(span) > 1 for span in spans):
        assert [i for span in spans for i in span] == list(range(count))


def test_merging_joins_what_overlaps_or_lies_within_the_gap() -> None:
    intervals = [(20.0, 22.0), (0.0, 3.0), (2.0, 4.0), (9.0, 10.0)]
    assert merge(intervals) == [(0.0, 4.0), (9.0, 10.0), (20.0, 22.0)]
    assert merge(intervals, 5.0) == [(0.0, 10.0), (20.0, 22.0)]
    assert merge([(0.0, 9.0), (1.0, 2.0)], 5.0) == [(0.0, 9.0)]
    assert merge([]) == []


def test_lengths_and_overlaps_count_each_second_once() -> None:
    assert length_s([(0.0, 3.0), (2.0, 4.0)]) == 4.0
    assert overlap_s([(0.0, 3.0), (2.0, 4.0)], [(1.0, 10.0), (3.0, 5.0)]) == 3.0
    assert overlap_s([(0.0, 1.0)], [(1.0, 2.0)]) == 0.0


def test_frames_begin_at_their_own_times_and_an_index_past_the_last_is_the_end() -> None:
    timeline = Timeline(times_s=(0.0, 0.5, 0.6, 2.0), duration_s=2.5)
    assert timeline.seconds(1, 3) == (0.5, 2.0)
    assert timeline.seconds(0, 4) == timeline.seconds(0, 999) == (0.0, 2.5)
