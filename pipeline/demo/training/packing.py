"""Lessons as tensors: what their chats share once, then what is left of each chat, none of which sees another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.demo.training.lessons import Lesson, Note
from pipeline.demo.training.reader import answered, rendered

_UNSEEN = -100


@dataclass(frozen=True)
class Packed:
    """ids, positions, segments, targets: int64 (lessons, length). segments: 0 for what is shared, -1 for padding.

    rows: int64 (pictures,), of the bank, in the order of the image tokens. Targets are -100 where nothing is learned.
    notes: int64 (notes, 4), each a lesson, a position, a note's kind and its value.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor
    targets: torch.Tensor
    rows: torch.Tensor
    notes: torch.Tensor

    def mask(self) -> torch.Tensor:
        """Additive attention mask, float32 (lessons, 1, length, length): earlier tokens, shared or of one's own."""
        length = self.ids.shape[1]
        earlier = torch.ones(length, length, dtype=torch.bool).tril()
        own = self.segments[:, None, :] == self.segments[:, :, None]
        seen = earlier & (own | (self.segments[:, None, :] == 0))
        return torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)[:, None]


Row = tuple[list[int], list[int], list[int], list[int]]
Noted = tuple[int, int, int]
"""A note's position, kind and value."""


def pack(lessons: Sequence[Lesson], tokenizer: Any) -> Packed:
    """A batch, padded on the right. Each chat's logits are those of the chat alone (positions go on from the
    shared part)."""
    rows, noted = zip(*(_row(lesson, tokenizer) for lesson in lessons), strict=True)
    notes = [(number, *note) for number, found in enumerate(noted) for note in found]
    longest = max(len(row[0]) for row in rows)
    fills = (tokenizer.pad_token_id, 0, -1, _UNSEEN)

    def column(number: int) -> torch.Tensor:
        return torch.tensor([row[number] + [fills[number]] * (longest - len(row[0])) for row in rows])

    return Packed(
        column(0),
        column(1),
        column(2),
        column(3),
        torch.tensor([row for lesson in lessons for row in lesson.rows], dtype=torch.int64),
        torch.tensor(notes, dtype=torch.int64).view(-1, 4),
    )


def _row(lesson: Lesson, tokenizer: Any) -> tuple[Row, list[Noted]]:
    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    chats = [rendered(messages) for messages, _ in lesson.asked]
    shared = _shared(chats, lesson.split)
    ids = tokens(shared)
    positions, segments, targets = list(range(len(ids))), [0] * len(ids), [_UNSEEN] * len(ids)
    start, noted = len(ids), list[Noted]()
    for number, (chat, (_, answer)) in enumerate(zip(chats, lesson.asked, strict=True)):
        asked, reply = tokens(chat[len(shared) :]), tokens(answered(answer))
        if lesson.notes:
            noted += [
                (len(ids) + at, kind, value)
                for at, kind, value in _noted(chat[len(shared) :], lesson.notes[number], tokenizer)
            ]
        ids += asked + reply
        positions += range(start, start + len(asked) + len(reply))
        segments += [number + 1] * (len(asked) + len(reply))
        targets += [_UNSEEN] * len(asked) + reply
    return (ids, positions, segments, targets), noted


def _noted(text: str, notes: Sequence[Note], tokenizer: Any) -> list[Noted]:
    encoded = tokenizer(text, add_special_tokens=False)
    return [(encoded.char_to_token(text.index(n.phrase) + len(n.phrase) - 1), n.kind, n.value) for n in notes]


def _shared(chats: Sequence[str], split: str) -> str:
    """What all chats of a lesson begin with: up to where the last of the splits stands."""
    shared = chats[0][: chats[0].rindex(split)]
    assert all(chat.startswith(shared) for chat in chats)
    return shared
