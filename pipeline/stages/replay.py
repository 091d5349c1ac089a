"""The replay stage: every recorded action is done again on the real video, and a verifier weighs the evidence."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pipeline.models.chat import ChoiceQuestion, Embedder, Pictures, Scorer, with_pixels
from pipeline.stages import checks, claims, leaks
from pipeline.stages.items import Care, Work, walk
from pipeline.stages.mentions import consistent, zooms_mentioned
from pipeline.stages.search import Search
from pipeline.stages.videos import OpenVideos
from prompts.judging import YES_NO, AnswerBy, answers_match, choices_of, probe_messages
from prompts.protocol import Setting, ZoomProtocol
from schemas.captions import CaptionTree, Picture
from schemas.chat import Message
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


class ReplayStage:
    """Gives each trajectory its verdict.

    scorer: None leaves the probabilities empty; answer_by: how it names a choice. view: as the trajectories were made.
    limit: videos at once. embedder: chooses the frames of a searched zoom again; without one, those recorded must be
    among the candidates.
    """

    name = "replay"

    def __init__(
        self,
        protocol: ZoomProtocol,
        scorer: Scorer | None,
        reply_text: Callable[[str], str | None],
        view: View = AS_PUBLISHED,
        answer_by: AnswerBy = "letter",
        limit: int = 2,
        embedder: Embedder | None = None,
    ) -> None:
        self._protocol = protocol
        self._scorer = scorer
        self._reply_text = reply_text
        self._view = view
        self._search = Search(protocol, view, embedder)
        self._answer_by = answer_by
        self._limit = limit
        self._scoring = asyncio.Lock()

    async def run(
        self, trajectories: Sequence[Trajectory], trees: Mapping[str, CaptionTree], care: Care
    ) -> list[Verdict]:
        """One verdict per trajectory, in their order. Frames of all attempts at a video come out of one pass."""
        groups: dict[str, list[Trajectory]] = defaultdict(list)
        for trajectory in trajectories:
            groups[trajectory.video_id].append(trajectory)

        async def video(video_id: str) -> list[Verdict]:
            return await self._video(groups[video_id], trees[video_id])

        def failed(video_id: str, failure: Failure) -> list[Verdict]:
            return [_unjudged(t, failure if t.video else None) for t in groups[video_id]]

        work = Work(stage=self.name, name=str, do=video, failed=failed, limit=self._limit)
        verdicts = await walk([v for v in groups if v in trees], work, care)
        by_id = {verdict.trajectory_id: verdict for group in verdicts for verdict in group}
        return [by_id.get(t.trajectory_id) or _unjudged(t, None) for t in trajectories]

    async def _video(self, trajectories: Sequence[Trajectory], tree: CaptionTree) -> list[Verdict]:
        started = [t for t in trajectories if t.video is not None]
        if not started:
            return [_unjudged(t, None) for t in trajectories]
        decoded = await self._decode(started, tree)
        return [await self._judge(t, tree, decoded) if t.video else _unjudged(t, None) for t in trajectories]

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

    async def _judge(self, trajectory: Trajectory, tree: CaptionTree, decoded: Decoded) -> Verdict:
        assert trajectory.video is not None
        setting = Setting.of(decoded.video, tree.width)
        name = trajectory.trajectory_id
        own = {call: frames for (owner, call), frames in decoded.frames.items() if owner == name}
        difference = checks.mismatch(
            trajectory,
            checks.Recheck(
                protocol=self._protocol,
                settings=checks.settings(trajectory, setting),
                frames={**own, "overview": decoded.overview},
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
            "answer_correct": _answer_correct(trajectory),
            "hint_leak": leaks.hint_leak(trajectory, self._shown(trajectory)),
            "gold_leak": leaks.gold_leak(trajectory),
        }
        try:
            findings |= await self._verified(trajectory, decoded, own)
        except Rejected as error:
            findings["error"] = Failure(stage=self.name, kind=error.kind, message=error.message)
        return _unjudged(trajectory, None).model_copy(update=findings)

    def _shown(self, trajectory: Trajectory) -> str:
        """All that the teacher was shown, without hints."""
        messages = self._protocol.messages(trajectory.dialogue())
        return "\n".join(message.text for message in messages if message.role != "assistant")

    async def _verified(
        self, trajectory: Trajectory, decoded: Decoded, own: Mapping[str, tuple[Frame, ...]]
    ) -> dict[str, Any]:
        """What the verifier finds, with its name and the tokens that it read; nothing without one."""
        if self._scorer is None:
            return {}
        async with self._scoring:
            read = self._scorer.tokens_read
            found = await self._probabilities(self._scorer, trajectory, decoded, own)
            found |= await self._claims(self._scorer, trajectory, decoded, own)
            read = self._scorer.tokens_read - read
        return found | {"verifier": self._scorer.name, "verifier_tokens": read} if found else {}

    async def _probabilities(
        self, scorer: Scorer, trajectory: Trajectory, decoded: Decoded, own: Mapping[str, tuple[Frame, ...]]
    ) -> dict[str, Any]:
        """The verifier's probability of the reference: blind, by the overview, after each zoom, by the zooms alone."""
        question, by = trajectory.question, self._answer_by
        if question.kind != "multiple_choice":
            return {}
        seen = [own[action.call_id] for action in checks.zooms(trajectory) if action.call_id in own]
        overview = decoded.verifier_overview
        growing = [probe_messages(question, overview, seen[:k], by) for k in range(len(seen) + 1)]
        apart = [probe_messages(question, (), zooms, by) for zooms in ((), seen)]
        gold = question.letters.index(question.answer_letter)
        p = await _scored(scorer, [*growing, *apart], choices_of(question, by), gold, decoded.pictures)
        steps = tuple(p[: len(growing)])
        return {
            "p_gold_blind": p[-2],
            "p_gold_overview": steps[0],
            "p_gold_evidence": steps[-1],
            "p_gold_zooms_only": p[-1] if seen else None,
            "p_gold_steps": steps,
            "gain_per_step": tuple(b - a for a, b in pairwise(steps)),
            "evidence_gain": steps[-1] - steps[0],
        }

    async def _claims(
        self, scorer: Scorer, trajectory: Trajectory, decoded: Decoded, own: Mapping[str, tuple[Frame, ...]]
    ) -> dict[str, Any]:
        """How far the frames show what the thoughts say of them."""
        made = claims.decidable(claims.claims(trajectory), own)
        if not made:
            return {}

        async def yes(chats: Sequence[tuple[Message, ...]]) -> list[float]:
            return await _scored(scorer, chats, YES_NO, YES_NO.index("yes"), decoded.pictures)

        p = await claims.support(made, own, yes)
        supported = sum(value >= claims.SUPPORTED for value in p)
        return {"claims_supported": supported / len(p), "claim_min": min(p)}


async def _scored(
    scorer: Scorer, chats: Sequence[tuple[Message, ...]], choices: tuple[str, ...], wanted: int, pictures: Pictures
) -> list[float]:
    """The probability of the choice with number `wanted`, for each chat."""
    probes = [ChoiceQuestion(with_pixels(messages, pictures), choices) for messages in chats]
    scored = await asyncio.to_thread(scorer.choice_probabilities, probes) if probes else []
    return [probabilities[wanted] for probabilities in scored]


def _answer_correct(trajectory: Trajectory) -> bool | None:
    if trajectory.final_answer is None:
        return None
    return answers_match(trajectory.final_answer, trajectory.question)


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
    )
