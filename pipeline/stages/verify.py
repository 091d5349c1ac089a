"""What a verifier finds on the real frames: how likely they make the reference, and whether they show what is said."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from pipeline.models.chat import ChoiceQuestion, Pictures, Scorer, with_pixels
from pipeline.stages import checks, claims
from prompts.judging import YES_NO, AnswerBy, choices_of, probe_messages
from schemas.chat import Message
from schemas.errors import Rejected
from schemas.trajectory import Trajectory
from schemas.video import Frame

Columns = dict[str, Any]
"""Columns of a `Verdict`."""


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

    def __init__(self, scorer: Scorer, answer_by: AnswerBy) -> None:
        self._scorer = scorer
        self._answer_by = answer_by
        self._busy = asyncio.Lock()

    async def columns(
        self, attempts: Sequence[Replayed], overview: Sequence[Frame], pictures: Pictures
    ) -> list[Columns | Rejected]:
        """For each attempt at a video its columns; none where there is nothing to ask. One that cannot be scored leaves
        the others theirs."""
        try:
            async with self._busy:
                return list(await self._together(attempts, overview, pictures))
        except Rejected as error:
            if len(attempts) == 1:
                return [error]
        return [found for one in attempts for found in await self.columns([one], overview, pictures)]

    async def _together(
        self, attempts: Sequence[Replayed], overview: Sequence[Frame], pictures: Pictures
    ) -> list[Columns]:
        before = self._scorer.tokens_read
        evidence = await self._evidence(attempts, overview, pictures)
        supported = await self._claims(attempts, pictures)
        found = [one | other for one, other in zip(evidence, supported, strict=True)]
        share = (self._scorer.tokens_read - before) // (sum(map(bool, found)) or 1)
        about = {"verifier": self._scorer.name, "verifier_tokens": share}
        return [columns and columns | about for columns in found]

    async def _evidence(
        self, attempts: Sequence[Replayed], overview: Sequence[Frame], pictures: Pictures
    ) -> list[Columns]:
        """The probability of the reference: blind, by the overview, after each zoom, by the zooms alone."""
        chats = [self._chats(attempt, overview) for attempt in attempts]
        questions = [attempt.trajectory.question for attempt in attempts]
        choices = [choices_of(question, self._answer_by) for question in questions]
        probes = [
            ChoiceQuestion(with_pixels(chat, pictures), of_question)
            for of_attempt, of_question in zip(chats, choices, strict=True)
            for chat in of_attempt
        ]
        scored = iter(await self._scored(probes))
        found: list[Columns] = []
        for attempt, question, of_attempt in zip(attempts, questions, chats, strict=True):
            p = list(islice(scored, len(of_attempt)))
            gold = question.letters.find(question.answer_letter)
            found.append(_evidence_columns([each[gold] for each in p], bool(attempt.zooms)) if p else {})
        return found

    def _chats(self, attempt: Replayed, overview: Sequence[Frame]) -> list[tuple[Message, ...]]:
        """What is asked about an attempt: by the overview and ever more zooms, blind, and by the zooms alone."""
        question, seen, by = attempt.trajectory.question, attempt.zooms, self._answer_by
        if question.kind != "multiple_choice":
            return []
        growing = [probe_messages(question, overview, seen[:k], by) for k in range(len(seen) + 1)]
        return [*growing, *(probe_messages(question, (), zooms, by) for zooms in ((), seen))]

    async def _claims(self, attempts: Sequence[Replayed], pictures: Pictures) -> list[Columns]:
        """How far the frames show what the thoughts say of them."""
        made = [claims.decidable(claims.claims(a.trajectory), a.frames) for a in attempts]
        shown = [(claim, a.frames) for a, of_attempt in zip(attempts, made, strict=True) for claim in of_attempt]

        async def yes(chats: Sequence[tuple[Message, ...]]) -> list[float]:
            probes = [ChoiceQuestion(with_pixels(chat, pictures), YES_NO) for chat in chats]
            return [p[YES_NO.index("yes")] for p in await self._scored(probes)]

        support = iter(await claims.support(shown, yes))
        return [_claim_columns(list(islice(support, len(of_attempt)))) for of_attempt in made]

    async def _scored(self, probes: Sequence[ChoiceQuestion]) -> list[tuple[float, ...]]:
        return await asyncio.to_thread(self._scorer.choice_probabilities, probes) if probes else []


def _evidence_columns(p: Sequence[float], zoomed: bool) -> Columns:
    """p: the probability of the reference in each of an attempt's chats."""
    *steps, blind, zooms_only = p
    return {
        "p_gold_blind": blind,
        "p_gold_overview": steps[0],
        "p_gold_evidence": steps[-1],
        "p_gold_zooms_only": zooms_only if zoomed else None,
        "p_gold_steps": tuple(steps),
        "gain_per_step": tuple(b - a for a, b in pairwise(steps)),
        "evidence_gain": steps[-1] - steps[0],
    }


def _claim_columns(p: Sequence[float]) -> Columns:
    """p: the probability that each claim is shown."""
    if not p:
        return {}
    return {"claims_supported": sum(value >= claims.SUPPORTED for value in p) / len(p), "claim_min": min(p)}
