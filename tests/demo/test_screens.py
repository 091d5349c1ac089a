"""What a question asks for, told by the embedded model on a film whose truth is known: every screen for RL, proven."""

import asyncio
from pathlib import Path

import pytest

from pipeline.demo.film import film_name, write_film
from pipeline.demo.questions import questions
from pipeline.demo.world import film
from pipeline.models.build import drawer, scorer
from pipeline.models.calls import CallStore
from pipeline.models.chat import Scorer
from pipeline.sources import jsonl_question
from pipeline.stages.caption import CaptionStage, VideoJob
from pipeline.stages.draws import Draws
from pipeline.stages.items import Care
from pipeline.stages.replay import ReplayStage
from pipeline.stages.teach import TeachStage
from pipeline.stages.teaching import Teaching
from prompts.judging import Asking
from prompts.protocols import protocol
from schemas.captions import CaptionTree
from schemas.config import Captions, DemoVerifier, Rollout, View
from schemas.question import Question
from schemas.verdict import Verdict
from tests.stages.scripted import ScriptedModel, in_turn, planned

SEED = 11
ZOOM = protocol("videozoomer")
VIEW = View(overview_frames=16, overview_side=80, zoom_frames=5, zoom_side=448)
"""The floor can be seen in the overview, and signs can be read in a zoom alone."""


@pytest.fixture(scope="module")
def asked() -> dict[str, Question]:
    """A question of each kind about the film."""
    return {row["kind"]: jsonl_question(dict(row)) for row in questions(film(SEED))}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("film") / film_name(SEED)
    write_film(film(SEED), path)
    return str(path)


def judged(uri: str, question: Question, verifier: Scorer, draws: Draws | None) -> Verdict:
    """The verdict on an attempt that zooms into the clue, where there is one, and answers."""
    zooms = [
        f'<think>I look.</think><video_zoom> {{"segment": [{start}, {end}], "fps": 1}} </video_zoom>'
        for start, end in question.clue_intervals
    ]
    answer = f"<think>So it is.</think><answer>{question.answer_letter or question.answer_text}</answer>"

    async def scene() -> Verdict:
        captions = CaptionStage(ZOOM, None, Captions(), None, "", VIEW)
        (tree,) = await captions.run([VideoJob(question.video_id, uri)], Care())
        trees: dict[str, CaptionTree] = {tree.video_id: tree}
        teaching = Teaching(ZOOM, ScriptedModel(in_turn(*zooms, answer)), None, Rollout(), VIEW)
        attempts = await TeachStage(teaching, 1).run([planned(question)], trees, Care())
        stage = ReplayStage(ZOOM, verifier, lambda key: None, VIEW, Asking("text", screens=draws is None), draws=draws)
        (verdict,) = await stage.run(attempts, trees, Care())
        return verdict

    return asyncio.run(scene())


def measures(verdict: Verdict) -> dict[str, float]:
    names = ("p_gold_blind", "p_gold_four_frames", "p_gold_overview", "p_gold_evidence", "p_gold_disordered")
    found = {name: getattr(verdict, name) for name in names}
    assert verdict.error is None and None not in found.values(), verdict.error
    return found


def test_each_screen_tells_the_kinds_of_question_apart(uri: str, asked: dict[str, Question], tmp_path: Path) -> None:
    verifier = scorer(DemoVerifier(backend="demo"), CallStore(str(tmp_path)))
    assert verifier is not None
    fact, floor, sign = (measures(judged(uri, asked[kind], verifier, None)) for kind in ("blind", "overview", "sign"))
    assert fact["p_gold_blind"] >= 0.7 and floor["p_gold_blind"] < 0.7 and sign["p_gold_blind"] < 0.7
    assert floor["p_gold_four_frames"] >= 0.7 and sign["p_gold_four_frames"] < 0.7
    assert floor["p_gold_overview"] >= 0.7 and sign["p_gold_overview"] < 0.7 <= sign["p_gold_evidence"]
    # Of a sign the order of the frames does not matter.
    assert sign["p_gold_disordered"] == pytest.approx(sign["p_gold_evidence"], abs=0.2)


def test_an_open_question_is_hard_where_its_answer_cannot_be_read_before_a_zoom(
    uri: str, asked: dict[str, Question], tmp_path: Path
) -> None:
    config, calls = DemoVerifier(backend="demo", rollouts=6), CallStore(str(tmp_path))
    verifier, drawing = scorer(config, calls), drawer(config, calls)
    assert verifier is not None and drawing is not None
    draws = Draws(drawing, config.rollouts)
    floor = asked["overview"].model_copy(update={"kind": "open", "choices": (), "answer_letter": ""})
    easy, hard = (judged(uri, question, verifier, draws) for question in (floor, asked["open"]))
    assert easy.n_rollouts == hard.n_rollouts == 6 and easy.p_gold_overview is None
    assert easy.answer_correct and hard.answer_correct and easy.answer_judged_by == "text"
    assert easy.pass_rate is not None and hard.pass_rate is not None
    assert easy.pass_rate >= 0.5 > hard.pass_rate, (easy.pass_rate, hard.pass_rate)
