"""Replay on real pixels: what was recorded is found again, what was altered is caught, evidence is weighed."""

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.models.chat import ChoiceQuestion, Scorer, Scores
from pipeline.models.local import LocalModel
from pipeline.stages.items import Care
from pipeline.stages.replay import ReplayStage
from prompts.judging import ONCE_BY_LETTER, YES_NO, AnswerBy, Asking
from prompts.protocols import protocol
from schemas.captions import CaptionTree
from schemas.config import AS_PUBLISHED, View
from schemas.errors import Rejected
from schemas.trajectory import Hint, Trajectory
from schemas.verdict import Verdict
from tests.corpus import linear_frames, read_barcode, reencode, remux
from tests.stages.scripted import ScriptedModel, in_turn, question
from tests.stages.test_teach import ANSWER, ZOOM, taught, tree_of
from tests.tiny_models import build_idefics3, build_qwen2_5_vl, declare_torchvision_operators

declare_torchvision_operators()

WALK = [
    "<think>(2,3)</think><tool>get_caption((2,3))</tool>",
    '<think>x</think><tool>video_qa((2,3,1), "What?")</tool>',
    ANSWER,
]
QA_REPLY = "<reasoning>r</reasoning><answer>green</answer>"


@pytest.fixture(scope="module")
def zoomed(tmp_path_factory: pytest.TempPathFactory) -> tuple[CaptionTree, Trajectory]:
    tree = tree_of(tmp_path_factory.mktemp("zoomed"), "videozoomer")
    return tree, taught(tree, ScriptedModel(in_turn(ZOOM, ZOOM.replace("[4, 6]", "[7, 9]"), ANSWER)))


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[CaptionTree, Trajectory]:
    tree = tree_of(tmp_path_factory.mktemp("walked"), "longvideo_r1")
    answerer = ScriptedModel(lambda m, s: QA_REPLY)
    return tree, taught(tree, ScriptedModel(in_turn(*WALK)), "longvideo_r1", answerer=answerer)


def judged(
    tree: CaptionTree,
    *trajectories: Trajectory,
    reply: str = QA_REPLY,
    scorer: Scorer | None = None,
    view: View = AS_PUBLISHED,
    asking: Asking = ONCE_BY_LETTER,
) -> list[Verdict]:
    stage = ReplayStage(protocol(trajectories[0].protocol), scorer, lambda key: reply, view, asking)
    return asyncio.run(stage.run(trajectories, {tree.video_id: tree}, Care()))


def altered(trajectory: Trajectory, turn: int, change: Callable[[dict[str, object]], dict[str, object]]) -> Trajectory:
    """The trajectory with the first observation of a turn changed."""
    turns = list(trajectory.turns)
    observation = turns[turn].observations[0]
    new = observation.model_copy(update=change(observation.model_dump()))
    turns[turn] = turns[turn].model_copy(update={"observations": (new,)})
    return trajectory.model_copy(update={"turns": tuple(turns)})


def test_a_sound_trajectory_passes_the_checks(zoomed: tuple[CaptionTree, Trajectory]) -> None:
    (verdict,) = judged(*zoomed)
    assert verdict.error is None and verdict.mismatch is None
    assert verdict.well_formed and verdict.in_bounds and verdict.observations_match and verdict.answer_correct
    # The second thought names 4 s to 6 s, which was seen by then, and calls 7 s to 9 s.
    assert verdict.consistent is True and verdict.zooms_mentioned == 0.5
    assert (verdict.n_turns, verdict.n_zooms, verdict.n_frames, verdict.redundant_zooms) == (3, 2, 8, 0)
    assert verdict.grounding_recall == pytest.approx(1) and verdict.grounding_precision == pytest.approx(0.5)
    assert verdict.p_gold_evidence is None and verdict.verifier is None


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("hash", "0" * 32, "the picture differs"),
        ("time_s", 1.5, "recorded index"),
        ("index", 3, "recorded index"),
        ("width", 100, "recorded index"),
    ],
)
def test_an_altered_frame_is_caught(
    zoomed: tuple[CaptionTree, Trajectory], field: str, value: object, said: str
) -> None:
    tree, trajectory = zoomed
    frames = list(trajectory.turns[0].observations[0].frames)
    frames[2] = frames[2].model_copy(update={field: value})
    (verdict,) = judged(tree, altered(trajectory, 0, lambda _: {"frames": tuple(frames)}))
    assert (
        verdict.observations_match is False
        and said in (verdict.mismatch or "")
        and "frame 3" in (verdict.mismatch or "")
    )


