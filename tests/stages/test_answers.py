"""Open answers: rules first, a judge where they do not decide; what the judge does not say is never taken for wrong."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.models.batches import BatchModel
from pipeline.models.build import drawer, judge_model
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage, ChatModel, ChoiceQuestion, Reply, Scores
from pipeline.stages import answers
from pipeline.stages.answers import Judged
from pipeline.stages.draws import Draws
from pipeline.stages.items import Care
from pipeline.stages.judge import TRIES
from pipeline.stages.replay import ReplayStage
from prompts.judging import YES_NO
from prompts.protocols import protocol
from schemas.captions import CaptionTree
from schemas.config import EndpointJudge, Local, Verifier
from schemas.errors import Fatal
from schemas.question import Question
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict
from tests.batch_driver import FAST
from tests.batch_server import BatchServer, serving
from tests.models.test_endpoint_scorer import reply, server
from tests.provider_servers import mistral, served, strict
from tests.stages.scripted import ScriptedModel, in_turn, question, text_of
from tests.stages.test_replay import Reader
from tests.stages.test_teach import ANSWER, ZOOM, taught, tree_of
from tests.tiny_models import build_idefics3

ZOOM_CHAT = protocol("videozoomer")


def open_question(answer: str = "a green sign", text: str = "What hangs there?") -> Question:
    return question().model_copy(
        update={"kind": "open", "choices": (), "answer_letter": "", "answer_text": answer, "text": text}
    )


def judged(judge: ChatModel | None, *given: str, about: Question | None = None) -> list[Judged]:
    return asyncio.run(answers.judged([(answer, about or open_question()) for answer in given], judge, "replay"))


def says(yes: str) -> ScriptedModel:
    """Says yes to answers with this word in them."""
    return ScriptedModel(lambda messages, sample: "yes" if yes in text_of(messages).rpartition("judged:")[2] else "no")


def test_a_judge_is_asked_only_where_no_rule_decides_and_once_about_equal_answers() -> None:
    judge = says("plate")
    found = judged(judge, "Green sign.", "a plate in green", "a red lamp", "a plate in green", "")
    assert [(one.correct, one.by) for one in found] == [
        (True, "text"),
        (True, "judge"),
        (False, "judge"),
        (True, "judge"),
        (False, "text"),
    ]
    assert len(judge.asked) == 2 and found[1].said == "yes" and found[1].call and found[1] == found[3]
    assert found[0].said is None and found[0].call == ""
    number = judged(judge, "three signs", "four", about=open_question("3", "How many signs hang there?"))
    assert [(one.correct, one.by) for one in number] == [(True, "number"), (False, "number")]
    letter = judged(judge, "B", "the last one", about=question())
    assert [(one.correct, one.by) for one in letter] == [(True, "letter"), (False, "letter")]
    assert len(judge.asked) == 2


def test_without_a_judge_what_no_rule_finds_right_is_wrong() -> None:
    assert judged(None, "a plate in green") == [Judged(False, "text", decided=False)]


def test_an_unclear_reply_is_asked_for_again_and_then_leaves_the_answer_unjudged() -> None:
    judge = ScriptedModel(lambda messages, sample: ("Well.", "yes")[sample])
    assert judged(judge, "a plate")[0].correct is True and len(judge.asked) == 2
    vague = ScriptedModel(lambda messages, sample: "Hard to say.")
    (one,) = judged(vague, "a plate")
    assert (one.correct, one.by, one.said) == (None, "judge", "unclear: Hard to say.") and one.call
    cut_off = ScriptedModel(lambda messages, sample: "Yes, as", finish_reason="length")
    assert judged(cut_off, "a plate")[0].correct is None


def test_a_withheld_judgement_is_a_null_with_its_reason_and_leaves_the_others_theirs() -> None:
    judge = ScriptedModel(lambda messages, sample: "!content_filter" if "knife" in text_of(messages) else "yes")
    withheld, fine = judged(judge, "a knife", "a plate")
    assert (withheld.correct, withheld.by) == (None, "judge")
    assert withheld.said == "content_filter: as the test wrote" and withheld.call == ""
    assert fine.correct is True


def test_a_judge_that_cannot_go_on_stops_the_run() -> None:
    class Broke(ScriptedModel):
        async def complete(
            self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()
        ) -> Reply:
            raise Fatal("no credit")

    with pytest.raises(Fatal, match="no credit"):
        judged(Broke(lambda messages, sample: ""), "a plate", "a lamp")


def judge_at(url: str, calls: Path, **settings: Any) -> ChatModel:
    model = judge_model(EndpointJudge(model="m", base_url=url, **settings), CallStore(str(calls)), ZOOM_CHAT)
    assert model is not None
    return model


def test_a_servers_judgements_are_kept_held_to_yes_and_no_and_not_asked_for_twice(tmp_path: Path) -> None:
    with server(lambda body, n: reply('{"answer": "yes"}')) as (url, seen):
        first = judged(judge_at(url, tmp_path), "a plate", "a panel")
        again = judged(judge_at(url, tmp_path), "a panel", "a plate")
    assert [one.correct for one in first] == [True, True] and len(seen) == 2
    assert {one.call for one in first} == {one.call for one in again}
    document = CallStore(str(tmp_path)).document(first[0].call)
    assert document is not None and document["role"] == "judge"
    assert seen[0]["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"] == ["yes", "no"]
    with server(lambda body, n: reply("yes")) as (url, seen):
        assert judged(judge_at(url, tmp_path / "plain", structured=False), "a plate")[0].correct is True
    assert "response_format" not in seen[0]


@pytest.mark.parametrize("provider", [strict, mistral])
def test_a_server_without_structured_answers_is_asked_in_plain_text(tmp_path: Path, provider: Any) -> None:
    async def scene() -> list[Judged]:
        async with served(provider) as (url, _):
            return await answers.judged([("a plate", open_question())], judge_at(url, tmp_path), "replay")

    (one,) = asyncio.run(scene())
    assert one.by == "judge" and one.call, one.said


def test_errors_that_may_pass_are_tried_again_and_others_are_a_reason(tmp_path: Path) -> None:
    def busy(body: dict[str, Any], n: int) -> web.Response:
        return web.json_response({"error": {"message": "busy"}}, status=503) if n < 3 else reply("no")

    with server(busy) as (url, seen):
        assert judged(judge_at(url, tmp_path, retries=4), "a plate")[0].correct is False
    assert len(seen) == 3

    def refusing(body: dict[str, Any], n: int) -> web.Response:
        return web.json_response({"error": {"message": "too odd"}}, status=400)

    with server(refusing) as (url, _):
        (one,) = judged(judge_at(url, tmp_path / "other"), "a plate")
    assert one.correct is None and (one.said or "").startswith("bad_request: ")


def test_all_answers_of_a_shard_go_in_one_batch(tmp_path: Path) -> None:
    """This server repeats what it is asked, which is no yes or no, so that each answer is asked for again."""

    async def scene() -> None:
        async with serving(BatchServer()) as provider:
            config = EndpointJudge(model="m", base_url=provider.base_url, batch=True)
            assert isinstance(judge_at(provider.base_url, tmp_path, batch=True), BatchModel)
            judge = BatchModel(config, "judge", CallStore(str(tmp_path)), pace=FAST, held_to=YES_NO)
            found = await answers.judged([(f"a plate {n}", open_question()) for n in range(5)], judge, "replay")
            await judge.close()
            assert len(provider.batches) == TRIES and provider.live == []
            lines = [json.loads(line) for line in provider.files["file_0"].splitlines()]
            assert len(lines) == 5 and all("response_format" in line["body"] for line in lines)
            assert {(one.correct, one.by) for one in found} == {(None, "judge")} and len(
                {one.call for one in found}
            ) == 5

    asyncio.run(scene())


@pytest.fixture(scope="module")
def zoomed(tmp_path_factory: pytest.TempPathFactory) -> tuple[CaptionTree, Trajectory]:
    tree = tree_of(tmp_path_factory.mktemp("open"), "videozoomer")
    said = ANSWER.replace("<answer>B", "<answer>a plate in green")
    return tree, taught(tree, ScriptedModel(in_turn(ZOOM, said)), asked=open_question())


def verdicts(stage: ReplayStage, tree: CaptionTree, *trajectories: Trajectory) -> list[Verdict]:
    return asyncio.run(stage.run(trajectories, {tree.video_id: tree}, Care()))


def test_the_verdict_says_who_judged_and_keeps_the_judges_words(zoomed: tuple[CaptionTree, Trajectory]) -> None:
    tree, trajectory = zoomed
    wrong = trajectory.model_copy(update={"final_answer": "a lamp", "trajectory_id": "q-1@1", "attempt": 1})
    silent = trajectory.model_copy(
        update={"final_answer": None, "status": "gave_up", "trajectory_id": "q-1@2", "attempt": 2}
    )
    stage = ReplayStage(ZOOM_CHAT, None, lambda key: None, judge=says("plate"))
    first, second, third = verdicts(stage, tree, trajectory, wrong, silent)
    assert (first.answer_correct, first.answer_judged_by, first.judge_said) == (True, "judge", "yes")
    assert (second.answer_correct, second.answer_judged_by, second.judge_said) == (False, "judge", "no")
    assert (third.answer_correct, third.answer_judged_by, third.judge_call) == (None, None, None)
    assert first.judge_call and first.judge_call != second.judge_call
    (alone,) = verdicts(ReplayStage(ZOOM_CHAT, None, lambda key: None), tree, trajectory)
    assert (alone.answer_correct, alone.answer_judged_by) == (False, "text")
    assert alone.pass_rate is None and alone.n_rollouts is None


def test_the_pass_rate_of_an_open_question_is_the_share_of_drawn_answers_that_are_right(
    zoomed: tuple[CaptionTree, Trajectory],
) -> None:
    tree, trajectory = zoomed
    other = trajectory.model_copy(update={"trajectory_id": "q-1@1", "attempt": 1})
    texts = ("green sign", "a plate", "a lamp", "!content_filter", "a lamp", "a knife")
    drawer = ScriptedModel(lambda messages, sample: texts[sample])
    judge = ScriptedModel(
        lambda messages, sample: "!refusal" if "knife" in text_of(messages) else says("plate")._say(messages, sample)
    )
    stage = ReplayStage(ZOOM_CHAT, Reader(), lambda key: None, judge=judge, draws=Draws(drawer, 6))
    first, second = verdicts(stage, tree, trajectory, other)
    # Right: the sign and the plate; wrong: both lamps; one was refused, and of one the judge did not say.
    assert (first.pass_rate, first.n_rollouts) == (second.pass_rate, second.n_rollouts) == (0.5, 4)
    assert len(drawer.asked) == 6  # once for both attempts
    pictures = sum(isinstance(part, bytes) for part in drawer.asked[0][0].parts)
    assert pictures > 4 and text_of(drawer.asked[0]).endswith("Question: What hangs there?\nAnswer in a few words.")
    none = ReplayStage(ZOOM_CHAT, Reader(), lambda key: None, draws=Draws(ScriptedModel(lambda m, s: "!refusal"), 2))
    (refused,) = verdicts(none, tree, trajectory)
    assert (refused.pass_rate, refused.n_rollouts) == (None, 0)


def test_the_time_in_which_answers_are_drawn_counts_as_busy(zoomed: tuple[CaptionTree, Trajectory]) -> None:
    tree, trajectory = zoomed

    def slow(messages: Sequence[ChatMessage], sample: int) -> str:
        time.sleep(0.1)
        return "a lamp"

    stage = ReplayStage(ZOOM_CHAT, Reader(), lambda key: None, draws=Draws(ScriptedModel(slow), 3))
    verdicts(stage, tree, trajectory)
    assert stage.seconds()["verifier_busy_s"] >= 0.3


def test_the_pass_rate_of_a_question_of_choice_is_its_probability(zoomed: tuple[CaptionTree, Trajectory]) -> None:
    tree, trajectory = zoomed
    drawer = ScriptedModel(lambda messages, sample: "B")
    chosen = trajectory.model_copy(update={"question": question(), "final_answer": "B"})
    stage = ReplayStage(ZOOM_CHAT, Reader(), lambda key: None, draws=Draws(drawer, 3))
    (verdict,) = verdicts(stage, tree, chosen)
    assert verdict.error is None, verdict.error
    assert (verdict.pass_rate, verdict.n_rollouts) == (verdict.p_gold_overview, 0) == (0.25, 0)
    assert drawer.asked == [] and verdict.answer_judged_by == "letter"


def test_the_pass_rate_of_sampled_answers_is_their_plain_share(zoomed: tuple[CaptionTree, Trajectory]) -> None:
    class Sampled(Reader):
        """Answers each probe by four samples: A, B, B and nothing."""

        def score(self, probes: Sequence[ChoiceQuestion]) -> Scores:
            return replace(super().score(probes), named=[(0, 1, 1, None) for _ in probes])

    tree, trajectory = zoomed
    chosen = trajectory.model_copy(update={"question": question(answer="B"), "final_answer": "B"})
    (verdict,) = verdicts(ReplayStage(ZOOM_CHAT, Sampled(), lambda key: None), tree, chosen)
    assert (verdict.pass_rate, verdict.n_rollouts) == (0.5, 4)
    assert verdict.p_gold_overview == 0.25


def test_an_open_pass_rate_is_unknown_where_no_rule_decides_and_no_judge_is_there(
    zoomed: tuple[CaptionTree, Trajectory],
) -> None:
    tree, trajectory = zoomed
    for texts, expected in ((("a plate", "a lamp"), (None, 0)), (("green sign", "a lamp"), (0.5, 2))):
        drawer = ScriptedModel(lambda messages, sample, texts=texts: texts[sample])
        stage = ReplayStage(ZOOM_CHAT, None, lambda key: None, draws=Draws(drawer, 2))
        (verdict,) = verdicts(stage, tree, trajectory)
        assert (verdict.pass_rate, verdict.n_rollouts) == expected


def test_a_local_model_judges_and_draws(tmp_path: Path, zoomed: tuple[CaptionTree, Trajectory]) -> None:
    """With random weights it says neither yes nor no, and each of its draws is another."""

    path = tmp_path / "tiny"
    build_idefics3(path)
    judge = judge_model(Local(path=str(path), max_tokens=4), CallStore(str(tmp_path)), ZOOM_CHAT)
    (one,) = judged(judge, "a plate")
    assert one.correct is None and (one.said or "").startswith("unclear: ") and one.call
    config, calls = Verifier(path=str(path), max_tokens=6, rollouts=4), CallStore(str(tmp_path))
    drawing = drawer(config, calls)
    assert drawing is not None and drawer(config.model_copy(update={"rollouts": 0}), calls) is None
    tree, trajectory = zoomed
    stage = ReplayStage(ZOOM_CHAT, None, lambda key: None, draws=Draws(drawing, 4))
    (verdict,) = verdicts(stage, tree, trajectory)
    assert (verdict.pass_rate, verdict.n_rollouts) == (None, 0) and drawing.counts.sent == 4
    drawn = [calls.document(call.name.removesuffix(".json")) for call in (tmp_path / "calls").glob("*/*.json")]
    texts = {d["response"]["choices"][0]["message"]["content"] for d in drawn if d and d["role"] == "verifier"}
    assert len(texts) > 1
    again = drawer(config, calls)
    assert again is not None
    verdicts(ReplayStage(ZOOM_CHAT, None, lambda key: None, draws=Draws(again, 4)), tree, trajectory)
    assert (again.counts.sent, again.counts.reused) == (0, 4)
