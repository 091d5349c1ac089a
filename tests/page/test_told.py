"""What a page tells of one attempt."""

import pytest

from pipeline.page.attempt import Attempt, read_attempt
from pipeline.page.render import value
from pipeline.page.shared import SharedRows
from pipeline.page.site import told
from pipeline.page.timeline import clock, curve, drawn
from pipeline.page.told import Seen, frame_at, told_turns, trainer_rows
from pipeline.store import RunStore
from schemas.errors import Failure, Rejected
from schemas.trajectory import Hint, Reflection, Trajectory
from tests.page.conftest import shared
from tests.shards.runs import answer_turn, question, trajectory, verdict, walk_run, whole_run, zoom_turn


@pytest.fixture(scope="module")
def rows(watched: RunStore) -> SharedRows:
    return shared(watched)


def test_every_zoom_has_its_frames_its_number_and_its_gain(rows: SharedRows) -> None:
    made = read_attempt(rows, "q0@0", "default")
    assert made.trajectory and made.verdict
    turns = told_turns(made.trajectory, made.verdict)
    looks = [look for turn in turns for look in turn.looks]
    assert [look.zoom for look in looks] == [1, 2, None]
    assert [(look.gain.before, look.gain.after) for look in looks if look.gain] == [(0.25, 0.5), (0.5, 0.875)]
    numbers = [seen.number for look in looks for seen in look.frames]
    assert numbers == [2, 3, 4, 5, 6], "the overview's two come first"
    for look in looks:
        for seen in look.frames:
            assert frame_at(made.trajectory, seen.number) == (seen.frame, tuple(s.frame for s in look.frames))
    assert frame_at(made.trajectory, 7) is None


def test_a_refused_turn_takes_no_part_in_the_count_of_zooms(rows: SharedRows) -> None:
    made = read_attempt(rows, "q0@1", "default")
    assert made.trajectory
    broken, zoomed, answered = told_turns(made.trajectory, made.verdict)
    assert broken.turn.error == "bad_json" and [look.zoom for look in broken.looks] == [None]
    assert [look.zoom for look in zoomed.looks] == [1] and [look.zoom for look in answered.looks] == [None]


def test_hints_and_corrections_stand_before_the_turn_that_they_led_to() -> None:
    hints = [Hint(level=n, text=f"h{n}", after_turn=n, wrong_answer="A", wrong_raw="") for n in (0, 1, 2)]
    made = trajectory(question(0, "v"), 0, turns=(zoom_turn("a"), answer_turn("C")), final="C", hints=hints)
    corrected = Reflection(after_turn=1, max_turns=5, wrong_answer="A", wrong_raw="")
    turns = told_turns(made.model_copy(update={"reflection": corrected}), None)
    assert [[hint.text for hint in turn.hints] for turn in turns] == [["h0"], ["h1"]]
    assert [turn.reflection for turn in turns] == [None, corrected]


def test_what_the_trainer_sees_is_the_row_of_a_cut_with_its_mask(rows: SharedRows) -> None:
    made = read_attempt(rows, "q0@1", "default")
    (row,), reason = trainer_rows(made)
    assert not reason
    texts = ["".join(part for part in message.parts if isinstance(part, str)) for message in row.messages]
    trained = [text for message, text in zip(row.messages, texts, strict=True) if message.trained]
    assert all(message.role == "assistant" for message in row.messages if message.trained)
    assert len(trained) == 2 and "Closer at 1.0" in trained[0] and "C" in trained[1]
    broken = next(m for m in row.messages if m.role == "assistant" and not m.trained)
    assert broken is not None, "the broken turn stands there, and is not learned"
    images = [part.number for message in row.messages for part in message.parts if isinstance(part, Seen)]
    assert images == [0, 1, 2, 3, 4]
    assert row.characters == (sum(map(len, trained)), sum(map(len, texts)))


