"""Planted faults: each takes effect in a real rollout, is what its kind says, and leaves no label in the record."""

import asyncio
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.demo import wording
from pipeline.demo.faults import FaultyTeacher, altered, missed
from pipeline.demo.film import film_name, write_film
from pipeline.demo.leaking import PARTS
from pipeline.demo.plants import FAULTS, HINTED, SOUND, Kind, Plant, plan
from pipeline.demo.questions import questions
from pipeline.demo.truth import evidence_seen, false_statements, mistakes, scenes_in, statements, truths
from pipeline.demo.world import COUNTS, Film, film
from pipeline.models.chat import ChatMessage
from pipeline.sources import jsonl_question
from pipeline.stages.caption import CaptionStage, VideoJob
from pipeline.stages.items import Care
from pipeline.stages.replay import ReplayStage
from pipeline.stages.teach import TeachStage
from pipeline.stages.teaching import Teaching
from prompts.protocol import Fault, Setting, Step, ZoomProtocol
from prompts.protocols import protocol
from prompts.rendering import question_text
from schemas.captions import CaptionTree
from schemas.config import Captions, Rollout
from schemas.question import Question
from schemas.timeline import overlap_s
from schemas.trajectory import Action, Trajectory
from schemas.verdict import Verdict
from tests.stages.scripted import ScriptedModel, planned, text_of

SEED = 11
PER_KIND = 8
PROTOCOLS = ("videozoomer", "longvideo_r1")

BETRAYALS = ("is shown in segment", *PARTS["teller"], *PARTS["told"], *PARTS["failed"], *PARTS["by"])
"""Of each planted wording that copies a hint, a clause that no honest thought holds."""

Attempt = tuple[Plant, Trajectory, str]
"""An attempt with why its plant missed, "" where it did not."""


@pytest.fixture(scope="module")
def world() -> Film:
    return film(SEED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, world: Film) -> Path:
    path = tmp_path_factory.mktemp("film")
    write_film(world, path / film_name(SEED))
    return path


@pytest.fixture(scope="module")
def asked(world: Film) -> list[Question]:
    return [jsonl_question(dict(row)) for row in questions(world)]


def gold_statement(world: Film, question: Question) -> str:
    """What the clues of a question show, in words."""
    shown = truths(world, question.clue_intervals)
    return " ".join(sorted(s for s in shown if any(word in s for word in question.answer_text.split(" and "))))


def sound_steps(world: Film, question: Question, setting: Setting) -> list[Step]:
    """What a teacher that knows everything does: a zoom on each clue, or down to its leaf, and the answer."""
    steps = []
    for start, end in question.clue_intervals or [(4.0, 8.0)]:
        if setting.segments is None:
            fps = 16 / (end - start) if question.text == wording.FLASH_QUERY else 2.0
            zoom = Action(call_id="", kind="zoom", start_s=start, end_s=end, fps=round(fps, 2))
            steps.append(Step(f"I look at {start:.1f} s to {end:.1f} s.", (zoom,)))
            continue
        for leaf in setting.segments.covering([(start, end)], 3):
            name = ",".join(map(str, leaf))
            asks = Action(call_id="", kind="video_qa", segment=leaf, query=question.text)
            opens = Action(call_id="", kind="caption", segment=leaf)
            steps += [Step(f"I open ({name}).", (opens,)), Step(f"I ask about ({name}).", (asks,))]
    answer = Action(call_id="", kind="answer", answer=question.answer_letter or question.answer_text)
    return [*steps, Step(gold_statement(world, question) or "That is all.", (answer,))]


def sound_teacher(world: Film, asked: Sequence[Question], setting: Setting, zoom: ZoomProtocol) -> ScriptedModel:
    def say(messages: Sequence[ChatMessage], sample: int) -> str:
        chat = text_of(messages)
        question = max((q for q in asked if question_text(q) in chat), key=lambda q: len(question_text(q)))
        steps = sound_steps(world, question, setting)
        told = [text_of([m]) for m in messages if m.role == "user"][1:]
        done = sum("rror" not in text and "not valid" not in text for text in told)
        return zoom.write(steps[min(done, len(steps) - 1)])

    return ScriptedModel(say)