def test_a_frame_left_out_and_an_altered_overview_are_caught(zoomed: tuple[CaptionTree, Trajectory]) -> None:
    tree, trajectory = zoomed
    frames = trajectory.turns[0].observations[0].frames
    (fewer,) = judged(tree, altered(trajectory, 0, lambda _: {"frames": frames[1:]}))
    assert "3 frames recorded, 4 decoded" in (fewer.mismatch or "")
    assert trajectory.overview is not None
    overview = trajectory.overview.model_copy(update={"frames": trajectory.overview.frames[::-1]})
    (turned,) = judged(tree, trajectory.model_copy(update={"overview": overview}))
    assert (turned.mismatch or "").startswith("overview")


def test_an_altered_caption_answer_or_refusal_is_caught(
    walked: tuple[CaptionTree, Trajectory], zoomed: tuple[CaptionTree, Trajectory]
) -> None:
    tree, trajectory = walked
    (sound,) = judged(tree, trajectory)
    assert sound.observations_match and sound.consistent is True and sound.zooms_mentioned == 0.5
    (caption,) = judged(tree, altered(trajectory, 0, lambda _: {"text": "A sign that says green."}))
    assert "caption of segment (2, 3) differs" in (caption.mismatch or "")
    (answer,) = judged(tree, trajectory, reply="<reasoning>r</reasoning><answer>red</answer>")
    assert "differs from the stored reply" in (answer.mismatch or "")
    frames_tree, plain = zoomed
    (refused,) = judged(frames_tree, altered(plain, 0, lambda _: {"kind": "error", "text": "No.", "frames": ()}))
    assert "the refused action is valid" in (refused.mismatch or "")


def test_a_reencoded_video_is_caught_and_a_remuxed_one_is_not(
    zoomed: tuple[CaptionTree, Trajectory], tmp_path: Path
) -> None:
    tree, trajectory = zoomed
    assert trajectory.video is not None

    def seen_in(path: Path) -> Verdict:
        moved = trajectory.model_copy(update={"video": trajectory.video.model_copy(update={"uri": str(path)})})
        return judged(tree, moved)[0]

    own = Path(trajectory.video.uri)
    remux(own, tmp_path / "remuxed.mkv")
    reencode(own, tmp_path / "again.mp4")
    before, after = (next(linear_frames(path)).to_ndarray(format="rgb24") for path in (own, tmp_path / "again.mp4"))
    assert abs(before.astype(float) - after).mean() < 8  # to the eye it is the same film
    same, again = seen_in(tmp_path / "remuxed.mkv"), seen_in(tmp_path / "again.mp4")
    assert same.observations_match, same.mismatch
    assert again.observations_match is False and "the picture differs" in (again.mismatch or "")


def test_a_video_that_is_gone_gives_verdicts_with_the_reason(
    zoomed: tuple[CaptionTree, Trajectory], tmp_path: Path
) -> None:
    tree, trajectory = zoomed
    assert trajectory.video is not None
    gone = trajectory.model_copy(
        update={"video": trajectory.video.model_copy(update={"uri": str(tmp_path / "gone.mp4")})}
    )
    (verdict,) = judged(tree, gone)
    assert verdict.error is not None and verdict.error.kind == "video_missing" and verdict.observations_match is None


def test_wrong_answers_and_failed_attempts_are_judged_as_such(zoomed: tuple[CaptionTree, Trajectory]) -> None:
    tree, trajectory = zoomed
    wrong = trajectory.model_copy(update={"final_answer": "C", "trajectory_id": "q-1@1"})
    none = trajectory.model_copy(
        update={
            "video": None,
            "overview": None,
            "turns": (),
            "status": "failed",
            "final_answer": None,
            "trajectory_id": "q-1@2",
        }
    )
    first, second, third = judged(tree, trajectory, wrong, none)
    assert (first.answer_correct, second.answer_correct, third.answer_correct) == (True, False, None)
    assert third.status == "failed" and third.observations_match is None and third.error is None


