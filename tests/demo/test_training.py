"""The training of the embedded model: its lessons are the chats that the product sends, and a cut costs no step."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.demo import world
from pipeline.demo.training import bank as scenes
from pipeline.demo.training import language, lessons, network, packing, reader, school
from pipeline.demo.training.bank import Bank
from pipeline.demo.training.lessons import Lesson
from pipeline.demo.training.loop import Plan, Task, fit
from pipeline.demo.training.school import Curriculum
from pipeline.models.chat import ChatMessage, ChoiceQuestion
from tests.models.chats import jpeg

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Scenes as training has them; what their frames look like does not matter here."""
    by_floor: dict[str, list[scenes.Scenery]] = {colour: [] for colour in world.COLOURS}
    n_rows = 0
    for seed in range(scenes.FIRST_SEED, scenes.FIRST_SEED + 2):
        frames, found = scenes.draw(seed)
        for item in found:
            by_floor[item.floor].append(scenes.moved(item, n_rows))
        n_rows += len(frames)
    tokens = torch.randn(n_rows, network.TOKENS, network.HIDDEN, generator=torch.Generator().manual_seed(1))
    return Bank(tokens, by_floor)


@pytest.fixture(scope="module")
def processor(bank: Bank) -> Any:
    return reader.processor(language.texts(bank))


def taught(bank: Bank) -> Iterator[Lesson]:
    rng = np.random.default_rng(world.FIRST_TRAINING_SEED)
    for kind in ("probe", "reading", "captions", "statements"):
        yield from language.lessons_of(rng, bank, kind, 1)


def said(model: Any, bank: Bank, packed: packing.Packed) -> tuple[torch.Tensor, torch.Tensor]:
    return language.logits(model, language.read(model, bank, packed, CPU).last_hidden_state, packed)


def test_a_packed_chat_has_the_logits_of_the_chat_alone(bank: Bank, processor: Any) -> None:
    torch.manual_seed(0)
    model = network.build(processor.tokenizer).eval()
    for lesson in taught(bank):
        with torch.no_grad():
            together, targets = said(model, bank, packing.pack([lesson], processor.tokenizer))
        done, rows = 0, list(lesson.rows)
        for messages, answer in lesson.asked:
            n_frames = reader.rendered(messages).count(reader.PICTURE)
            own = rows[:n_frames] if lesson.split != lessons.USER else [rows.pop(0) for _ in range(n_frames)]
            one = Lesson(((messages, answer),), lesson.split, tuple(own))
            with torch.no_grad():
                alone, wanted = said(model, bank, packing.pack([one], processor.tokenizer))
            assert targets[done : done + len(wanted)].tolist() == wanted.tolist()
            torch.testing.assert_close(together[done : done + len(wanted)], alone, atol=1e-4, rtol=1e-4)
            done += len(wanted)


def test_lessons_are_written_as_the_processor_writes_them(bank: Bank, processor: Any) -> None:
    picture = np.full((252, 448, 3), 90, dtype=np.uint8)
    for lesson in taught(bank):
        messages, _ = lesson.asked[0]
        content = [
            {
                "role": m.role,
                "content": [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in m.parts],
            }
            for m in messages
        ]
        chat = processor.apply_chat_template(content, add_generation_prompt=True, tokenize=False)
        tokens = processor(text=[chat], images=[[picture] * chat.count("<image>")], return_tensors="pt")["input_ids"]
        expected = processor.tokenizer(reader.rendered(messages), add_special_tokens=False)["input_ids"]
        assert tokens[0].tolist() == expected


def test_every_word_of_the_world_is_one_token(processor: Any) -> None:
    spoken = (*world.WORDS, *world.COLOURS, *world.KINDS, *world.BACKGROUNDS, *world.COUNTS, "yes", "no", "unreadable")
    lengths = {word: len(processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) for word in spoken}
    assert set(lengths.values()) == {1}


def test_what_the_frames_do_not_tell_has_no_one_answer(bank: Bank) -> None:
    rng = np.random.default_rng(world.FIRST_TRAINING_SEED + 1)
    answers = set()
    for _ in range(60):
        question, answer = lessons.sign_choice(rng, [], "red", "MOON")
        assert answer in question.choices
        answers.add(answer)
    assert len(answers) >= 4


def test_notes_lie_on_the_words_that_they_speak_of(bank: Bank, processor: Any) -> None:
    for lesson in taught(bank):
        packed = packing.pack([lesson], processor.tokenizer)
        phrases = [note.phrase for notes in lesson.notes for note in notes]
        assert len(packed.notes) == len(phrases)
        for (_, position, _, _), phrase in zip(packed.notes.tolist(), phrases, strict=True):
            assert phrase.endswith(processor.tokenizer.decode([packed.ids[0, position]]).strip())


class Cut(Exception):
    """Stands for a session that ends."""


def test_training_that_was_cut_off_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    def run(checkpoint: Path, cut_at: int | None) -> torch.Tensor:
        torch.manual_seed(3)
        module = torch.nn.Linear(4, 1)

        def batch(step: int) -> torch.Tensor:
            return torch.from_numpy(np.random.default_rng(step).normal(size=(8, 4)).astype(np.float32))

        seen = 0

        def loss(values: torch.Tensor) -> dict[str, torch.Tensor]:
            nonlocal seen
            seen += 1
            if seen == cut_at:
                raise Cut
            return {"square": (module(values) - values.sum(1, keepdim=True)).pow(2).mean()}

        fit(Task(module, batch, loss), Plan("test", 260, 1e-2, checkpoint), CPU, lambda line: None)
        return module.weight.detach().clone()

    with pytest.raises(Cut):
        run(tmp_path / "cut.pt", cut_at=230)
    resumed, whole = run(tmp_path / "cut.pt", None), run(tmp_path / "whole.pt", None)
    torch.testing.assert_close(resumed, whole)


@pytest.mark.slow
def test_a_training_of_two_steps_gives_a_model_that_the_local_backend_loads(tmp_path: Path) -> None:
    from pipeline.models.local import LocalModel

    lines: list[str] = []
    curriculum = Curriculum(tower_steps=2, n_scenes=100, language_steps=2, batch=4)
    school.train(tmp_path / "model", tmp_path / "work", curriculum, 1, CPU, lines.append)
    assert any("tower 2/2" in line for line in lines) and any("language 2/2" in line for line in lines)
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 12_000_000
    model = LocalModel(str(tmp_path / "model"), max_new_tokens=4)
    asked = (ChatMessage("user", (jpeg(1), "What colour?")),)
    (probabilities,) = model.choice_probabilities([ChoiceQuestion(asked, ("red", "blue"))])
    assert sum(probabilities) == pytest.approx(1.0)
    assert asyncio.run(model.complete(asked)).usage.completion_tokens > 0
