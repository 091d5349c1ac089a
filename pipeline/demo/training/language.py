"""Second lesson: the language model learns to describe, read, choose and judge on the bank's frames."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.demo.training import lessons
from pipeline.demo.training.bank import Bank
from pipeline.demo.training.lessons import HOLDS, READS, Lesson
from pipeline.demo.training.loop import Plan, Task, fit
from pipeline.demo.training.meanings import HIDDEN, NAMES, text_direction
from pipeline.demo.training.packing import Packed, pack
from pipeline.demo.training.pictures import LABELS
from pipeline.demo.training.reader import PICTURE, answered, rendered
from pipeline.demo.world import FIRST_TRAINING_SEED

_EASY_STEPS = 0.35
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
_EASY_SIZES = (4, 0, 1, 3, 1, 0, 3)
_SIZES = (3, 1, 1, 2, 0, 3, 5)
"""Lessons of each kind in every step, at first and then. Steps of one kind each took four times as long."""


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
        n_frames = int(rng.integers(1, 25 if rng.random() < 0.3 else 13))
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


class Notes(torch.nn.Module):
    """Reads notes off what the text model holds of a question half way through. For training only: a sign must be
    looked up before choices can be compared with it, and that is hardly found from answers alone."""

    LAYERS = (2, 3)
    """After how many layers each kind of note can be read."""

    def __init__(self) -> None:
        super().__init__()
        reads, holds = torch.nn.Linear(HIDDEN, LABELS["word"]), torch.nn.Linear(HIDDEN, 2)
        words = [text_direction(name) if name else torch.zeros(HIDDEN) for name in NAMES["word"]]
        reads.weight.data.copy_(5.0 * torch.stack(words))
        self.heads = torch.nn.ModuleList([reads, holds])

    def forward(self, hidden: Sequence[torch.Tensor], notes: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss of each kind. hidden: after each layer, (lessons, length, 256); notes: see `Packed`."""
        found = {}
        for kind, name in ((READS, "notes: reads"), (HOLDS, "notes: holds")):
            own = notes[notes[:, 2] == kind]
            if len(own):
                guesses = self.heads[kind](hidden[self.LAYERS[kind]][own[:, 0], own[:, 1]])
                found[name] = functional.cross_entropy(guesses.float(), own[:, 3])
        return found


def read(model: Any, bank: Bank, packed: Packed, device: torch.device) -> Any:
    """What the text model makes of a batch: its output, with the hidden states after every layer."""
    ids = packed.ids.to(device)
    embeds = model.get_input_embeddings()(ids)
    pictures = bank.tokens[packed.rows].to(device, embeds.dtype)
    embeds = embeds.masked_scatter((ids == model.config.image_token_id)[..., None], pictures)
    return model.model.text_model(
        inputs_embeds=embeds,
        attention_mask=packed.mask().to(device),
        position_ids=packed.positions.to(device),
        use_cache=False,
        output_hidden_states=True,
    )


def logits(model: Any, hidden: torch.Tensor, packed: Packed) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, vocabulary) and the n tokens they should be. hidden: the last, (lessons, length, 256)."""
    targets = packed.targets[:, 1:].to(hidden.device)
    learned = targets != -100
    return model.lm_head(hidden[:, :-1][learned]), targets[learned]


def train(
    model: Any, bank: Bank, tokenizer: Any, plan: Plan, seed: int, device: torch.device, say: Callable[[str], None]
) -> None:
    """Trains the text model on lessons of all kinds; the vision tower and the connector stay as they are."""

    notes = Notes().to(device)

    def batch(step: int) -> list[tuple[str, Packed]]:
        rng = np.random.default_rng((FIRST_TRAINING_SEED + seed, step, 1))
        easy = step < _EASY_STEPS * plan.steps
        sizes = zip(KINDS, _EASY_SIZES if easy else _SIZES, strict=True)
        return [(kind, pack(lessons_of(rng, bank, kind, size, easy), tokenizer)) for kind, size in sizes if size]

    def losses(step: list[tuple[str, Packed]]) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for kind, packed in step:
            output = read(model, bank, packed, device)
            guesses, targets = logits(model, output.last_hidden_state, packed)
            found[kind] = functional.cross_entropy(guesses.float(), targets)
            for name, loss in notes(output.hidden_states, packed.notes.to(device)).items():
                found[name] = found.get(name, 0) + loss
        return found

    taught = torch.nn.ModuleDict({"text": model.model.text_model, "head": model.lm_head, "notes": notes})
    fit(Task(taught, batch, losses), plan, device, say)
