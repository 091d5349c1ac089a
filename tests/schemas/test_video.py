"""A frame plan can be narrowed, and only narrowed."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.video import FramePlan, PixelBudget, uniform

BOUND = st.none() | st.integers(1, 300)
BUDGETS = st.builds(
    PixelBudget,
    max_side=st.none() | st.integers(2, 2000),
    min_pixels=st.none() | st.integers(1, 10**6),
    max_pixels=st.none() | st.integers(1, 10**6),
)


def test_uniform_items_include_both_ends_and_never_repeat() -> None:
    assert uniform(range(10, 20), 3) == (10, 14, 19)
    assert uniform(range(5), 8) == (0, 1, 2, 3, 4)
    assert uniform(range(9), 1) == (4,)
    assert uniform((), 3) == ()


@given(st.integers(1, 200), BUDGETS, BOUND, BOUND, st.integers(2, 4000), st.integers(2, 4000))
def test_a_limited_plan_shows_no_more_and_no_larger_frames(
    n: int, budget: PixelBudget, frames: int | None, side: int | None, width: int, height: int
) -> None:
    plan = FramePlan(budget=budget, times_s=tuple(i / 2 for i in range(n)))
    limited = plan.limited(frames, side)
    assert limited.times_s is not None and plan.times_s is not None and limited.indices is None
    assert len(limited.times_s) == (n if frames is None else min(n, frames))
    assert set(limited.times_s) <= set(plan.times_s) and list(limited.times_s) == sorted(set(limited.times_s))
    if len(limited.times_s) > 1:
        assert (limited.times_s[0], limited.times_s[-1]) == (plan.times_s[0], plan.times_s[-1])
    shown, before = limited.budget.size(width, height), budget.size(width, height)
    assert shown[0] <= before[0] and shown[1] <= before[1]
    assert side is None or max(shown) <= max(2, side)


def test_a_limit_keeps_what_it_does_not_speak_of() -> None:
    plan = FramePlan(budget=PixelBudget(max_pixels=90000), indices=(3, 5, 8, 13))
    assert plan.limited(None, None) == plan
    assert plan.limited(9, None) == plan
    assert plan.limited(2, 64) == FramePlan(budget=PixelBudget(max_side=64, max_pixels=90000), indices=(3, 13))
    assert plan.limited(None, 64).limited(None, 128).budget.max_side == 64


def test_a_longest_side_holds_against_a_least_area() -> None:
    assert PixelBudget(min_pixels=25088).size(640, 360) == (640, 360)
    assert PixelBudget(min_pixels=25088, max_side=80).size(640, 360) == (80, 44)
    assert PixelBudget(min_pixels=25088, max_side=300).size(64, 64) == (158, 158)


def test_a_box_holds_both_sides_apart() -> None:
    box = PixelBudget(max_width=640, max_height=360)
    assert [box.size(*size) for size in ((1920, 1080), (1440, 1080), (1080, 1920), (320, 240), (2000, 300))] == [
        (640, 360),
        (480, 360),
        (202, 360),
        (320, 240),
        (640, 96),
    ]
