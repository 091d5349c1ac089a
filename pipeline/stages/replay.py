"""The replay stage: every recorded action is done again on the real video, and a verifier weighs the evidence."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from pipeline.models.chat import ChatModel, Embedder, Pictures, Scorer
from pipeline.stages import checks, claims, leaks
from pipeline.stages.answers import Judged, judged
from pipeline.stages.draws import Draws
from pipeline.stages.items import Care, Work, walk
from pipeline.stages.judged_leaks import judged_leaks
from pipeline.stages.mentions import consistent, zooms_mentioned
from pipeline.stages.search import Search
from pipeline.stages.verify import Columns, Replayed, Verifier
from pipeline.stages.videos import OpenVideos
from prompts.judging import ONCE_BY_LETTER, Asking
from prompts.protocol import Setting, ZoomProtocol
from schemas.captions import CaptionTree, Picture
from schemas.config import AS_PUBLISHED, View
from schemas.errors import Failure, Rejected
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict
from schemas.video import Frame, FramePlan, Video


@dataclass(frozen=True)
class Decoded:
    """A video decoded again for its trajectories: pictures, and frames by (trajectory id, call id).

    moments: index of the frame on screen at a time asked for, by the same.
    """

    video: Video
    pictures: Pictures
    overview: tuple[Frame, ...]
    verifier_overview: tuple[Frame, ...]
    frames: Mapping[tuple[str, str], tuple[Frame, ...]]
    moments: Mapping[tuple[str, str], int]

    def own(self, trajectory_id: str) -> dict[str, tuple[Frame, ...]]:
        """The frames of one trajectory, by call id."""
        return {call: frames for (owner, call), frames in self.frames.items() if owner == trajectory_id}


class ReplayStage:
    """Gives each trajectory its verdict.

    scorer: None leaves the probabilities empty; asking: how it is asked. view: as the trajectories were made.
    limit: videos at once. embedder: chooses the frames of a searched zoom again; without one, those recorded must be
    among the candidates. judge: of open answers, and of leaks with judge_leaks; None leaves them to rules. draws: of
    the verifier, for `pass_rate`.
    """

    name = "replay"

    def __init__(
        self,
        protocol: ZoomProtocol,
        scorer: Scorer | None,
        reply_text: Callable[[str], str | None],
        view: View = AS_PUBLISHED,
        asking: Asking = ONCE_BY_LETTER,
        limit: int = 2,
        embedder: Embedder | None = None,
        judge: ChatModel | None = None,
        judge_leaks: bool = False,
        draws: Draws | None = None,
    ) -> None:
        self._protocol = protocol
        self._verifier = Verifier(scorer, asking) if scorer else None
        self._reading: dict[str, bool] = getattr(scorer, "reading", {})
        self._reply_text = reply_text
        self._view = view
        self._search = Search(protocol, view, embedder)
        self._limit = limit
        self._yes_no = judge
        self._judges_leaks = judge_leaks
        self._draws = draws

    async def run(
        self, trajectories: Sequence[Trajectory], trees: Mapping[str, CaptionTree], care: Care
    ) -> list[Verdict]:
        """One verdict per trajectory, in their order. Frames of all attempts at a video come out of one pass. Answers
        are judged when all videos are through, so that a judge may be asked by one batch."""
        groups: dict[str, list[Trajectory]] = defaultdict(list)
        drawn: dict[str, list[str]] = {}
        for trajectory in trajectories:
            groups[trajectory.video_id].append(trajectory)

        async def video(video_id: str) -> list[Verdict]:
            return await self._video(groups[video_id], trees[video_id], drawn)

        def failed(video_id: str, failure: Failure) -> list[Verdict]:
            return [_unjudged(t, failure if t.video else None) for t in groups[video_id]]

        work = Work(stage=self.name, name=str, do=video, failed=failed, limit=self._limit)
        verdicts = await walk([v for v in groups if v in trees], work, care)
        by_id = {verdict.trajectory_id: verdict for group in verdicts for verdict in group}
        found = [by_id.get(t.trajectory_id) or _unjudged(t, None) for t in trajectories]
        return await self._with_answers(trajectories, found, drawn)

    def seconds(self) -> dict[str, float]:
        """How the verifier's time went since this was last asked, for the shard's footer: see `Busy`. And, as 0 or 1,
        what it was found to be able to do: see `LocalModel.reading`."""
        if self._verifier is None:
            return {}
        busy_s, waiting_s = self._verifier.busy.taken()
        return {"verifier_busy_s": round(busy_s, 3), "verifier_waiting_s": round(waiting_s, 3)} | {
            f"verifier_{name}": float(can) for name, can in self._reading.items()
        }

    async def _with_answers(
        self, trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict], drawn: Mapping[str, Sequence[str]]
    ) -> list[Verdict]:
        """The verdicts with what is found of the final answers. drawn: answers of the verifier, by question id."""
        questions = {t.question_id: t.question for t in trajectories}
        finals = {t.trajectory_id: (t.final_answer, t.question) for t in trajectories if t.final_answer is not None}
        draws = [(answer, questions[name]) for name, answers in drawn.items() for answer in answers]
        judging = judged([*finals.values(), *draws], self._yes_no, self.name)
        found, leaky = await asyncio.gather(judging, self._leaks(trajectories))
        of_final = dict(zip(finals, map(_answer_columns, found), strict=False))
        of_draws: dict[str, list[Judged]] = {name: [] for name in drawn}
        for (_, question), one in zip(draws, found[len(finals) :], strict=True):
            of_draws[question.question_id].append(one)
        rates = {name: _pass_rate(drawn_answers) for name, drawn_answers in of_draws.items()}
        return [
            v.model_copy(update=of_final.get(v.trajectory_id, {}) | rates.get(v.question_id, {}) | leaks)
            for v, leaks in zip(verdicts, leaky, strict=True)
        ]

    async def _leaks(self, trajectories: Sequence[Trajectory]) -> list[Columns]:
        """What the judge finds of leaks; nothing where it is not asked."""
        if self._yes_no is None or not self._judges_leaks:
            return [{} for _ in trajectories]
        return await judged_leaks(trajectories, self._yes_no, self.name)

    async def _video(
        self, trajectories: Sequence[Trajectory], tree: CaptionTree, drawn: dict[str, list[str]]
    ) -> list[Verdict]:
        """drawn: gets the verifier's answers to the open questions, by their ids."""
        started = [t for t in trajectories if t.video is not None]
        if not started:
            return [_unjudged(t, None) for t in trajectories]
        with self._verifier.busy.decoding() if self._verifier else nullcontext():
            decoded = await self._decode(started, tree)
        found = await self._verified(started, decoded)
        if self._draws:
            asked = [t.question for t in started]
            with self._verifier.busy.asking() if self._verifier else nullcontext():
                drawn |= await self._draws.answers(asked, decoded.verifier_overview, decoded.pictures)
        return [
            self._judge(t, tree, decoded, found[t.trajectory_id]) if t.video else _unjudged(t, None)
            for t in trajectories
        ]

    async def _decode(self, trajectories: Sequence[Trajectory], tree: CaptionTree) -> Decoded:
        first = trajectories[0]
        assert first.video is not None
        setting = Setting.of(first.video, tree.width)
        shown = self._protocol.overview_plan(first.video)
        looks = [self._protocol.verifier_overview_plan(first.video), *([shown] if shown else [])]
        looks = [self._view.overview(look) for look in looks]
        plans: dict[tuple[str, str], FramePlan] = {}
        async with OpenVideos() as videos:
            for trajectory in trajectories:
                for call, plan in await self._plans(trajectory, setting, videos):
                    plans[trajectory.trajectory_id, call] = plan
            video, lists = await videos.sample(first.video.uri, first.video_id, [*looks, *plans.values()])
            moments = {
                (trajectory.trajectory_id, action.call_id): await videos.index_at(first.video, action.start_s or 0.0)
                for trajectory in trajectories
                for action in checks.calls(trajectory)
                if action.kind == "time"
            }
        frames = [tuple(picture.frame for picture in pictures) for pictures in lists]
        everything: list[Picture] = [picture for pictures in lists for picture in pictures]
        return Decoded(
            video=video,
            pictures=Pictures(everything),
            overview=frames[1] if shown else (),
            verifier_overview=frames[0],
            frames=dict(zip(plans, frames[len(looks) :], strict=True)),
            moments=moments,
        )

    async def _plans(self, trajectory: Trajectory, setting: Setting, videos: OpenVideos) -> list[tuple[str, FramePlan]]:
        """For each zoom that was carried out, and may be, its call id and the frames that it must have shown."""
        of = checks.settings(trajectory, setting)
        observed = {o.call_id: o for turn in trajectory.turns for o in turn.observations}
        valid = [a for a in checks.zooms(trajectory) if self._protocol.check(a, of[a.call_id]) is None]
        return [(a.call_id, await self._search.again(a, observed.get(a.call_id), setting, videos)) for a in valid]

    async def _verified(self, trajectories: Sequence[Trajectory], decoded: Decoded) -> dict[str, Columns | Rejected]:
        """What the verifier finds, by trajectory id; nothing without one."""
        if self._verifier is None:
            return {t.trajectory_id: {} for t in trajectories}
        attempts = [Replayed(t, decoded.own(t.trajectory_id)) for t in trajectories]
        found = await self._verifier.columns(attempts, decoded.verifier_overview, decoded.pictures)
        return {t.trajectory_id: columns for t, columns in zip(trajectories, found, strict=True)}

    def _judge(self, trajectory: Trajectory, tree: CaptionTree, decoded: Decoded, found: Columns | Rejected) -> Verdict:
        setting = Setting.of(decoded.video, tree.width)
        name = trajectory.trajectory_id
        difference = checks.mismatch(
            trajectory,
            checks.Recheck(
                protocol=self._protocol,
                settings=checks.settings(trajectory, setting),
                frames={**decoded.own(name), "overview": decoded.overview},
                moments={call: index for (owner, call), index in decoded.moments.items() if owner == name},
                tree=tree,
                reply_text=self._reply_text,
            ),
        )
        findings: dict[str, Any] = {
            "well_formed": checks.well_formed(trajectory),
            "in_bounds": checks.in_bounds(trajectory, self._protocol, setting),
            "consistent": consistent(trajectory, self._protocol.by_frames),
            "zooms_mentioned": zooms_mentioned(trajectory, self._protocol.by_frames),
            "observations_match": not difference,
            "mismatch": difference or None,
            "hint_leak": leaks.hint_leak(trajectory, self._shown(trajectory)),
            "gold_leak": leaks.gold_leak(trajectory),
        }
        if isinstance(found, Rejected):
            findings["error"] = Failure(stage=self.name, kind=found.kind, message=found.message)
        else:
            findings |= found
        return _unjudged(trajectory, None).model_copy(update=findings)

    def _shown(self, trajectory: Trajectory) -> str:
        """All that the teacher was shown, without hints."""
        messages = self._protocol.messages(trajectory.dialogue())
        return "\n".join(message.text for message in messages if message.role != "assistant")


