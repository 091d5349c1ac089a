"""Chats as a transformers model reads them: its chat template, its tokens, its picture tensors."""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jinja2 import TemplateError

from pipeline.models.chat import ChatMessage
from pipeline.models.scoring import Tokens, common_prefix_length
from pipeline.models.shown import Gallery, Shown
from schemas.errors import Rejected

Tensors = dict[str, torch.Tensor]

TOKEN_TENSORS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""What a processor gives per token, shape (1, tokens); all else it gives per picture."""

_COUNT = "batch_num_images"
"""The tensor in which a processor that reads a picture alone otherwise than in company tells how many there are."""

Turn = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """A chat as its template writes it, up to where the assistant's reply begins.

    text: with one placeholder per picture. lead: what the template puts between this and an assistant's text (SmolVLM:
    a space). pictures: in the order of their placeholders. end: the token that ends an assistant's turn.
    """

    text: str
    lead: str
    pictures: tuple[Shown, ...]
    end: str = ""


@dataclass(frozen=True)
class Ending:
    """A chat with an assistant's text. tokens: with a picture as one, its placeholder."""

    text: str
    tokens: Tokens


@dataclass(frozen=True)
class Prompt:
    """A rendered chat as tensors: a batch of one, as the model's forward takes it."""

    tensors: Tensors
    pictures: tuple[Shown, ...] = ()

    @property
    def n_tokens(self) -> int:
        return self.tensors["input_ids"].shape[1]


@dataclass(frozen=True)
class Span:
    """What each picture of one size becomes. tokens: those that take its placeholder's place.

    tensors: a batch of one without its pixels; shapes: its `picture_shapes`.
    """

    tokens: Tokens
    tensors: Tensors
    shapes: frozenset[tuple[str, tuple[int, ...]]]


