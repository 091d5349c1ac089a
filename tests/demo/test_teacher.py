"""The demo teacher on a real film, through the real stages, with a small model that makes no mistakes of its own."""

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo import wording, world
from pipeline.demo.film import write_film
from pipeline.demo.questions import Row, questions
from pipeline.demo.teacher import DemoTeacher
from pipeline.models.chat import ChatMessage, ChatModel, Pictures, with_pixels
from pipeline.plan import Planned
from pipeline.stages.caption import CaptionStage, VideoJob
from pipeline.stages.items import Care
from pipeline.stages.mentions import consistent, zooms_mentioned
from pipeline.stages.teach import TeachStage
from pipeline.stages.teaching import Teaching
from prompts import framethinker, longvideo_r1, longvt, love_r1, timesearch_r, videozoomer
from prompts.judging import answers_match
from prompts.protocols import protocol
from prompts.statements import statements
from schemas.captions import CaptionTree, Usage
from schemas.config import Captions, Rollout, View
from schemas.question import Question
from schemas.timeline import overlap_s
from schemas.trajectory import Observation, Trajectory
from tests.demo.seeing import says
from tests.stages.scripted import ScriptedModel, text_of

VIEW = View(overview_frames=13, overview_side=80, zoom_frames=12, zoom_side=448, caption_frames=24, caption_side=80)
PROTOCOLS = ("videozoomer", "longvideo_r1", "framethinker", "longvt", "love_r1", "timesearch_r")
BY_RATE = ("videozoomer",)
"""Protocols whose zoom can be dense enough to count flashes."""
ATTEMPTS = 2
FILM = world.film(13, at_least_s=60.0)


def view(name: str) -> View:
    """LongVT's frames tell no times but by being one a second."""
    return VIEW.model_copy(update={"overview_frames": None}) if name == "longvt" else VIEW


Say = Callable[[Sequence[ChatMessage]], str]


def truthful(messages: Sequence[ChatMessage]) -> str:
    return says(FILM, messages)


def model(say: Say = truthful) -> ScriptedModel:
    return ScriptedModel(lambda messages, sample: say(messages))


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CaptionTree]:
    """The film captioned for each protocol."""
    path = tmp_path_factory.mktemp("film") / "film-13.mp4"
    write_film(FILM, path)
    return {name: captioned(path, name) for name in PROTOCOLS}


def captioned(path: Path, name: str) -> CaptionTree:
    stage = CaptionStage(protocol(name), model(), Captions(min_width=3), None, "", view(name))
    (tree,) = asyncio.run(stage.run([VideoJob(path.name, str(path))], Care()))
    return tree


def record(row: Row) -> Question:
    return Question(
        question_id=row["qid"],
        video_id=row["video"],
        text=row["question"],
        kind="multiple_choice" if row["choices"] else "open",
        choices=tuple(row["choices"]),
        answer_letter=row["answer"] if row["choices"] else "",
        answer_text=row["answer_text"],
        clue_intervals=tuple(row["clue_intervals"]),
        source="jsonl",
        source_id=row["qid"],
    )


def rows(kind: str) -> list[Row]:
    return [row for row in questions(FILM) if row["kind"] == kind]


def taught(
    tree: CaptionTree,
    name: str,
    asked: Sequence[Row],
    attempts: Sequence[int],
    *,
    reader: ChatModel | None = None,
    answerer: ChatModel | None = None,
    **rollout: Any,
) -> list[Trajectory]:
    """Trajectories question by question. reader: of the teacher; answerer: behind a `video_qa`."""
    teacher = DemoTeacher(reader or model(), protocol(name))
    teaching = Teaching(protocol(name), teacher, answerer or model(), Rollout(**rollout), view(name))
    planned = [Planned(shard=0, attempt=n, question=record(row), error=None) for row in asked for n in attempts]
    return asyncio.run(TeachStage(teaching, 4).run(planned, {tree.video_id: tree}, Care()))


(BLACK,) = [row for row in rows("sign") if "black" in row["question"]]


@pytest.fixture
def careful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.demo.teacher.CARELESS", 0.0)


def right(trajectory: Trajectory) -> bool:
    return answers_match(trajectory.final_answer or "", trajectory.question)


def kind_of(trajectory: Trajectory) -> str:
    return trajectory.question_id.split("-")[2]


def text(trajectory: Trajectory) -> str:
    return " ".join(turn.think for turn in trajectory.turns)


def names_each_place(trajectory: Trajectory) -> bool:
    by_frames = protocol(trajectory.protocol).by_frames
    return consistent(trajectory, by_frames) is True and zooms_mentioned(trajectory, by_frames) == 1


@pytest.fixture(scope="module", params=PROTOCOLS)
def attempts(request: pytest.FixtureRequest, trees: dict[str, CaptionTree]) -> list[Trajectory]:
    return taught(trees[request.param], request.param, questions(FILM), range(ATTEMPTS))


