"""Which attempt gets which fault: a seeded plan, whose labels lie apart from the trajectories."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.demo.questions import near_misses
from schemas.question import Question

Kind = Literal[
    "sound",
    "sound_after_hint",
    "wrong_answer",
    "wrong_clip",
    "out_of_bounds",
    "unmentioned_zoom",
    "altered_observation",
    "false_claim",
    "hint_copied",
    "gold_leaked",
    "no_zoom_needed",
    "redundant_zooms",
    "malformed_turn",
]
"""sound_after_hint: a first answer that is wrong, so that a hint is shown, and then sound turns; hint_copied likewise,
but a turn betrays the hint. Both need hints to be on."""

SOUND: tuple[Kind, ...] = ("sound", "sound_after_hint")
HINTED: tuple[Kind, ...] = ("sound_after_hint", "hint_copied")
FAULTS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in (*SOUND, *HINTED))
"""Faults that can be planted with hints on or off."""


@dataclass(frozen=True)
class Plant:
    """One attempt and the fault that is planted in it."""

    question: Question
    attempt: int
    kind: Kind

    @property
    def trajectory_id(self) -> str:
        return f"{self.question.question_id}@{self.attempt}"

    @property
    def dice(self) -> random.Random:
        """Random numbers that are the same at every turn of the attempt."""
        return random.Random(f"{self.trajectory_id} {self.kind}")

    @property
    def wrong_answers(self) -> list[str]:
        """Texts: the other choices, or, for an open question, the near misses of the word."""
        gold = self.question.answer_text
        return [choice for choice in self.question.choices if choice != gold] or near_misses(gold)


def plan(questions: Sequence[Question], counts: Mapping[Kind, int], seed: int = 0) -> list[Plant]:
    """So many attempts of each kind, spread evenly over the questions that the kind suits; attempts count from 0.

    Zooms are planted where a question has clue intervals. Of `no_zoom_needed`, every other attempt is at a question
    without any, and the rest leave out the zoom that their question needs.
    """
    dice = random.Random(seed)
    shuffled = dice.sample(list(questions), len(questions))
    needs_zoom = [question for question in shuffled if question.clue_intervals]
    needs_none = [question for question in shuffled if not question.clue_intervals]
    used: Counter[str] = Counter()
    plants = []
    for kind, count in counts.items():
        first = dice.randrange(len(questions))
        for number in range(first, first + count):
            suited = needs_none if kind == "no_zoom_needed" and number % 2 else needs_zoom
            question = suited[number // (2 if kind == "no_zoom_needed" else 1) % len(suited)]
            plants.append(Plant(question, used[question.question_id], kind))
            used[question.question_id] += 1
    return plants