def test_replay_looks_through_the_view_that_the_attempt_was_made_with(tmp_path: Path) -> None:
    view = View(overview_frames=3, overview_side=100, zoom_frames=3, zoom_side=120)
    tree = tree_of(tmp_path, "videozoomer", view)
    trajectory = taught(tree, ScriptedModel(in_turn(ZOOM, ANSWER)), view=view)
    (same,) = judged(tree, trajectory, view=view)
    assert same.observations_match and same.n_frames == 3, same.mismatch
    for other in (view.model_copy(update={"zoom_side": 110}), view.model_copy(update={"overview_frames": 4})):
        (differs,) = judged(tree, trajectory, view=other)
        assert differs.observations_match is False


@pytest.fixture(scope="module", params=["idefics3", "qwen2_5_vl"])
def scorer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    path = tmp_path_factory.mktemp(request.param)
    {"idefics3": build_idefics3, "qwen2_5_vl": build_qwen2_5_vl}[request.param](path)
    return LocalModel(str(path))


def test_a_real_model_gives_the_four_probabilities(zoomed: tuple[CaptionTree, Trajectory], scorer: LocalModel) -> None:
    (verdict,) = judged(*zoomed, scorer=scorer)
    four = (verdict.p_gold_blind, verdict.p_gold_overview, verdict.p_gold_evidence, verdict.p_gold_zooms_only)
    assert all(p is not None and 0 < p < 1 for p in four) and len(set(four)) == 4
    assert verdict.p_gold_steps is not None and verdict.gain_per_step is not None and verdict.evidence_gain is not None
    assert len(verdict.p_gold_steps) == 3 and len(verdict.gain_per_step) == 2
    assert (verdict.p_gold_steps[0], verdict.p_gold_steps[-1]) == (verdict.p_gold_overview, verdict.p_gold_evidence)
    assert sum(verdict.gain_per_step) == pytest.approx(verdict.evidence_gain, abs=1e-9)
    assert verdict.verifier == scorer.name and verdict.verifier_tokens > 0


@pytest.mark.parametrize("by", ["letter", "text"])
def test_the_reference_answers_probability_follows_the_reference(
    zoomed: tuple[CaptionTree, Trajectory], scorer: LocalModel, by: AnswerBy
) -> None:
    tree, trajectory = zoomed
    total = 0.0
    for letter in "ABCD":
        asked = trajectory.model_copy(update={"question": question(answer=letter)})
        (verdict,) = judged(tree, asked, scorer=scorer, asking=Asking(by))
        total += verdict.p_gold_evidence or 0.0
    assert total == pytest.approx(1, abs=1e-4)


def test_a_verifier_that_answers_by_text_weighs_the_texts_and_looks_through_the_view(
    zoomed: tuple[CaptionTree, Trajectory], scorer: LocalModel
) -> None:
    (by_letter,), (by_text,) = judged(*zoomed, scorer=scorer), judged(*zoomed, scorer=scorer, asking=Asking("text"))
    assert by_text.p_gold_blind != by_letter.p_gold_blind
    narrow = View(overview_frames=2, zoom_frames=2)
    (narrowed,) = judged(*zoomed, scorer=scorer, asking=Asking("text"), view=narrow)
    assert narrowed.p_gold_blind == pytest.approx(by_text.p_gold_blind, abs=1e-5)
    assert narrowed.verifier_tokens < by_text.verifier_tokens


class Reader:
    """Says yes to a statement where it is shown a frame from 4 s to 6 s and the statement is that of the green sign."""

    name = "reader"

    def score(self, probes: Sequence[ChoiceQuestion]) -> Scores:
        return Scores([self._probabilities(probe) for probe in probes], len(probes))

    def _probabilities(self, probe: ChoiceQuestion) -> tuple[float, ...]:
        if probe.choices != YES_NO:
            return (0.25,) * len(probe.choices)
        parts = probe.messages[0].parts
        seen = any(40 <= read_barcode(part) <= 60 for part in parts if isinstance(part, bytes))
        yes = 0.9 if seen and "The sign is green." in str(parts[-1]) else 0.1
        return (yes, 1 - yes)