def captioned(folder: Path, name: str) -> CaptionTree:
    captioner = ScriptedModel(lambda messages, sample: "<caption>A large red star moves up.</caption>")
    stage = CaptionStage(protocol(name), captioner, Captions(min_width=3), None, "")
    (tree,) = asyncio.run(stage.run([VideoJob(film_name(SEED), str(folder / film_name(SEED)))], Care()))
    return tree


def rolled_out(tree: CaptionTree, name: str, plants: Sequence[Plant], world: Film, hints: bool) -> list[Attempt]:
    assert tree.video is not None
    zoom, setting = protocol(name), Setting.of(tree.video, tree.width)
    sound = sound_teacher(world, [plant.question for plant in plants], setting, zoom)
    teacher = FaultyTeacher(sound, zoom, world, setting, plants)
    answerer = ScriptedModel(lambda messages, sample: "<reasoning>r</reasoning><answer>nothing</answer>")
    teaching = Teaching(zoom, teacher, answerer, Rollout(hints="after_wrong_answer" if hints else "off"))
    items = [planned(plant.question, plant.attempt) for plant in plants]
    rows = asyncio.run(TeachStage(teaching, 8).run(items, {tree.video_id: tree}, Care()))
    attempts = []
    for plant, row in zip(plants, rows, strict=True):
        written = plant.trajectory_id in teacher.spoiled
        if plant.kind == "altered_observation":
            changed = altered(row, plant.dice)
            row, written = changed or row, changed is not None
        attempts.append((plant, row, missed(plant, row, world, written)))
    return attempts


@pytest.fixture(scope="module", params=PROTOCOLS)
def attempts(
    request: pytest.FixtureRequest, folder: Path, world: Film, asked: list[Question]
) -> Iterator[tuple[CaptionTree, list[Attempt]]]:
    tree = captioned(folder, request.param)
    plants = plan(asked, dict.fromkeys(("sound", *FAULTS), PER_KIND))
    yield tree, rolled_out(tree, request.param, plants, world, hints=False)


@pytest.fixture(scope="module")
def hinted(folder: Path, world: Film, asked: list[Question]) -> list[Attempt]:
    tree = captioned(folder, "longvideo_r1")
    return rolled_out(tree, "longvideo_r1", plan(asked, dict.fromkeys(HINTED, PER_KIND)), world, hints=True)


def of(kind: Kind, attempts: tuple[CaptionTree, list[Attempt]]) -> list[Trajectory]:
    rows = [row for plant, row, _ in attempts[1] if plant.kind == kind]
    assert len(rows) == PER_KIND
    return rows


def test_every_plant_takes_effect_and_nothing_else_goes_wrong(attempts: tuple[CaptionTree, list[Attempt]]) -> None:
    assert [(plant.kind, plant.question.text, why) for plant, _, why in attempts[1] if why] == []


def test_the_label_is_nowhere_in_the_record(attempts: tuple[CaptionTree, list[Attempt]]) -> None:
    for plant, row, _ in attempts[1]:
        assert plant.kind == "sound" or plant.kind not in row.model_dump_json()


def test_sound_attempts_are_the_sound_teachers_own(attempts: tuple[CaptionTree, list[Attempt]], world: Film) -> None:
    for row in of("sound", attempts):
        assert mistakes(row, world) == [] and all(turn.error == "" for turn in row.turns)


def test_a_wrong_answer_is_wrong_after_a_sound_look(attempts: tuple[CaptionTree, list[Attempt]], world: Film) -> None:
    found = [mistakes(row, world) for row in of("wrong_answer", attempts)]
    assert {first for first, *_ in found} == {"wrong answer"}
    assert {tuple(rest) for _, *rest in found} == {(), ("false statement",)}


