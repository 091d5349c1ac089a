"""The embedded model's processor: a byte-level tokenizer that knows the demo's words, and the picture settings."""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.demo.training.network import TOKENS
from pipeline.demo.training.pictures import SIDE
from schemas.chat import Message

SPECIAL = ["<pad>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>"]
PICTURE = "<fake_token_around_image><global-img>" + "<image>" * TOKENS + "<fake_token_around_image>"
"""What the processor makes of one `<image>` of the template."""

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}: "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}<image>{% endif %}{% endfor %}{% endif %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant:{% endif %}"
)


def rendered(messages: Sequence[Message]) -> str:
    """A chat as TEMPLATE and the processor write it, up to where the assistant's text begins."""
    turns = ""
    for message in messages:
        text = "".join(part if isinstance(part, str) else PICTURE for part in message.parts)
        turns += f"<|im_start|>{message.role}: {text}<end_of_utterance>\n"
    return f"{turns}<|im_start|>assistant:"


def answered(text: str) -> str:
    """The assistant's text and the end of its turn."""
    return f" {text}<end_of_utterance>"


def processor(texts: Iterable[str]) -> Any:
    """A processor whose tokenizer is trained on texts; any other text can be written with it, too, byte by byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    transformers: Any = importlib.import_module("transformers")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1400, special_tokens=SPECIAL, initial_alphabet=alphabet, min_frequency=4, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        padding_side="left",
    )
    fast.add_special_tokens({"additional_special_tokens": SPECIAL[3:]})
    side = {"longest_edge": SIDE}
    pictures = transformers.Idefics3ImageProcessor(
        do_resize=False,  # the step after it squeezes into a square; this one would lose lines first
        do_image_splitting=False,
        size=side,
        max_image_size=side,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return transformers.Idefics3Processor(pictures, fast, image_seq_len=TOKENS, chat_template=TEMPLATE)
