"""What an image token is to look like: the sum of fixed directions, one for each thing that it shows.

A tower that may choose its own directions squeezes 64 words into ten of them: its heads can tell them apart, a language
model can hardly learn to. With a direction for each word, which is also the word's own in a text, it only has to look
and to copy.
"""

import hashlib

import torch

from pipeline.demo import world
from pipeline.demo.training.pictures import LABELS
from pipeline.demo.wording import NOTHING, UNREADABLE

HIDDEN = 256
"""Width of the language model, and so of an image token."""

NAMES: dict[str, tuple[str, ...]] = {
    "background": world.BACKGROUNDS,
    "floor": world.COLOURS,
    "board": ("", *world.COLOURS),
    "word": ("", *world.WORDS, NOTHING, UNREADABLE),
    "kind": ("", *world.KINDS),
    "colour": ("", *world.COLOURS),
    "size": ("", *world.SIZES),
    "direction": ("", *world.DIRECTIONS),
    "lamp": ("", "lamp", "flash"),
}
"""The text of each class of each label; none for `none`."""

SHARES = {
    "background": 0.5,
    "floor": 0.4,
    "board": 0.8,
    "word": 1.5,
    "kind": 1.0,
    "colour": 1.0,
    "size": 0.7,
    "direction": 0.3,
    "lamp": 1.0,
}
_OWN_SHARE = 0.7
"""Of a direction of its own in what a class means: a red sign is no red ring."""

_LABEL_SHARE = 0.7
"""Of a direction that all classes of a label have: it says where a sign or a shape is to be found at all."""


def text_direction(name: str) -> torch.Tensor:
    """The direction of a text's token: shape (256,), length 1; always the same."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
    vector = torch.randn(HIDDEN, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vector, dim=0)


def meanings(label: str) -> torch.Tensor:
    """(classes, 256): what is added to a token that shows a class of a label; zero for `none`."""
    rows = [
        SHARES[label]
        * (
            text_direction(name)
            + _OWN_SHARE * text_direction(f"{label}/{name}")
            + _LABEL_SHARE * text_direction(f"{label}/")
        )
        if name
        else torch.zeros(HIDDEN)
        for name in NAMES[label]
    ]
    return torch.stack(rows)


assert {name: len(texts) for name, texts in NAMES.items()} == LABELS
