"""Second lesson: the language model learns to describe, read, choose and judge on the bank's frames."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.demo.training import lessons
from pipeline.demo.training.bank import Bank
from pipeline.demo.training.lessons import Lesson
from pipeline.demo.training.loop import Plan, Task, fit
from pipeline.demo.training.packing import Packed, pack
from pipeline.demo.training.reader import PICTURE, answered, rendered
from pipeline.demo.world import FIRST_TRAINING_SEED

_EASY_STEPS = 0.3
"""Share of the steps, at first, with lessons of a frame or two: many answers for few tokens."""


def texts(bank: Bank) -> list[str]:
    """What a tokenizer should know: some of every lesson, without the pictures."""
    rng = np.random.default_rng(FIRST_TRAINING_SEED)
    found = []
    for number in range(300):
        for lesson in lessons_of(rng, bank, KINDS[number % len(KINDS)], 2):
            found += [rendered(chat).replace(PICTURE, "") + answered(answer) for chat, answer in lesson.asked]
    return found


KINDS = ("probe", "long probe", "blind", "reading", "caption", "captions", "statements")
_EASY_SHARES = (0.25, 0.0, 0.02, 0.25, 0.33, 0.0, 0.15)
_SHARES = (0.31, 0.06, 0.02, 0.16, 0.1, 0.15, 0.2)
"""How often each kind is taught, at first and then."""

_EASY_SIZES = (20, 0, 12, 8, 4, 0, 20)
_SIZES = (12, 3, 12, 6, 4, 5, 12)
"""Lessons in a batch of each kind."""


def lessons_of(rng: np.random.Generator, bank: Bank, kind: str, size: int, easy: bool = False) -> list[Lesson]:
    """Lessons of a kind with as many frames each, so that they fit one batch. easy: a frame or two."""
    make = _maker(rng, bank, kind, easy)
    return [make() for _ in range(size)]


def _maker(rng: np.random.Generator, bank: Bank, kind: str, easy: bool) -> Callable[[], Lesson]:
    if kind == "probe":
        n_overview, clips = _probe_frames(rng, easy)
        return lambda: lessons.probes(rng, bank, n_overview, clips, 8)
    if kind == "long probe":
        clips = [int(n) for n in rng.integers(6, 17, int(rng.integers(0, 3)))]
        n_overview = int(rng.integers(14, 26))
        return lambda: lessons.probes(rng, bank, n_overview, clips, 14)
    if kind == "blind":
        return lambda: lessons.probes(rng, bank, 0, [], 6)
    n_frames = int(rng.integers(1, 2 if easy else 17 if rng.random() < 0.3 else 10))
    if kind == "reading":
        return lambda: lessons.readings(rng, bank, n_frames, max(2, 24 // (n_frames + 2)))
    if kind == "caption":
        return lambda: lessons.captions(rng, bank, 1, 16)
    if kind == "captions":
        n_frames = int(rng.integers(2, 25 if rng.random() < 0.3 else 13))
        return lambda: lessons.captions(rng, bank, n_frames, max(1, 24 // n_frames))
    return lambda: lessons.statements(rng, bank, n_frames, 9)


def _probe_frames(rng: np.random.Generator, easy: bool) -> tuple[int, list[int]]:
    """Frames of the overview and of each zoom."""
    if easy:
        return 0, [1] * int(rng.integers(1, 4))
    if rng.random() < 0.12:
        return int(rng.integers(1, 13)), []
    n_overview = 0 if rng.random() < 0.3 else int(rng.integers(1, 9))
    return n_overview, [int(n) for n in rng.integers(1, 17 if rng.random() < 0.2 else 9, int(rng.integers(1, 4)))]


def logits(model: Any, bank: Bank, packed: Packed, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, vocabulary) and the n tokens they should be."""
    ids = packed.ids.to(device)
    embeds = model.get_input_embeddings()(ids)
    pictures = bank.tokens[packed.rows].to(device, embeds.dtype)
    embeds = embeds.masked_scatter((ids == model.config.image_token_id)[..., None], pictures)
    hidden = model.model.text_model(
        inputs_embeds=embeds,
        attention_mask=packed.mask().to(device),
        position_ids=packed.positions.to(device),
        use_cache=False,
    ).last_hidden_state
    targets = packed.targets[:, 1:].to(device)
    learned = targets != -100
    return model.lm_head(hidden[:, :-1][learned]), targets[learned]


def train(
    model: Any, bank: Bank, tokenizer: Any, plan: Plan, seed: int, device: torch.device, say: Callable[[str], None]
) -> None:
    """Trains the text model on lessons of all kinds; the vision tower and the connector stay as they are."""

    def batch(step: int) -> tuple[str, Packed]:
        rng = np.random.default_rng((FIRST_TRAINING_SEED + seed, step, 1))
        easy = step < _EASY_STEPS * plan.steps
        number = int(rng.choice(len(KINDS), p=_EASY_SHARES if easy else _SHARES))
        size = (_EASY_SIZES if easy else _SIZES)[number]
        return KINDS[number], pack(lessons_of(rng, bank, KINDS[number], size, easy), tokenizer)

    def losses(lesson: tuple[str, Packed]) -> dict[str, torch.Tensor]:
        kind, packed = lesson
        guesses, targets = logits(model, bank, packed, device)
        return {kind: functional.cross_entropy(guesses.float(), targets)}

    taught = torch.nn.ModuleDict({"text": model.model.text_model, "head": model.lm_head})
    fit(Task(taught, batch, losses), plan, device, say)