class ChatEncoder:
    """A model's processor, given one chat at a time, so that no picture is padded for the sake of another chat."""

    def __init__(self, processor: Any) -> None:
        """processor: as AutoProcessor loads it, with a chat template."""
        self._processor = processor
        self.tokenizer = processor.tokenizer
        template = str(processor.chat_template)
        self.placeholder: str | None = getattr(processor, "image_token", None)
        self.placeholder_token = self.tokenizer.convert_tokens_to_ids(self.placeholder) if self.placeholder else None
        self._minds_company = _COUNT in getattr(processor.image_processor, "model_input_names", ())
        self._spans: dict[tuple[tuple[int, int], bool], Span] = {}
        self._has_tool_role = "'tool'" in template or '"tool"' in template

    def rendered(self, messages: Sequence[ChatMessage]) -> Rendered:
        """Raises Rejected where the template cannot render the chat, a picture is none, or pictures and placeholders
        differ in number (a text that spells the model's placeholder)."""
        return self.all_rendered([messages])[0]

    def all_rendered(self, chats: Sequence[Sequence[ChatMessage]]) -> list[Rendered]:
        """As `rendered`, for chats that show the same pictures."""
        gallery = Gallery(self._minds_company)
        return [self._rendered(messages, gallery) for messages in chats]

    def _rendered(self, messages: Sequence[ChatMessage], gallery: Gallery) -> Rendered:
        turns = [self._turn(message) for message in messages]
        text = self._render(turns)
        pictures = gallery.shown([part for message in messages for part in message.parts if isinstance(part, bytes)])
        if self.placeholder is not None and text.count(self.placeholder) != len(pictures):
            raise Rejected(
                "bad_prompt",
                f"{len(pictures)} pictures, but {text.count(self.placeholder)} {self.placeholder} in the prompt",
            )
        lead, end = self._around(turns, text)
        return Rendered(text, lead, pictures, end)

    def prompt(self, messages: Sequence[ChatMessage]) -> Prompt:
        """Raises Rejected as `rendered` does, and where a picture cannot be decoded."""
        chat = self.rendered(messages)
        return self.processed(chat.text, chat.pictures)

    def processed(self, text: str, pictures: Sequence[Shown]) -> Prompt:
        """A rendered text and its pictures by the model's own processor."""
        inputs = self._processor(
            text=[text],
            images=[[picture.image() for picture in pictures]] if pictures else None,
            add_special_tokens=self._adds_special_tokens(text),
            return_tensors="pt",
        )
        return Prompt(dict(inputs), tuple(pictures))

    def composed(self, chat: Rendered) -> Prompt:
        """As `prompt`, but without pixels, and put together from what pictures of such sizes are known to become."""
        if not chat.pictures:
            return self.processed(chat.text, ())
        spans = [self.span(picture).tensors for picture in chat.pictures]
        left = iter(spans)
        columns: dict[str, list[int]] = {name: [] for name in TOKEN_TENSORS if name in spans[0]}
        for token in self.tokens(chat.text):
            span = next(left) if token == self.placeholder_token else None
            own = {"input_ids": token, "attention_mask": 1}
            for name, column in columns.items():
                column += span[name][0].tolist() if span else [own.get(name, 0)]
        per_token = {name: torch.tensor([column]) for name, column in columns.items()}
        per_picture = {name: torch.cat([s[name] for s in spans]) for name in spans[0] if name not in columns}
        if _COUNT in per_picture:
            per_picture[_COUNT] = torch.tensor([len(chat.pictures)])
        return Prompt(per_token | per_picture, chat.pictures)

    def picture(self, picture: Shown) -> Tensors:
        """One picture as the vision tower takes it. Raises Rejected where it cannot be decoded."""
        company = [picture.image()] * self._together(picture)
        return _first(dict(self._processor.image_processor(images=[company], return_tensors="pt")), len(company))

    def span(self, picture: Shown) -> Span:
        """What a picture becomes among a prompt's tokens, which follows from its size, and from whether it is alone."""
        key = picture.size, picture.alone
        if key not in self._spans:
            n = self._together(picture)
            inputs = self._processor(
                text=[(self.placeholder or "") * n],
                images=[[picture.image()] * n],
                add_special_tokens=False,
                return_tensors="pt",
            )
            own = _first(dict(inputs), n)
            tensors = without_pixels(own)
            self._spans[key] = Span(tuple(tensors["input_ids"][0].tolist()), tensors, picture_shapes(own))
        return self._spans[key]

    def _together(self, picture: Shown) -> int:
        """How many of a picture the processor is given, so that it writes each as it does in the picture's chat."""
        return 2 if self._minds_company and not picture.alone else 1

    def endings(self, chat: Rendered, choices: Sequence[str]) -> tuple[int, list[Ending]]:
        """The chat with each choice as the assistant's text, and how many tokens the bare chat has in common with all.

        Chat and choice are tokenised as one text, since a token may span their boundary: then the last of the chat's
        own tokens are those of the choices. Choices that differ by more than their last token end with the turn's end,
        so that a text is not as likely as all that go on from it.
        """
        plain = self.tokens(chat.text)
        full = self._endings(chat, plain, choices)
        if len({ending.tokens[:-1] for ending in full}) > 1:
            full = self._endings(chat, plain, [choice + chat.end for choice in choices])
        shared = common_prefix_length([plain, *(ending.tokens for ending in full)])
        if not all(choices) or any(len(ending.tokens) == shared for ending in full):
            raise Rejected("bad_prompt", f"a choice is empty: {list(choices)!r}")
        return shared, full

    def _endings(self, chat: Rendered, plain: Tokens, choices: Sequence[str]) -> list[Ending]:
        """plain: the chat's tokens. Those up to the last picture are written once: no token spans a placeholder."""
        texts = [chat.text + chat.lead + choice for choice in choices]
        at = chat.text.rfind(self.placeholder) if self.placeholder else -1
        last = self._plainly(chat.text[at:]) if at >= 0 else ()
        if not last or plain[-len(last) :] != last:
            return [Ending(text, self.tokens(text)) for text in texts]
        return [Ending(text, plain[: -len(last)] + self._plainly(text[at:])) for text in texts]

    def tokens(self, text: str) -> Tokens:
        """A rendered text in tokens, a placeholder as one."""
        return tuple(self.tokenizer(text, add_special_tokens=self._adds_special_tokens(text))["input_ids"])

    def _plainly(self, text: str) -> Tokens:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

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
        raise Rejected("bad_prompt", f"the chat template refuses this chat: {reason}") from reason

    def _around(self, turns: Sequence[Turn], prompt: str) -> tuple[str, str]:
        """What the template writes before an assistant's text, and the token that it writes after it.

        Found by rendering such a turn. Nothing before where that does not begin as the prompt ends; where no token
        comes after, the tokenizer's own end.
        """
        answer = "ANSWER"
        turn = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        begun, found, after = self._render([*turns, turn], generation_prompt=False).rpartition(answer)
        lead = begun[len(prompt) :] if found and begun.startswith(prompt) else ""
        ends = [token for token in self.tokenizer.get_added_vocab() if found and after.startswith(token)]
        return lead, max(ends, key=len, default=self.tokenizer.eos_token or "")

    def _adds_special_tokens(self, text: str) -> bool:
        """Not where the template has written the token of the beginning itself."""
        bos = self.tokenizer.bos_token
        return bos is None or not text.startswith(bos)


def without_pixels(tensors: Tensors) -> Tensors:
    """A prompt's tensors but for its pictures' pixels and their mask. Grids stay: positions follow from them."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("pixel_")}


def picture_shapes(tensors: Tensors) -> frozenset[tuple[str, tuple[int, ...]]]:
    """The shapes, but for the first axis, in which the picture tensors of a batch have to agree."""
    return frozenset((name, tuple(t.shape[1:])) for name, t in tensors.items() if name not in TOKEN_TENSORS)


def _first(tensors: Tensors, n: int) -> Tensors:
    """What a processor makes of one of n equal pictures side by side; their count stays."""
    return {
        name: t[:, : t.shape[1] // n] if name in TOKEN_TENSORS else t if name == _COUNT else t[: len(t) // n]
        for name, t in tensors.items()
    }


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
