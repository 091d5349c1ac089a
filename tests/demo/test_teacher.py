"""The demo teacher on real films, through the real stages, with a small model that makes no mistakes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.demo import world
from pipeline.demo.film import write_film
from pipeline.demo.questions import Row, questions
from pipeline.demo.teacher import DemoTeacher
from pipeline.demo.world import Film
from pipeline.plan import Planned
from pipeline.stages.caption import CaptionStage, VideoJob
from pipeline.stages.items import Care
from pipeline.stages.rollout import Teaching
from pipeline.stages.teach import TeachStage
from prompts.protocols import protocol
from schemas.captions import CaptionTree
from schemas.config import Captions, Rollout, View
from schemas.question import Question
from schemas.trajectory import Trajectory
from tests.demo.seeing import says
from tests.stages.scripted import ScriptedModel

VIEW = View(overview_frames=24, overview_side=80, zoom_frames=12, zoom_side=448, caption_frames=24, caption_side=80)
PROTOCOLS = ("videozoomer", "longvideo_r1")
ATTEMPTS = 4


@pytest.fixture(scope="module")
def film() -> Film:
    return world.film(11)


@pytest.fixture(scope="module")
def trees(film: Film, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CaptionTree]:
    """The film captioned for each protocol."""
    path = tmp_path_factory.mktemp("film") / "film-11.mp4"
    write_film(film, path)
    return {name: captioned(path, film, name) for name in PROTOCOLS}


def reader(film: Film) -> ScriptedModel:
    return ScriptedModel(lambda messages, sample: says(film, messages))


def captioned(path: Path, film: Film, name: str) -> CaptionTree:
    stage = CaptionStage(protocol(name), reader(film), Captions(min_width=3), None, "", VIEW)
    (tree,) = asyncio.run(stage.run([VideoJob(path.name, str(path))], Care()))
    return tree


def asked(row: Row) -> Question:
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


def taught(
    tree: CaptionTree,
    film: Film,
    name: str,
    rows: Sequence[Row],
    attempts: Sequence[int],
    hints: str = "off",
) -> list[Trajectory]:
    small = reader(film)
    rollout = Rollout(hints=hints)  # type: ignore[arg-type]
    teaching = Teaching(protocol(name), DemoTeacher(small, protocol(name)), small, rollout, VIEW)
    planned = [Planned(shard=0, attempt=n, question=asked(row), error=None) for row in rows for n in attempts]
    return asyncio.run(TeachStage(teaching, 4).run(planned, {tree.video_id: tree}, Care()))


@pytest.fixture(scope="module", params=PROTOCOLS)
def attempts(request: pytest.FixtureRequest, trees: dict[str, CaptionTree], film: Film) -> list[Trajectory]:
    return taught(trees[request.param], film, request.param, questions(film), range(ATTEMPTS))


def test_every_attempt_keeps_the_protocol_and_answers(attempts: list[Trajectory]) -> None:
    assert {t.status for t in attempts} == {"answered"}
    assert not [turn.error for t in attempts for turn in t.turns if turn.error]