def _answer_columns(found: Judged) -> Columns:
    return {
        "answer_correct": found.correct,
        "answer_judged_by": found.by,
        "judge_said": found.said,
        "judge_call": found.call or None,
    }


def _pass_rate(drawn: Sequence[Judged]) -> Columns:
    """Of drawn answers to an open question; nothing is known where neither a rule nor a judge decided on any."""
    right = [one.correct for one in drawn if one.correct is not None]
    if not any(one.decided for one in drawn if one.correct is not None):
        return {"pass_rate": None, "n_rollouts": 0}
    return {"pass_rate": sum(right) / len(right), "n_rollouts": len(right)}


def _unjudged(trajectory: Trajectory, failure: Failure | None) -> Verdict:
    """A verdict with what can be said without the video: counts, and grounding of the recorded zooms."""
    done = checks.zooms(trajectory)
    zoomed = checks.spans(done)
    ground = checks.grounding(zoomed, trajectory.question.clue_intervals) if trajectory.video else None
    return Verdict(
        trajectory_id=trajectory.trajectory_id,
        question_id=trajectory.question_id,
        video_id=trajectory.video_id,
        attempt=trajectory.attempt,
        protocol=trajectory.protocol,
        status=trajectory.status,
        hint_level=len(trajectory.hints) - 1,
        well_formed=None,
        in_bounds=None,
        consistent=None,
        zooms_mentioned=None,
        observations_match=None,
        mismatch=None,
        answer_correct=None,
        hint_leak=None,
        gold_leak=None,
        p_gold_blind=None,
        p_gold_overview=None,
        p_gold_evidence=None,
        p_gold_zooms_only=None,
        p_gold_steps=None,
        gain_per_step=None,
        evidence_gain=None,
        n_claims=len(claims.claims(trajectory)),
        claims_supported=None,
        claim_min=None,
        grounding_iou=ground.iou if ground else None,
        grounding_recall=ground.recall if ground else None,
        grounding_precision=ground.precision if ground else None,
        n_turns=len(trajectory.turns),
        n_zooms=len(done),
        n_frames=sum(len(o.frames) for turn in trajectory.turns for o in turn.observations),
        redundant_zooms=checks.redundant(done),
        verifier=None,
        verifier_tokens=0,
        error=failure,
    ).model_copy(update=checks.told(trajectory))