def test_the_rulings_are_those_of_the_preset_with_the_values_that_they_judged(rows: SharedRows) -> None:
    made = read_attempt(rows, "q0@1", "default")
    assert made.loss == ("kept", "not well-formed", "")
    failed = {ruling.reason: ruling for ruling in made.rulings if not ruling.holds}
    assert failed["not well-formed"].values == {"well_formed": False}
    assert read_attempt(rows, "q0@1", "videozoomer").loss is None
    with pytest.raises(Rejected, match="no such attempt"):
        read_attempt(rows, "q0@9", "default")


def test_the_timeline_has_captions_clues_and_zooms_where_they_are(rows: SharedRows) -> None:
    made = read_attempt(rows, "q0@0", "default")
    assert made.trajectory
    turns = told_turns(made.trajectory, made.verdict)
    timeline = drawn(made, turns)
    assert timeline
    clue = round(200 / timeline.duration_s, 3)
    to_the_end = (clue, round(100 - clue, 3))
    assert [(track.kind, [(span.left, span.width) for span in track.spans]) for track in timeline.tracks] == [
        ("captions", [(0.0, 50.0), (50.0, 50.0)]),
        ("clues", [to_the_end]),
        ("zooms", [to_the_end]),
        ("zooms", [to_the_end]),
    ], "a clue that goes on beyond the end is drawn to the end; zooms at one place stand under one another"
    assert [span.turn for track in timeline.tracks[2:] for span in track.spans] == [1, 2]


def test_the_curve_goes_from_the_question_alone_through_every_zoom(rows: SharedRows) -> None:
    made = read_attempt(rows, "q0@0", "default")
    assert made.trajectory and made.verdict
    points = curve(made.verdict, told_turns(made.trajectory, made.verdict))
    assert [(p.short, p.p, p.turn) for p in points] == [
        ("blind", 0.25, 0),
        ("overview", 0.25, 0),
        ("1", 0.5, 1),
        ("2", 0.875, 2),
    ]
    assert curve(verdict(made.trajectory, p_gold_steps=None), []) == []


def test_attempts_that_never_began_are_told_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    shown = shared(whole_run(str(tmp_path_factory.mktemp("whole"))))
    failed = told(read_attempt(shown, "q2@0", "default"))
    assert failed["trainer_rows"] == [] and "never began" in failed["no_trainer_rows"] and failed["timeline"] is None
    waiting: Attempt = read_attempt(shown, "q4@0", "default")
    assert waiting.trajectory is None and waiting.loss == ("captioned", "not yet captioned", "")
    assert told(waiting)["turns"] == []


def test_a_walk_through_captions_is_told_with_its_segments(tmp_path_factory: pytest.TempPathFactory) -> None:
    shown = shared(walk_run(str(tmp_path_factory.mktemp("walk"))))
    made = read_attempt(shown, "q0@0", "default")
    assert made.trajectory
    (look,) = told_turns(made.trajectory, made.verdict)[0].looks
    assert look.action and look.action.segment == (1, 2) and look.observation and look.observation.text == "a street"
    assert trainer_rows(made)[0][0].messages


def test_a_stateless_protocol_has_a_row_for_each_turn(runs: object) -> None:
    store: RunStore = runs("love_r1")  # type: ignore[operator]
    made = store.rows(Trajectory, "teach", sorted(store.finished("teach"))[0])[0]
    rows, _ = trainer_rows(read_attempt(shared(store), made.trajectory_id, "default"))
    assert [row.step for row in rows] == [n for n, turn in enumerate(made.turns, 1) if turn.trainable]


def test_values_are_shown_as_a_person_reads_them() -> None:
    shown = [value(of) for of in (None, True, 0.5, 1234, (0.25, 1), "text")]
    assert shown == ["–", "yes", "0.500", "1,234", "0.250, 1", "text"]
    assert value(Failure(stage="teach", kind="k", message="m")) == "stage teach, kind k, message m, attempts 1"


def test_seconds_are_shown_as_a_player_shows_them() -> None:
    shown = [clock(seconds) for seconds in (0, 7.46, 59.97, 61, 3599.94, 3599.96, 3661.9, -1)]
    assert shown == ["0:00.0", "0:07.5", "1:00.0", "1:01.0", "59:59.9", "1:00:00", "1:01:01", "0:00.0"]
