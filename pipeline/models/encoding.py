"""Chats as a transformers model reads them: its chat template, its tokens, its picture tensors."""

import io
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jinja2 import TemplateError
from PIL import Image, UnidentifiedImageError

from pipeline.models.chat import ChatMessage
from pipeline.models.scoring import Tokens, common_prefix_length
from schemas.errors import UserError

Tensors = dict[str, torch.Tensor]

TOKEN_TENSORS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""What a processor gives per token, shape (1, tokens); all else it gives per picture."""

Turn = dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """A chat up to where the assistant's reply begins.

    text: as the template renders it, one placeholder per picture. lead: what the template puts between the prompt and
    an assistant's text (SmolVLM: a space). tensors: a batch of one, as the model's forward takes it. pictures: JPEGs.
    """

    text: str
    lead: str
    tensors: Tensors
    pictures: tuple[bytes, ...] = ()

    @property
    def n_tokens(self) -> int:
        return self.tensors["input_ids"].shape[1]


class ChatEncoder:
    """A model's processor, given one chat at a time, so that no picture is padded for the sake of another chat."""

    def __init__(self, processor: Any) -> None:
        """processor: as AutoProcessor loads it, with a chat template."""
        self._processor = processor
        self.tokenizer = processor.tokenizer
        template = str(processor.chat_template)
        self._has_tool_role = "'tool'" in template or '"tool"' in template

    def prompt(self, messages: Sequence[ChatMessage]) -> Prompt:
        """Raises ValueError where the template cannot render the chat, a picture cannot be decoded, or pictures and
        placeholders differ in number (a text that spells the model's placeholder)."""
        turns = [self._turn(message) for message in messages]
        text = self._render(turns)
        pictures = [part for message in messages for part in message.parts if isinstance(part, bytes)]
        placeholder = getattr(self._processor, "image_token", None)
        if placeholder is not None and text.count(placeholder) != len(pictures):
            raise ValueError(f"{len(pictures)} pictures, but {text.count(placeholder)} {placeholder} in the prompt")
        inputs = self._processor(
            text=[text],
            images=[[_picture(jpeg) for jpeg in pictures]] if pictures else None,
            add_special_tokens=self._adds_special_tokens(text),
            return_tensors="pt",
        )
        return Prompt(text, self._lead(turns, text), dict(inputs), tuple(pictures))

    def picture(self, jpeg: bytes) -> Tensors:
        """One picture as the vision tower takes it."""
        return dict(self._processor.image_processor(images=[[_picture(jpeg)]], return_tensors="pt"))

    def tails(self, prompt: Prompt, choices: Sequence[str]) -> tuple[int, list[Tokens]]:
        """The tokens in which each choice, as the assistant's text, differs from the bare prompt.

        Prompt and choice are tokenised as one text, since a token may span their boundary. Returns how many of the
        prompt's last tokens are then to be dropped (usually 0), and for each choice the tokens that take their place.
        Raises ValueError for an empty choice, UserError for a processor that alters the prompt's end.
        """
        texts = [prompt.text, *(prompt.text + prompt.lead + choice for choice in choices)]
        special = self._adds_special_tokens(prompt.text)
        plain, *full = self.tokenizer(texts, add_special_tokens=special)["input_ids"]
        kept = common_prefix_length([plain, *full])
        tails = [tuple(tokens[kept:]) for tokens in full]
        if not all(choices) or not all(tails):
            raise ValueError(f"a choice is empty: {list(choices)!r}")
        dropped = len(plain) - kept
        if prompt.tensors["input_ids"][0, -dropped - 1 :].tolist() != plain[-dropped - 1 :]:
            raise UserError("this model's processor rewrites the end of a prompt, so its choices cannot be scored")
        return dropped, tails

    def text(self, tokens: torch.Tensor) -> str:
        """tokens: (n,), decoded without special tokens, otherwise verbatim."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def up_to_the_end(self, tokens: torch.Tensor, end_tokens: Collection[int], stop: Sequence[str]) -> torch.Tensor:
        """New tokens, (n,), without the padding that follows the first end token or the end of a stop string.

        As transformers' own criterion does, a stop string is found in special tokens, too.
        """
        ends = [i for i, token in enumerate(tokens.tolist()) if token in end_tokens]
        kept = tokens[: ends[0] + 1] if ends else tokens

        def stopped(n: int) -> bool:
            text = str(self.tokenizer.decode(kept[:n], clean_up_tokenization_spaces=False))
            return any(s in text for s in stop)

        return kept[: bisect_left(range(len(kept)), True, key=stopped)] if stop else kept

    def _turn(self, message: ChatMessage) -> Turn:
        role = "user" if message.role == "tool" and not self._has_tool_role else message.role
        parts = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in message.parts]
        return {"role": role, "content": parts or [{"type": "text", "text": ""}]}

    def _render(self, turns: Sequence[Turn], generation_prompt: bool = True) -> str:
        """A template that takes no system message gets its parts at the head of the first message after it."""
        for attempt in (list(turns), _without_system(turns)):
            try:
                return str(
                    self._processor.apply_chat_template(
                        attempt, add_generation_prompt=generation_prompt, tokenize=False
                    )
                )
            except (TemplateError, TypeError) as error:
                reason = error
        raise ValueError(f"the chat template refuses this chat: {reason}") from reason

    def _lead(self, turns: Sequence[Turn], prompt: str) -> str:
        """Found by rendering an assistant's turn; empty where that does not begin as the prompt ends."""
        answer = "ANSWER"
        turn = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        begun, found, _ = self._render([*turns, turn], generation_prompt=False).rpartition(answer)
        return begun[len(prompt) :] if found and begun.startswith(prompt) else ""

    def _adds_special_tokens(self, text: str) -> bool:
        """Not where the template has written the token of the beginning itself."""
        bos = self.tokenizer.bos_token
        return bos is None or not text.startswith(bos)