def test_a_wrong_clip_shows_no_frame_of_a_clues_scene_and_yet_the_answer_is_right(
    attempts: tuple[CaptionTree, list[Attempt]], world: Film
) -> None:
    for row in of("wrong_clip", attempts):
        scenes = [(scene.start_s, scene.end_s) for scene in scenes_in(world, row.question.clue_intervals)]
        actions = [action for turn in row.turns for action in turn.actions if action.kind != "answer"]
        looked_at = [(action.start_s or 0.0, action.end_s or 0.0) for action in actions]
        assert looked_at and overlap_s(looked_at, scenes) == 0
        assert row.final_answer == (row.question.answer_letter or row.question.answer_text)
        assert not evidence_seen(row, world)


def test_only_the_first_zoom_is_out_of_bounds(attempts: tuple[CaptionTree, list[Attempt]]) -> None:
    for row in of("out_of_bounds", attempts):
        assert row.turns[0].error in ("outside_video", "no_such_segment")
        assert all(turn.error == "" for turn in row.turns[1:])


def test_one_zoom_is_not_mentioned_by_its_thought(attempts: tuple[CaptionTree, list[Attempt]]) -> None:
    ways = set()
    for row in of("unmentioned_zoom", attempts):
        zooms = [turn for turn in row.turns if turn.actions and turn.actions[0].kind != "answer"]
        unsaid = [turn for turn in zooms if not named(turn.actions[0], turn.think)]
        empty = [turn for turn in row.turns if turn.error == "no_think"]
        assert len(unsaid) + len(empty) == 1
        ways.add("empty" if empty else "silent" if "closer look" in unsaid[0].think else "other")
    assert len(ways) >= 2


def named(action: Action, think: str) -> bool:
    if action.segment:
        return f"({','.join(map(str, action.segment))})" in think
    return f"{action.start_s:.1f} s to {action.end_s:.1f} s" in think


def test_a_false_claim_is_one_statement_after_a_look(attempts: tuple[CaptionTree, list[Attempt]], world: Film) -> None:
    for row in of("false_claim", attempts):
        assert len(false_statements(row, world)) == 1
        assert mistakes(row, world) == ["false statement"]


def test_a_leak_stands_in_the_first_thought_and_names_the_answer(
    attempts: tuple[CaptionTree, list[Attempt]],
) -> None:
    for row in of("gold_leaked", attempts):
        think = row.turns[0].think
        assert row.question.answer_text in think or re.search(rf"\b{row.question.answer_letter}\b", think)


def test_no_zoom_is_needed_or_none_is_made(attempts: tuple[CaptionTree, list[Attempt]]) -> None:
    kinds = set()
    for row in of("no_zoom_needed", attempts):
        kinds.add(json.loads(row.question.extras_json)["kind"])
        assert not row.question.clue_intervals or len(row.turns) == 1
    assert {"overview", "blind"} <= kinds and kinds & {"sign", "pair", "flash", "open"}


def test_a_redundant_zoom_shows_nothing_new(attempts: tuple[CaptionTree, list[Attempt]]) -> None:
    for row in of("redundant_zooms", attempts):
        actions = [turn.actions[0] for turn in row.turns]
        *earlier, again = [(a.kind, a.start_s or 0.0, a.end_s or 0.0) for a in actions if a.kind != "answer"]
        assert any(kind == again[0] and a <= again[1] < again[2] <= b for kind, a, b in earlier)


def test_one_turn_is_malformed_and_the_attempt_goes_on(attempts: tuple[CaptionTree, list[Attempt]]) -> None:
    rows = of("malformed_turn", attempts)
    assert all(sum(turn.error != "" for turn in row.turns) == 1 and row.status == "answered" for row in rows)
    assert len({turn.error for row in rows for turn in row.turns if turn.error}) >= 2
    zoom = protocol(rows[0].protocol)
    assert all(isinstance(zoom.parse(turn.raw), Fault) for row in rows for turn in row.turns if turn.error)


