"""The most that a call may use: set aside before it begins, and taken as used where no server counted."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from pipeline.leases import Need, Used
from schemas.config import Price

_CHARACTERS_A_TOKEN = 4
_TOKENS_AN_IMAGE = 300
"""First guesses. What the server counts corrects them."""


def need_for(characters: int, images: int, max_tokens: int) -> Need:
    """A guess at what a request of so much text and so many pictures may use."""
    return Need(characters // _CHARACTERS_A_TOKEN + images * _TOKENS_AN_IMAGE, max_tokens, images=images)


def need_of_kept(request: Mapping[str, Any]) -> Need:
    """The same for a request that is kept; of one that is none of ours, as much as can be told."""
    characters = images = 0
    for message in request.get("messages") or ():
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        characters += sum(len(part["text"]) for part in parts if part["type"] == "text")
        images += sum(part["type"] != "text" for part in parts)
    return need_for(characters, images, request.get("max_tokens") or 0)


def prompt_of(need: Need, seen: Used) -> int:
    """The tokens of a prompt, as the server has counted others: pictures are counted otherwise than text, and calls
    with some have a measure of their own. seen: calls of the same model."""
    counted, guessed = seen.pictured, seen.pictured_guessed
    if not need.images:
        counted, guessed = seen.prompt - counted, seen.guessed - guessed
    if guessed:
        return ceil(need.prompt * counted / guessed)
    return max(need.prompt, ceil(need.prompt * seen.prompt / seen.guessed) if seen.guessed else 0)


def most(need: Need, seen: Used, price: Price | None) -> tuple[int, float]:
    """Tokens and dollars, each token at the dearest price that it may have."""
    prompt = prompt_of(need, seen)
    dollars = price.most(prompt, need.completion, bool(need.images)) if price else 0.0
    by_batch = price.by_batch(dollars) if price and need.batch else None
    return prompt + need.completion, dollars if by_batch is None else by_batch
