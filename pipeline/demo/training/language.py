"""Second lesson: the language model learns to describe, read, choose and judge on the bank's frames."""

import math
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.demo.training import lessons
from pipeline.demo.training.bank import Bank
from pipeline.demo.training.lessons import Lesson
from pipeline.demo.training.packing import Packed, pack
from pipeline.demo.world import FIRST_TRAINING_SEED

LEARNING_RATE = 1.5e-3


def texts(bank: Bank, seed: int = 0) -> list[str]:
    """What a tokenizer should know: some of every lesson, without the pictures."""
    from pipeline.demo.training.reader import answered, rendered

    rng = np.random.default_rng(FIRST_TRAINING_SEED + seed)
    found = []
    for number in range(600):
        for lesson in lessons_of(rng, bank, KINDS[number % len(KINDS)], 2):
            found += [rendered(chat).replace("<image>", "") + answered(answer) for chat, answer in lesson.asked]
    return found


KINDS = ("probe", "long probe", "blind", "reading", "caption", "captions", "statements")
_SHARES = (0.34, 0.08, 0.03, 0.2, 0.08, 0.1, 0.17)
_SIZES = (14, 4, 16, 20, 20, 8, 14)


def lessons_of(rng: np.random.Generator, bank: Bank, kind: str, size: int, easy: bool = False) -> list[Lesson]:
    """Lessons of a kind with as many frames each, so that they fit one batch. easy: a frame or two."""

    def one() -> Callable[[], Lesson]:
        if kind == "probe":
            most = 2 if easy else 9
            clips = [int(n) for n in rng.integers(1, most, int(rng.integers(1, 2 if easy else 4)))]
            n_overview = 0 if easy or rng.random() < 0.3 else int(rng.integers(1, 9))
            if not easy and rng.random() < 0.12:
                clips, n_overview = [], int(rng.integers(1, 13))
            return lambda: lessons.probes(rng, bank, n_overview, clips, 8)
        if kind == "long probe":
            clips = [int(n) for n in rng.integers(6, 13, int(rng.integers(0, 4)))]
            n_overview = int(rng.integers(14, 26))
            return lambda: lessons.probes(rng, bank, n_overview, clips, 14)
        if kind == "blind":
            return lambda: lessons.probes(rng, bank, 0, [], 6)
        n_frames = int(rng.integers(1, 2 if easy else 13))
        if kind == "reading":
            return lambda: lessons.reading(rng, bank, n_frames)
        if kind == "caption":
            return lambda: lessons.captions(rng, bank, 1)
        if kind == "captions":
            n_frames = int(rng.integers(2, 25 if rng.random() < 0.3 else 13))
            return lambda: lessons.captions(rng, bank, n_frames)
        return lambda: lessons.statements(rng, bank, n_frames, 9)

    make = one()
    return [make() for _ in range(size)]


def _teach(seed: int, bank: Bank, tokenizer: Any, easy: Any, queue: Any) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    while True:
        simple = bool(easy.value)
        kind = KINDS[int(rng.choice(len(KINDS), p=_SHARES))]
        if simple and kind in ("long probe", "captions"):
            kind = "probe"
        size = _SIZES[KINDS.index(kind)] * (2 if simple and kind in ("probe", "statements") else 1)
        packed = pack(lessons_of(rng, bank, kind, size, simple), tokenizer)
        queue.put(
            (kind, *(getattr(packed, name).numpy() for name in ("ids", "positions", "segments", "targets", "rows")))
        )


def logits(model: Any, bank: Bank, packed: Packed, device: str) -> tuple[torch.Tensor, torch.Tensor]:
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
    model: Any,
    bank: Bank,
    tokenizer: Any,
    steps: int,
    seed: int,
    device: str,
    say: Callable[[str], None],
    save: Callable[[], None],
) -> None:
    """Trains the text model on `steps` batches of lessons; the vision tower and the connector stay as they are."""
    context = multiprocessing.get_context("fork")
    queue, easy = context.Queue(6), context.Value("b", 1)
    worker = context.Process(
        target=_teach, args=(FIRST_TRAINING_SEED + seed, bank, tokenizer, easy, queue), daemon=True
    )
    worker.start()
    parameters = [*model.model.text_model.parameters(), *model.lm_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.02)
    began, found = time.monotonic(), defaultdict(list)
    for step in range(steps):
        easy.value = step < 0.1 * steps
        scale = min(1.0, (step + 1) / 80) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * scale
        kind, *arrays = queue.get()
        packed = Packed(*(torch.from_numpy(array) for array in arrays))
        with torch.autocast(device, torch.bfloat16):
            guesses, targets = logits(model, bank, packed, device)
        value = functional.cross_entropy(guesses.float(), targets)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        found[kind].append(value.item())
        if step % 50 == 49:
            means = {name: round(float(np.mean(values)), 3) for name, values in sorted(found.items())}
            say(f"language {step + 1}/{steps} {time.monotonic() - began:.0f} s {means}")
            found.clear()
        if step % 400 == 399:
            save()
    worker.terminate()
    save()
