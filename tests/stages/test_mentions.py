"""Places in thoughts: what is named must be what is called, and a teacher that names places names each one."""

import pytest

from pipeline.stages.mentions import consistent, zooms_mentioned
from schemas.trajectory import Action, Observation, Trajectory
from tests.stages.test_checks import ANSWER, trajectory, turn, zoom


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        ("I look from 10 s to 20 s.", True),
        ("Between 12.5 and 14 seconds someone waves.", True),
        ("The span [11, 13] matters.", True),
        ("At 40-50 s there is a car.", False),
        ("I saw 40 s to 50 s, now 12 s to 18 s.", True),
        ("It shows 3 to 5 people.", None),
        ("Let me look closer.", None),
        ("Between 0:11 and 0:15 he waves.", True),
        ("At 1:40-1:50 he waves.", False),
        ("It is 16:9 and lasts 0:30.", None),
        ("[" + "9" * 5000 + ", 1]", None),
    ],
)
def test_a_span_in_the_thought_must_be_the_span_that_is_called(think: str, expected: bool | None) -> None:
    assert consistent(trajectory(turn(think, zoom(10, 20)), ANSWER)) is expected


def test_a_segment_in_the_thought_must_be_the_segment_that_is_called() -> None:
    call = Action(call_id="0.0", kind="caption", segment=(2, 3), start_s=20.0, end_s=24.0)
    named = trajectory(turn("I open (2, 3).", call, kind="caption"), ANSWER, name="longvideo_r1")
    other = trajectory(turn("I open (1,3).", call, kind="caption"), ANSWER, name="longvideo_r1")
    assert consistent(named) is True and consistent(other) is False


def test_what_was_just_seen_may_be_spoken_of_before_looking_elsewhere() -> None:
    after = turn("Nothing happens from 10 s to 20 s. I look on.", zoom(30, 40, 1))
    assert consistent(trajectory(turn("Let me see.", zoom(10, 20)), after, ANSWER)) is None
    wrong = turn("Nothing happens from 10 s to 20 s. I look from 50 s to 60 s.", zoom(30, 40, 1))
    assert consistent(trajectory(turn("Let me see.", zoom(10, 20)), wrong, ANSWER)) is False


def test_a_segment_above_or_below_the_one_that_is_called_agrees() -> None:
    call = Action(call_id="0.0", kind="caption", segment=(2, 3), start_s=20.0, end_s=24.0)
    below = Action(call_id="1.0", kind="caption", segment=(2, 3, 1), start_s=20.0, end_s=21.0)
    turns = [turn("I open (2,3).", call, kind="caption"), turn("(2,3) holds it.", below, kind="caption")]
    assert consistent(trajectory(*turns, ANSWER)) is True


@pytest.mark.parametrize(
    ("think", "mentioned"),
    [
        ("I zoom from 30 s to 40 s.", 1.0),
        ("The span [28, 35] matters.", 1.0),
        ("He waves at about 33 s, so I look there.", 1.0),
        ("Around 0:36 the lamp turns on.", 1.0),
        ("I check the frames between 31 and 34.", 1.0),
        ("The next clip may show it.", 1.0),
        ("I look at the end of the video.", 1.0),
        ("Let me look closer.", 0.5),
        ("There are 35 people.", 0.5),
        ("I zoom from 50 s to 60 s.", 0.5),
        ("", 0.5),
    ],
)
def test_a_zoom_that_its_thought_does_not_name_is_noticed_among_others_that_are_named(
    think: str, mentioned: float
) -> None:
    named = turn("I look from 10 s to 20 s.", zoom(10, 20))
    assert zooms_mentioned(trajectory(named, turn(think, zoom(30, 40, 1)), ANSWER)) == mentioned


@pytest.mark.parametrize(
    ("think", "mentioned"),
    [
        ("I open (2,3).", 1.0),
        ("(2,3,1) must hold it; its parent first.", 1.0),
        ("Segment 2 mentions an oven.", 1.0),
        ("High-level Caption 2 mentions an oven.", 1.0),
        ("The second segment mentions an oven.", 1.0),
        ("An oven is named at 22.5 s.", 1.0),
        ("Segment 4 mentions an oven.", 0.5),
        ("I want to know more.", 0.5),
    ],
)
def test_a_segment_may_be_named_by_its_id_its_parent_or_its_seconds(think: str, mentioned: float) -> None:
    first = Action(call_id="0.0", kind="caption", segment=(1, 1), start_s=0.0, end_s=4.0)
    second = Action(call_id="1.0", kind="caption", segment=(2, 3), start_s=20.0, end_s=24.0)
    walk = trajectory(turn("I open (1,1).", first, kind="caption"), turn(think, second, kind="caption"), ANSWER)
    assert zooms_mentioned(walk) == mentioned