def test_statements_are_judged_by_the_frames_they_were_made_of(zoomed: tuple[CaptionTree, Trajectory]) -> None:
    tree, trajectory = zoomed

    def saying(*thoughts: str) -> Verdict:
        turns = [t.model_copy(update={"think": th}) for t, th in zip(trajectory.turns, thoughts, strict=True)]
        return judged(tree, trajectory.model_copy(update={"turns": tuple(turns)}), scorer=Reader())[0]

    seen = saying("A sign is green.", "The sign is green. I look on.", "The sign is green, so it is B.")
    assert (seen.n_claims, seen.claims_supported, seen.claim_min) == (1, 1.0, 0.9)
    later = saying("I look.", "I look on.", "The sign is green. A dog barks loudly.")
    assert (later.n_claims, later.claims_supported, later.claim_min) == (2, 0.5, 0.1)
    silent = saying("I look.", "I look on.", "So it is B.")
    assert (silent.n_claims, silent.claims_supported, silent.claim_min) == (0, None, None)
    assert later.verifier == "reader" and later.verifier_tokens > silent.verifier_tokens > 0


def test_an_open_question_has_claims_and_no_probabilities(zoomed: tuple[CaptionTree, Trajectory]) -> None:
    tree, trajectory = zoomed
    asked = question().model_copy(update={"kind": "open", "choices": (), "answer_letter": ""})
    (verdict,) = judged(tree, trajectory.model_copy(update={"question": asked}), scorer=Reader())
    assert verdict.p_gold_evidence is None and verdict.n_claims == 1 and verdict.claims_supported == 0.0
    assert verdict.verifier == "reader"


def test_a_leak_is_a_column(zoomed: tuple[CaptionTree, Trajectory], walked: tuple[CaptionTree, Trajectory]) -> None:
    tree, trajectory = zoomed
    (sound,) = judged(tree, trajectory)
    assert (sound.hint_leak, sound.gold_leak) == (None, False)
    told = trajectory.turns[0].model_copy(update={"think": "The reference answer is B. I look at 4 s to 6 s."})
    (leaked,) = judged(tree, trajectory.model_copy(update={"turns": (told, *trajectory.turns[1:])}))
    assert leaked.gold_leak is True
    tree, walk = walked
    hint = Hint(level=0, text="Look at (2).", after_turn=0, wrong_answer="A", wrong_raw="")
    (followed,) = judged(tree, walk.model_copy(update={"hints": (hint,)}))
    assert followed.hint_leak is False
    last = walk.turns[-1].model_copy(update={"think": "As the hint says, it is green."})
    (copied,) = judged(tree, walk.model_copy(update={"hints": (hint,), "turns": (*walk.turns[:-1], last)}))
    assert copied.hint_leak is True


class Shown(Reader):
    """Keeps what each question was shown: its pictures, in order."""

    probes: list[tuple[bytes, ...]]

    def score(self, probes: Sequence[ChoiceQuestion]) -> Scores:
        for probe in (probe for probe in probes if probe.choices != YES_NO):
            self.probes.append(tuple(p for message in probe.messages for p in message.parts if isinstance(p, bytes)))
        return super().score(probes)


def test_attempts_at_a_video_share_the_disordered_overview(zoomed: tuple[CaptionTree, Trajectory]) -> None:
    tree, trajectory = zoomed
    other = trajectory.model_copy(update={"trajectory_id": "other", "attempt": 1})
    reader = Shown()
    reader.probes = []
    first, second = judged(tree, trajectory, other, scorer=reader, asking=Asking(screens=True))
    assert first.p_gold_disordered is not None and second.p_gold_disordered is not None
    half = len(reader.probes) // 2
    assert reader.probes[:half] == reader.probes[half:]


class Squeamish(Reader):
    """Refuses any call with a question about dogs."""

    calls: list[int]

    def score(self, probes: Sequence[ChoiceQuestion]) -> Scores:
        self.calls.append(len(probes))
        if any("dog" in str(message.parts[-1]) for probe in probes for message in probe.messages):
            raise Rejected("prompt_too_long", "no dogs")
        return super().score(probes)