def test_every_attempt_keeps_the_protocol_and_answers(attempts: list[Trajectory]) -> None:
    assert {t.status for t in attempts} == {"answered"}
    assert not [turn.error for t in attempts for turn in t.turns if turn.error]


def test_most_attempts_are_right_and_those_looked_at_the_clue(attempts: list[Trajectory]) -> None:
    """But for the lamp where a protocol cannot look closely enough: flashes fall between two frames, and leaves of the
    caption tree cut a train of them in two."""
    sound = [t for t in attempts if kind_of(t) != "flash" or t.protocol in BY_RATE]
    assert sum(map(right, sound)) >= 0.8 * len(sound)
    for t in sound:
        spans = [(o.start_s or 0.0, o.end_s or 0.0) for turn in t.turns for o in turn.observations]
        if right(t) and kind_of(t) != "open" and "guess" not in text(t):
            assert all(overlap_s([clue], spans) > 0 for clue in t.question.clue_intervals), t.trajectory_id


def test_an_attempt_takes_as_many_looks_as_its_question_needs(attempts: list[Trajectory]) -> None:
    frames = attempts[0].protocol != "longvideo_r1"
    pair = (2, 2) if attempts[0].protocol == "longvt" else (3, 3) if frames else (7, 12)
    typical = {"sign": (2, 2) if frames else (4, 6), "pair": pair, "overview": (2, 4)}
    for kind, (least, most) in typical.items():
        turns = sorted(len(t.turns) for t in attempts if kind_of(t) == kind and right(t))
        assert least <= turns[len(turns) // 2] <= most, kind


def test_every_thought_before_a_look_names_the_place_that_is_called(attempts: list[Trajectory]) -> None:
    assert [t.trajectory_id for t in attempts if not names_each_place(t)] == []


def test_what_thoughts_say_they_saw_is_true_and_in_the_words_of_the_world(attempts: list[Trajectory]) -> None:
    """But for counts: a leaf of the caption tree may hold some of the flashes, or none that can be counted."""
    truths = {wording.sign_statement(s.sign.colour, s.sign.word) for s in FILM.scenes if s.sign}
    truths |= {wording.floor_statement(FILM.floor)} | {wording.flash_statement(count) for count in world.COUNTS}
    said: dict[str, set[str]] = {}
    for t in attempts:
        said.setdefault(t.question_id, set()).update(s for turn in t.turns[1:] for s in statements(turn.think))
    assert all(found <= truths for found in said.values())
    assert all(found or "blind" in question or "flash" in question for question, found in said.items())


def test_thoughts_speak_of_no_letter_no_hint_and_no_reference(attempts: list[Trajectory]) -> None:
    for t in attempts:
        words = text(t).lower()
        assert not any(word in words for word in ("option", "choice", "hint", "reference", "correct", "answer"))


def test_the_rewards_of_the_protocols_find_the_form_kept(attempts: list[Trajectory]) -> None:
    rewards: dict[str, Callable[[Trajectory], float | None]] = {
        "videozoomer": videozoomer.reward,
        "longvideo_r1": longvideo_r1.reward,
        "framethinker": framethinker.reward,
        "longvt": longvt.reward,
        "love_r1": lambda t: love_r1.reward(t, len(t.turns) - 1),
        "timesearch_r": lambda t: timesearch_r.reward(t, completeness=0.0),
    }
    reward = rewards[attempts[0].protocol]
    assert all((reward(t) or 0.0) >= 0.9 for t in attempts if right(t) and len(t.turns) < 4)


def test_attempts_differ_and_careless_ones_may_be_wrong(
    trees: dict[str, CaptionTree], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.demo.teacher.CARELESS", 0.5)
    many = taught(trees["videozoomer"], "videozoomer", rows("sign"), range(6))
    wrong = [t for t in many if not right(t)]
    assert 0 < len(wrong) < len(many) and all("guess" in text(t) for t in wrong)
    assert len({(t.turns[0].actions[0].start_s, t.turns[0].actions[0].end_s) for t in many}) > 8


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_same_request_gets_the_same_text_from_another_teacher(trees: dict[str, CaptionTree], name: str) -> None:
    """A run that is killed goes on with a new one."""
    once, again = (taught(trees[name], name, questions(FILM)[:4], [1]) for _ in range(2))
    assert [[turn.raw for turn in t.turns] for t in once] == [[turn.raw for turn in t.turns] for t in again]


def test_what_was_read_once_is_not_paid_again_and_usage_counts_what_was(trees: dict[str, CaptionTree]) -> None:
    reader = model()
    first = taught(trees["videozoomer"], "videozoomer", rows("sign"), [0], reader=reader)
    assert sum((t.usage for t in first), Usage()).calls == reader.counts.sent >= VIEW.overview_frames  # type: ignore[operator]
    fresh = model()
    many = taught(trees["videozoomer"], "videozoomer", rows("sign"), range(3), reader=fresh)
    assert sum((t.usage for t in many), Usage()).calls == fresh.counts.sent < 2 * reader.counts.sent


@pytest.mark.usefixtures("careful")
def test_a_clip_that_shows_nothing_makes_it_look_elsewhere(trees: dict[str, CaptionTree]) -> None:
    """The black sign's word is on from 10.5 s to 15.4 s; no clip that begins before 12.8 s is legible here."""

    def short_sighted(messages: Sequence[ChatMessage]) -> str:
        first = re.search(r"Video frame at ([\d.]+) seconds:", text_of(messages))
        return wording.NOTHING if first and float(first[1]) < 12.8 else truthful(messages)

    (t,) = taught(trees["videozoomer"], "videozoomer", [BLACK], [0], reader=model(short_sighted))
    (u,) = taught(trees["longvideo_r1"], "longvideo_r1", [BLACK], [0], answerer=model(short_sighted))
    assert len({turn.actions[0].start_s for turn in t.turns[:-1]}) == len(t.turns) - 1 > 1
    assert right(u) and len({turn.actions[0].segment for turn in u.turns if turn.actions[0].kind == "video_qa"}) > 1


@pytest.mark.usefixtures("careful")
def test_a_word_that_is_no_choice_is_not_believed(trees: dict[str, CaptionTree]) -> None:
    misread = model(lambda messages: truthful(messages).replace("WISH", "WASP"))
    (t,) = taught(trees["videozoomer"], "videozoomer", [BLACK], [0], reader=misread)
    (u,) = taught(trees["longvideo_r1"], "longvideo_r1", [BLACK], [0], answerer=misread)
    for attempt in (t, u):
        assert "WASP" not in text(attempt) and "guess" in text(attempt) and right(attempt)


def test_it_answers_when_it_must(trees: dict[str, CaptionTree]) -> None:
    blind = model(lambda messages: wording.NOTHING if "Video frame at" in text_of(messages) else truthful(messages))
    (short,) = taught(trees["videozoomer"], "videozoomer", rows("pair"), [0], reader=blind, max_turns=3)
    (full,) = taught(trees["videozoomer"], "videozoomer", rows("pair"), [0], reader=blind)
    (walk,) = taught(trees["longvideo_r1"], "longvideo_r1", rows("pair"), [0], answerer=blind)
    assert [(t.status, len(t.turns) <= most) for t, most in ((short, 3), (full, 5), (walk, 25))] == [
        ("answered", True)
    ] * 3


@pytest.mark.usefixtures("careful")
def test_a_hint_is_followed_and_never_spoken_of(trees: dict[str, CaptionTree]) -> None:
    """What is told of the first clip is wrong, and so is the answer, until a hint sends the teacher to another clip."""
    told: list[str] = []

    def mistaken(messages: Sequence[ChatMessage]) -> str:
        answer = truthful(messages)
        if answer != "WISH":
            return answer
        told.append(answer)
        return "DISH" if len(told) == 1 else answer

    tree, hints = trees["longvideo_r1"], "after_wrong_answer"
    (t,) = taught(tree, "longvideo_r1", [BLACK], [0], answerer=model(mistaken), hints=hints)
    assert [record(BLACK).choices["ABCD".index(hint.wrong_answer)] for hint in t.hints] == ["DISH"]
    assert right(t) and len(told) == 2
    assert not any(word in text(t).lower() for word in ("hint", "wrong", "mistake", "previous"))


@pytest.mark.usefixtures("careful")
def test_a_refused_zoom_is_made_good(trees: dict[str, CaptionTree]) -> None:
    """The chat of an attempt whose zoom was spoiled on its way: the teacher zooms anew where it had meant to."""
    name, (row, *_) = "videozoomer", rows("sign")
    (t,) = taught(trees[name], name, [row], [0])
    zoom, _ = t.turns
    outside = zoom.actions[0].model_copy(update={"start_s": 400.0, "end_s": 405.0})
    refusal = Observation(call_id="0.0", kind="error", text="outside")
    spoiled = zoom.model_copy(update={"actions": (outside,), "observations": (refusal,), "error": "outside_video"})
    messages = protocol(name).messages(t.model_copy(update={"turns": (spoiled,)}).dialogue())
    chat = with_pixels(messages, Pictures(trees[name].overview))
    reply = asyncio.run(DemoTeacher(model(), protocol(name)).complete(chat))
    assert reply.text == zoom.raw


@pytest.mark.parametrize(
    "nonsense", ["", "</think><answer>B</answer>", "a red sign a lamp <video_zoom> [1, 2] </think>"]
)
def test_a_model_that_talks_nonsense_breaks_no_turn(trees: dict[str, CaptionTree], nonsense: str) -> None:
    babble = model(lambda messages: nonsense)
    for name in PROTOCOLS:
        for t in taught(trees[name], name, questions(FILM), [0], reader=babble, answerer=babble):
            assert t.status == "answered" and not any(turn.error for turn in t.turns)
