"""What a verifier finds on the real frames: how likely they make the reference, and whether they show what is said."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from math import isfinite
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

from pipeline.models.chat import ChoiceQuestion, Pictures, Scorer, with_pixels
from pipeline.stages import checks, claims
from pipeline.stages.busy import Busy
from prompts.judging import YES_NO, Asking, choices_of, disordered, probe_messages, spread
from schemas.chat import Message
from schemas.errors import Rejected
from schemas.trajectory import Trajectory
from schemas.video import Frame

Columns = dict[str, Any]
"""Columns of a `Verdict`."""

Look = tuple[Sequence[Frame], Sequence[Sequence[Frame]]]
"""Frames of the whole video, and those of each zoom."""


@dataclass(frozen=True)
class Replayed:
    """A trajectory with the frames that its looks must have shown, by call id."""

    trajectory: Trajectory
    frames: Mapping[str, tuple[Frame, ...]]

    @property
    def zooms(self) -> list[tuple[Frame, ...]]:
        """The frames of its zooms, in order."""
        return [self.frames[a.call_id] for a in checks.zooms(self.trajectory) if a.call_id in self.frames]


class Verifier:
    """Puts all that is asked about one video to the scorer at once, so that it reads what they share once."""

    def __init__(self, scorer: Scorer, asking: Asking) -> None:
        self.busy = Busy()
        self._scorer = scorer
        self._asking = asking

    async def columns(
        self, attempts: Sequence[Replayed], overview: Sequence[Frame], pictures: Pictures
    ) -> list[Columns | Rejected]:
        """For each attempt at a video its columns; none where there is nothing to ask. One that cannot be scored leaves
        the others theirs."""
        try:
            return list(await self._together(attempts, overview, pictures))
        except Rejected as error:
            if len(attempts) == 1:
                return [error]
        return [found for one in attempts for found in await self.columns([one], overview, pictures)]

    async def _together(
        self, attempts: Sequence[Replayed], overview: Sequence[Frame], pictures: Pictures
    ) -> list[Columns]:
        read: list[int] = []
        evidence = await self._evidence(attempts, overview, pictures, read)
        supported = await self._claims(attempts, pictures, read)
        found = [one | other for one, other in zip(evidence, supported, strict=True)]
        share = sum(read) // (sum(map(bool, found)) or 1)
        about = {"verifier": self._scorer.name, "verifier_tokens": share}
        return [columns and columns | about for columns in found]

    async def _evidence(
        self, attempts: Sequence[Replayed], overview: Sequence[Frame], pictures: Pictures, read: list[int]
    ) -> list[Columns]:
        """The probability of the reference: blind, by the overview, after each zoom, by the zooms alone.

        read: told how many tokens it took, as of `_claims`.
        """
        looks = [self._looks(attempt, overview) for attempt in attempts]
        probes = [self._probes(a, of_attempt, pictures) for a, of_attempt in zip(attempts, looks, strict=True)]
        scored = iter(await self._scored([probe for of_attempt in probes for probe, _ in of_attempt], read))
        found: list[Columns] = []
        for of_attempt, asked in zip(looks, probes, strict=True):
            answers = [(next(scored), gold) for _, gold in asked]
            p = [one.probabilities[gold] for one, gold in answers]
            n_orders = len(asked) // len(of_attempt) if of_attempt else 0
            means = [fmean(p[i * n_orders : (i + 1) * n_orders]) for i in range(len(of_attempt))]
            columns = _evidence_columns(dict(zip(of_attempt, means, strict=True)))
            found.append(columns | _sampled_pass_rate(answers[:n_orders]))  # "step 0", the overview, comes first
        return found

    def _looks(self, attempt: Replayed, overview: Sequence[Frame]) -> dict[str, Look]:
        """What the verifier is shown, by name: the overview and ever more zooms, nothing, the zooms alone, screens."""
        seen = attempt.zooms
        if attempt.trajectory.question.kind != "multiple_choice":
            return {}
        looks: dict[str, Look] = {f"step {k}": (overview, seen[:k]) for k in range(len(seen) + 1)}
        looks |= {"blind": ((), ()), **({"zooms": ((), seen)} if seen else {})}
        if self._asking.screens:
            looks["four"] = (spread(overview, 4), ())
            # A second that is burnt into the pixels would give the order away.
            if not any(frame.stamped for shown in (overview, *seen) for frame in shown):
                dice = Random(attempt.trajectory.video_id)  # the same for all of a video, so that it is read once
                looks["disorder"] = (disordered(overview, dice), [disordered(zoom, dice) for zoom in seen])
        return looks

    def _probes(
        self, attempt: Replayed, looks: Mapping[str, Look], pictures: Pictures
    ) -> list[tuple[ChoiceQuestion, int]]:
        """Each look with the question in each order of its choices, and which choice is the reference."""
        orders = self._asking.orders(attempt.trajectory.question) if looks else []
        by = self._asking.by
        return [
            (
                ChoiceQuestion(with_pixels(probe_messages(order, *look, by), pictures), choices_of(order, by)),
                order.letters.index(order.answer_letter),
            )
            for look in looks.values()
            for order in orders
        ]

    async def _claims(self, attempts: Sequence[Replayed], pictures: Pictures, read: list[int]) -> list[Columns]:
        """How far the frames show what the thoughts say of them."""
        made = [claims.decidable(claims.claims(a.trajectory), a.frames) for a in attempts]
        shown = [(claim, a.frames) for a, of_attempt in zip(attempts, made, strict=True) for claim in of_attempt]

        async def yes(chats: Sequence[tuple[Message, ...]]) -> list[float]:
            probes = [ChoiceQuestion(with_pixels(chat, pictures), YES_NO) for chat in chats]
            return [one.probabilities[YES_NO.index("yes")] for one in await self._scored(probes, read)]

        support = iter(await claims.support(shown, yes))
        return [_claim_columns(list(islice(support, len(of_attempt)))) for of_attempt in made]

    async def _scored(self, probes: Sequence[ChoiceQuestion], read: list[int]) -> list["Answered"]:
        if not probes:
            return []
        with self.busy.asking():
            scores = await asyncio.to_thread(self._scorer.score, probes)
        self.busy.waited(scores.waited_s)
        read.append(scores.tokens_read)
        if not all(isfinite(p) for of_probe in scores.probabilities for p in of_probe):
            raise Rejected("not_finite", f"{self._scorer.name} gave a probability that is no number")
        named = scores.named or [None] * len(probes)
        return [Answered(p, names) for p, names in zip(scores.probabilities, named, strict=True)]


class Answered(NamedTuple):
    """Of a probe: as in `Scores`."""

    probabilities: tuple[float, ...]
    named: Sequence[int | None] | None


def _evidence_columns(p: Mapping[str, float]) -> Columns:
    """p: the probability of the reference after each look."""
    if not p:
        return {}
    steps = [value for name, value in p.items() if name.startswith("step")]
    return {
        "p_gold_blind": p["blind"],
        "p_gold_overview": steps[0],
        "p_gold_evidence": steps[-1],
        "p_gold_zooms_only": p.get("zooms"),
        "p_gold_steps": tuple(steps),
        "gain_per_step": tuple(b - a for a, b in pairwise(steps)),
        "evidence_gain": steps[-1] - steps[0],
        "p_gold_four_frames": p.get("four"),
        "p_gold_disordered": p.get("disorder"),
        "pass_rate": steps[0],
        "n_rollouts": 0,
    }


def _sampled_pass_rate(answers: Sequence[tuple[Answered, int]]) -> Columns:
    """The plain share of right ones among sampled answers, of which the probability is an estimate that is pulled
    towards chance; nothing where probabilities are exact. answers: each with the choice that is right."""
    right = [name == gold for one, gold in answers for name in one.named or ()]
    return {"pass_rate": fmean(right), "n_rollouts": len(right)} if right else {}


def _claim_columns(p: Sequence[float]) -> Columns:
    """p: the probability that each claim is shown."""
    if not p:
        return {}
    return {"claims_supported": sum(value >= claims.SUPPORTED for value in p) / len(p), "claim_min": min(p)}
