"""How many tokens a row is for a model: its chat template over the row's messages, pictures included."""

import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from PIL import Image

from pipeline.shards.formats.layout import PLACEHOLDER
from schemas.errors import UserError
from schemas.samples import SampleMessage
from schemas.video import Frame


class TokenCounter:
    """Counts with the processor of a model, else with its tokenizer.

    name: a folder, or a model on the hub. Raises UserError where it cannot be loaded or has no chat template.

    Counted is the whole chat template, system text and all, with the opening of the next turn where the row ends before
    an assistant message. With a processor a picture counts what the processor makes of one of its size; with a
    tokenizer alone (`sees` is False) each `<image>` counts as the text that it is.
    """

    def __init__(self, name: str) -> None:
        transformers: Any = importlib.import_module("transformers")
        transformers.logging.disable_progress_bar()
        try:
            self._maker = transformers.AutoProcessor.from_pretrained(name, trust_remote_code=False)
        except ImportError as error:
            raise UserError(f"tokenizer {name}: its processor needs torchvision; install zoomtrail[qwen]") from error
        except (OSError, ValueError, KeyError):
            self._maker = _tokenizer(transformers, name)
        self.sees = hasattr(self._maker, "image_processor")
        self._tokenizer = self._maker.tokenizer if hasattr(self._maker, "tokenizer") else self._maker
        if not self._maker.chat_template:
            raise UserError(f"tokenizer {name} has no chat template: choose an instruction-tuned model's")
        self._picture_tokens = cache(self._count_picture)

    def count(self, messages: Sequence[SampleMessage], images: Sequence[Frame]) -> int:
        """Tokens of a row."""
        opening = messages[-1].role != "assistant"
        chat = [{"role": m.role, "content": self._content(m.content)} for m in messages]
        text = self._maker.apply_chat_template(chat, tokenize=False, add_generation_prompt=opening)
        tokens = len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        return tokens + (sum(self._picture_tokens(i.width, i.height) - 1 for i in images) if self.sees else 0)

    def _content(self, text: str) -> Any:
        if not self.sees:
            return text
        parts: list[dict[str, str]] = []
        for number, span in enumerate(text.split(PLACEHOLDER)):
            parts += [{"type": "image"}] if number else []
            parts += [{"type": "text", "text": span}] if span else []
        return parts

    def _count_picture(self, width: int, height: int) -> int:
        """Tokens that the processor puts in the place of the one image token of a template's text."""
        blank = Image.new("RGB", (width, height))
        made = self._maker(text=[self._maker.image_token], images=[[blank]], add_special_tokens=False)
        return len(made["input_ids"][0])


def _tokenizer(transformers: Any, name: str) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(f"tokenizer {name} cannot be loaded ({reason})") from error