def judged(attempts: tuple[CaptionTree, list[Attempt]], *kinds: Kind) -> list[tuple[Kind, Verdict]]:
    """The verdicts of a replay without a verifier."""
    tree, all_attempts = attempts
    rows = [(plant.kind, row) for plant, row, _ in all_attempts if plant.kind in kinds]
    reply = "<reasoning>r</reasoning><answer>nothing</answer>"
    stage = ReplayStage(protocol(rows[0][1].protocol), None, lambda key: reply)
    verdicts = asyncio.run(stage.run([row for _, row in rows], {tree.video_id: tree}, Care()))
    return list(zip([kind for kind, _ in rows], verdicts, strict=True))


def test_replay_finds_altered_observations_and_bad_actions_and_nothing_else(
    attempts: tuple[CaptionTree, list[Attempt]],
) -> None:
    for kind, verdict in judged(attempts, "sound", "altered_observation", "out_of_bounds", "malformed_turn"):
        assert verdict.error is None
        assert verdict.observations_match is (kind != "altered_observation"), verdict.mismatch
        assert verdict.in_bounds is (kind != "out_of_bounds")
        assert verdict.well_formed is (kind not in ("out_of_bounds", "malformed_turn"))


def test_a_hint_is_shown_after_a_first_wrong_answer_and_only_the_fault_betrays_it(hinted: list[Attempt]) -> None:
    for plant, row, why in hinted:
        assert why == "" and len(row.hints) == 1
        wrong = row.hints[0].wrong_answer
        assert wrong != row.final_answer
        thoughts = " ".join(turn.think for turn in row.turns)
        betrayed = any(clause in thoughts for clause in BETRAYALS)
        assert betrayed is (plant.kind == "hint_copied")


def test_a_plan_is_seeded_and_spreads_kinds_over_the_questions_they_suit(asked: list[Question]) -> None:
    counts: dict[Kind, int] = {"sound": 10, "no_zoom_needed": 6, "wrong_clip": 5}
    plants = plan(asked, counts, seed=3)
    assert plants == plan(asked, counts, seed=3) != plan(asked, counts, seed=4)
    assert len({plant.trajectory_id for plant in plants}) == 21
    for question in asked:
        mine = [plant.attempt for plant in plants if plant.question == question]
        assert mine == list(range(len(mine)))
    zoomed = [plant.question.question_id for plant in plants if plant.kind == "sound"]
    assert all(plant.question.clue_intervals for plant in plants if plant.kind in (*SOUND, "wrong_clip"))
    assert len(set(zoomed)) == sum(bool(question.clue_intervals) for question in asked)
    bare = [not plant.question.clue_intervals for plant in plants if plant.kind == "no_zoom_needed"]
    assert sum(bare) == 3


def test_statements_are_true_or_false_by_what_the_spans_show(world: Film) -> None:
    scene = next(scene for scene in world.scenes if scene.sign)
    assert scene.sign is not None
    told = wording.sign_statement(scene.sign.colour, scene.sign.word)
    here = truths(world, [(scene.start_s, scene.end_s)])
    assert {told, wording.describe(scene), wording.floor_statement(world.floor)} == here
    assert told not in truths(world, [(s.start_s, s.end_s) for s in world.scenes if s is not scene])
    lamp = next(scene for scene in world.scenes if scene.lamp)
    assert lamp.lamp is not None
    counted = wording.flash_statement(COUNTS[len(lamp.lamp.flashes) - 2])
    text = f"At 4.0 s I see this: {wording.describe(lamp)} {counted} Is it so? {told} The answer is near."
    assert statements(text) == [wording.describe(lamp), counted, told]


def test_altering_leaves_everything_but_one_observation(attempts: tuple[CaptionTree, list[Attempt]]) -> None:
    (row, *_) = of("sound", attempts)
    for seed in range(12):
        other = altered(row, random.Random(seed))
        assert other is not None and other != row
        before = [o for turn in row.turns for o in turn.observations]
        after = [o for turn in other.turns for o in turn.observations]
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
        bare = {"turns": ()}
        assert other.model_copy(update=bare) == row.model_copy(update=bare)
    nothing = row.model_copy(update={"turns": row.turns[-1:]})
    assert altered(nothing, random.Random(0)) is None