def extended(tensors: Tensors, dropped: int, tokens: Tokens) -> Tensors:
    """A prompt of one with its last `dropped` tokens replaced by text `tokens`."""
    n_kept = tensors["input_ids"].shape[1] - dropped
    added = {"input_ids": list(tokens), "attention_mask": [1] * len(tokens)}
    result = dict(tensors)
    for name in TOKEN_TENSORS:
        if name in tensors:
            end = tensors[name].new_tensor([added.get(name, [0] * len(tokens))])
            result[name] = torch.cat([tensors[name][:, :n_kept], end], dim=1)
    return result


def picture_shapes(tensors: Tensors) -> frozenset[tuple[str, tuple[int, ...]]]:
    """The shapes, but for the first axis, in which the picture tensors of a batch have to agree."""
    return frozenset((name, tuple(t.shape[1:])) for name, t in tensors.items() if name not in TOKEN_TENSORS)


def collated(rows: Sequence[Tensors], pad_token: int, side: Literal["left", "right"] = "right") -> Tensors:
    """Prompts of one as one batch: token tensors padded on one side, picture tensors along their first axis.

    rows: with equal `picture_shapes`. side: right for a forward pass, since positions (mRoPE's, too) are then those of
    the row alone; left for generation, which goes on from the last token and reckons positions by the attention mask.
    """
    longest = max(row["input_ids"].shape[1] for row in rows)
    batch = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in TOKEN_TENSORS:
            fill = pad_token if name == "input_ids" else 0
            missing = [longest - v.shape[1] for v in values]
            around = [(n, 0) if side == "left" else (0, n) for n in missing]
            values = [torch.nn.functional.pad(v, n, value=fill) for v, n in zip(values, around, strict=True)]
        batch[name] = torch.cat(values)
    return batch


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    if len(turns) < 2 or turns[0]["role"] != "system":
        return list(turns)
    system, first, *rest = turns
    return [{"role": first["role"], "content": [*system["content"], *first["content"]]}, *rest]


def _picture(jpeg: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(jpeg)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"a picture of {len(jpeg)} bytes cannot be decoded: {error}") from error
