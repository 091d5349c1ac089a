"""Chats with small pictures, and what a model makes of them without any of the product's batching, for tests."""

import io
import math

import numpy as np
import torch
from PIL import Image

from pipeline.models.chat import ChatMessage, ChoiceQuestion
from pipeline.models.local import LocalModel

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


def by_hand(model: LocalModel, question: ChoiceQuestion) -> list[float]:
    """Each choice by a forward pass of its own over prompt and choice, tokenised and expanded by the processor."""
    processor, network = model._encoder._processor, model._model
    text = model._encoder.rendered(question.messages).text
    lead, end = (" ", "<end_of_utterance>") if text.endswith("Assistant:") else ("", "<|im_end|>")
    if all(len(choice) == 1 for choice in question.choices):  # letters, which no other continues
        end = ""
    pictures = [part for message in question.messages for part in message.parts if isinstance(part, bytes)]
    opened = [[Image.open(io.BytesIO(p)) for p in pictures]] if pictures else None
    n_prompt = processor(text=[text], images=opened, return_tensors="pt")["input_ids"].shape[1]
    sums = []
    for choice in question.choices:
        inputs = processor(text=[text + lead + choice + end], images=opened, return_tensors="pt")
        with torch.no_grad():
            log_probs = network(**inputs).logits[0].log_softmax(-1)
        ids = inputs["input_ids"][0]
        sums.append(sum(float(log_probs[i - 1, ids[i]]) for i in range(n_prompt, len(ids))))
    weights = [math.exp(s - max(sums)) for s in sums]
    return [w / sum(weights) for w in weights]
