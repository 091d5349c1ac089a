"""Chats with small pictures, for tests."""

import io

import numpy as np
from PIL import Image

from pipeline.models.chat import ChatMessage, ChoiceQuestion

QUESTION = "Which colour is it? A. red B. green C. blue D. none"
LETTERS = ("A", "B", "C", "D")


def jpeg(seed: int, width: int = 64, height: int = 48) -> bytes:
    """A mosaic of random colours, eight pixels a side."""
    colours = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST).save(out, "JPEG", quality=95)
    return out.getvalue()


def chat(pictures: list[bytes], text: str = QUESTION) -> tuple[ChatMessage, ...]:
    return ChatMessage("system", ("Answer briefly.",)), ChatMessage("user", (*pictures, text))


def probe(pictures: list[bytes], text: str = QUESTION, choices: tuple[str, ...] = LETTERS) -> ChoiceQuestion:
    return ChoiceQuestion(chat(pictures, text), choices)
