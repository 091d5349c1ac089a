"""Every class of model reads pictures in its own way; each scores choices as a plain forward pass would."""

import pytest

from pipeline.models.chat import ChatMessage, ChoiceQuestion
from pipeline.models.local import LocalModel
from tests.models.chats import LETTERS, QUESTION, by_hand, jpeg, probe

PHRASES = ("red A", "red B", "blue A", "blue B")


def apart(pictures: list[bytes], choices: tuple[str, ...]) -> ChoiceQuestion:
    """A probe whose pictures stand between texts."""
    parts = [part for number, picture in enumerate(pictures) for part in (f"Picture {number}:\n", picture)]
    return ChoiceQuestion((ChatMessage("user", (*parts, QUESTION)),), choices)


def probes(seed: int) -> list[ChoiceQuestion]:
    """Without a picture, with one, and with three of several sizes, side by side and apart. seed: of the pictures."""
    wide, flat, square = jpeg(seed, 128, 96), jpeg(seed + 1, 96, 32), jpeg(seed + 2, 40, 40)
    return [
        question
        for choices in (LETTERS, PHRASES)
        for question in (
            probe([], choices=choices),
            probe([wide], choices=choices),
            apart([flat], choices),
            probe([wide, flat, square], choices=choices),
            apart([square, wide, flat], choices),
        )
    ]


def test_probabilities_equal_a_forward_pass_per_choice_and_follow_the_pictures(any_model: LocalModel) -> None:
    results = any_model.choice_probabilities(probes(1))
    for question, result in zip(probes(1), results, strict=True):
        assert result == pytest.approx(by_hand(any_model, question), abs=1e-3)
    for question, result, other in zip(probes(1), results, any_model.choice_probabilities(probes(11)), strict=True):
        has_pictures = any(isinstance(part, bytes) for message in question.messages for part in message.parts)
        assert (max(abs(a - b) for a, b in zip(result, other, strict=True)) > 1e-3) == has_pictures