def test_attempts_at_a_video_are_asked_about_together_and_one_that_cannot_be_leaves_the_others_theirs(
    zoomed: tuple[CaptionTree, Trajectory],
) -> None:
    tree, trajectory = zoomed
    other = trajectory.model_copy(update={"trajectory_id": "other", "attempt": 1})
    dogs = trajectory.question.model_copy(update={"text": "What does the dog do?"})
    bad = trajectory.model_copy(update={"trajectory_id": "bad", "attempt": 2, "question": dogs})
    calm = Squeamish()
    calm.calls = []
    first, second = judged(tree, trajectory, other, scorer=calm)
    assert first.p_gold_evidence == second.p_gold_evidence == 0.25
    assert first.verifier_tokens == second.verifier_tokens == sum(calm.calls) / 2
    together = calm.calls[0]
    calm.calls = []
    one, refused, two = judged(tree, trajectory, bad, other, scorer=calm)
    assert calm.calls[0] > together and one.p_gold_steps == two.p_gold_steps == first.p_gold_steps
    assert refused.error is not None and refused.error.kind == "prompt_too_long" and refused.p_gold_steps is None


class Dazed(Squeamish):
    """Loses count of dogs."""

    def score(self, probes: Sequence[ChoiceQuestion]) -> Scores:
        try:
            return super().score(probes)
        except Rejected:
            return Scores([(math.nan,) * len(probe.choices) for probe in probes], tokens_read=1)


def test_a_probability_that_is_no_number_is_a_failure_of_its_attempt_alone(
    zoomed: tuple[CaptionTree, Trajectory],
) -> None:
    tree, trajectory = zoomed
    dogs = trajectory.question.model_copy(update={"text": "What does the dog do?"})
    bad = trajectory.model_copy(update={"trajectory_id": "bad", "attempt": 2, "question": dogs})
    dazed = Dazed()
    dazed.calls = []
    sound, failed = judged(tree, trajectory, bad, scorer=dazed)
    assert sound.p_gold_evidence == 0.25 and sound.error is None
    assert failed.error is not None and failed.error.kind == "not_finite" and failed.p_gold_steps is None


def test_permutations_average_over_the_orders_of_the_choices(zoomed: tuple[CaptionTree, Trajectory]) -> None:
    class PlaceLover(Reader):
        """Always likes the first choice best, whatever it says."""

        def score(self, probes: Sequence[ChoiceQuestion]) -> Scores:
            rest = [0.4 / (len(p.choices) - 1) for p in probes]
            return Scores([(0.6, *[r] * (len(p.choices) - 1)) for p, r in zip(probes, rest, strict=True)], 0)

    tree, trajectory = zoomed
    n = len(trajectory.question.choices)
    (once,) = judged(tree, trajectory, scorer=PlaceLover())
    (all_orders,) = judged(tree, trajectory, scorer=PlaceLover(), asking=Asking(permutations=9))
    assert once.p_gold_evidence == pytest.approx(0.4 / (n - 1))
    assert all_orders.p_gold_evidence == all_orders.p_gold_blind == pytest.approx(1 / n)


def test_screens_ask_by_four_frames_and_by_frames_in_disorder(
    zoomed: tuple[CaptionTree, Trajectory], scorer: LocalModel
) -> None:
    (plain,), (screened,) = judged(*zoomed, scorer=scorer), judged(*zoomed, scorer=scorer, asking=Asking(screens=True))
    assert (plain.p_gold_four_frames, plain.p_gold_disordered) == (None, None)
    assert screened.p_gold_evidence == pytest.approx(plain.p_gold_evidence, abs=1e-5)
    found = {screened.p_gold_four_frames, screened.p_gold_disordered, screened.p_gold_overview, plain.p_gold_evidence}
    assert len(found) == 4 and None not in found
    (again,) = judged(*zoomed, scorer=scorer, asking=Asking(screens=True))
    assert again.p_gold_disordered == pytest.approx(screened.p_gold_disordered, abs=1e-6)