def test_a_teacher_that_never_names_places_is_not_held_to_it_but_an_empty_thought_is() -> None:
    vague = trajectory(turn("Let me look closer.", zoom(10, 20)), turn("And there.", zoom(30, 40, 1)), ANSWER)
    assert zooms_mentioned(vague) is None
    silent = trajectory(turn("Let me look closer.", zoom(10, 20)), turn(" ", zoom(30, 40, 1)), ANSWER)
    assert zooms_mentioned(silent) == 0.5
    assert zooms_mentioned(trajectory(ANSWER)) is None
    told_later = turn("From 10 s to 20 s the sign says FISH.", ANSWER.actions[0])
    assert zooms_mentioned(trajectory(turn("Let me look closer.", zoom(10, 20)), told_later)) == 0.0


def test_odd_texts_are_read_in_time_that_grows_with_their_length() -> None:
    for text in (
        "segment" + " " * 20_000,
        "1" * 20_000,
        "1 s " * 5_000,
        "from 1 to " * 2_000,
        "(1," * 5_000,
        "1:00 " * 3_000,
    ):
        assert consistent(trajectory(turn(text, zoom(10, 20)), ANSWER)) is None


def chosen(start: int, end: int, number: int = 0) -> Action:
    return zoom(start / 10, end / 10, number).model_copy(update={"start_frame": start, "end_frame": end})


@pytest.mark.parametrize(
    ("think", "expected", "mentioned"),
    [
        ("I choose frames 300 to 400.", True, 1.0),
        ("Frames between 350 and 500 may show it.", True, 1.0),
        ("Now from frame 310 to frame 320.", True, 1.0),
        ("He waves from 0:31 to 0:35.", True, 1.0),
        ("I choose between 300 and 400.", None, 1.0),
        ("Around frame 333 he waves.", None, 1.0),
        ("I choose frames 600 to 700.", False, 0.5),
        ("After frames 100 to 200 I look on.", None, 0.5),
        ("There are 350 people.", None, 0.5),
        ("Let me look closer.", None, 0.5),
    ],
)
def test_frames_name_a_place_where_calls_do(think: str, expected: bool | None, mentioned: float) -> None:
    before = turn("I choose frames 100 to 200.", chosen(100, 200))
    row = trajectory(before, turn(think, chosen(300, 400, 1)), ANSWER)
    assert consistent(row, by_frames=True) is (True if expected is None else expected)
    assert zooms_mentioned(row, by_frames=True) == mentioned
    assert consistent(trajectory(turn(think, chosen(300, 400)), ANSWER), by_frames=True) is (
        False if "100 to 200" in think else expected
    )


def test_numbered_frames_of_an_overview_are_no_places_elsewhere() -> None:
    row = trajectory(turn("Frames 3 to 5 of the overview show a car.", zoom(10, 20)), ANSWER)
    assert consistent(row) is None and zooms_mentioned(row) is None


def test_each_of_several_calls_in_a_turn_must_be_named() -> None:
    def both(think: str) -> Trajectory:
        calls = (zoom(10, 20), zoom(40, 50, 1))
        seen = tuple(Observation(call_id=call.call_id, kind="frames", text="") for call in calls)
        return trajectory(turn(think, calls[0]).model_copy(update={"actions": calls, "observations": seen}), ANSWER)

    named = both("I look from 10 s to 20 s and from 40 s to 50 s.")
    assert (consistent(named), zooms_mentioned(named)) == (True, 1.0)
    half = both("I look from 10 s to 20 s.")
    assert (consistent(half), zooms_mentioned(half)) == (True, 0.5)
    other = both("I look from 10 s to 20 s and from 70 s to 80 s.")
    assert (consistent(other), zooms_mentioned(other)) == (False, 0.5)


def test_a_question_about_the_clock_is_no_zoom() -> None:
    asked = Action(call_id="0.0", kind="time", start_s=40.0)
    row = trajectory(turn("What happens at 0:40?", asked, kind="time"), ANSWER)
    assert zooms_mentioned(row, by_frames=True) is None and consistent(row, by_frames=True) is None
