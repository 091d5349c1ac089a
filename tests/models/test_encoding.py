from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor

from pipeline.models.chat import ChatMessage
from pipeline.models.encoding import ChatEncoder, Prompt
from tests.models.chats import chat, jpeg


@pytest.fixture(scope="module")
def processor(model_path: Path) -> Any:
    return AutoProcessor.from_pretrained(model_path)


@pytest.fixture(scope="module")
def encoder(processor: Any) -> ChatEncoder:
    return ChatEncoder(processor)


def plain(encoder: ChatEncoder, text: str) -> list[int]:
    return list(encoder.tokenizer(text)["input_ids"])


def test_lead_is_what_the_template_writes_before_an_answer(encoder: ChatEncoder) -> None:
    prompt = encoder.prompt(chat([jpeg(0)]))
    expected = " " if prompt.text.endswith("Assistant:") else ""
    assert prompt.lead == expected


def test_tails_follow_the_prompt(encoder: ChatEncoder) -> None:
    prompt = encoder.prompt(chat([jpeg(0)]))
    choices = ("A", "The answer is B")
    dropped, tails = encoder.tails(prompt, choices)
    assert dropped == 0
    assert len(tails[0]) == 1
    for choice, tail in zip(choices, tails, strict=True):
        assert plain(encoder, prompt.text) + list(tail) == plain(encoder, prompt.text + prompt.lead + choice)


def test_a_token_across_the_boundary_is_scored_as_the_tokenizer_writes_it(encoder: ChatEncoder, processor: Any) -> None:
    """A template that ends in a space: ` A` is one token, so the prompt gives its space away."""
    text = encoder.prompt(chat([])).text + " "
    spaced = Prompt(text, "", dict(processor(text=[text], return_tensors="pt")))
    dropped, tails = encoder.tails(spaced, ("A", "B"))
    assert dropped == 1
    assert [encoder.tokenizer.decode(tail) for tail in tails] == [" A", " B"]


def test_a_text_that_spells_the_placeholder_is_refused(encoder: ChatEncoder, processor: Any) -> None:
    with pytest.raises(ValueError, match="1 pictures, but 2"):
        encoder.prompt(chat([jpeg(0)], f"What is {processor.image_token} here?"))
    with pytest.raises(ValueError, match="0 pictures, but 1"):
        encoder.prompt(chat([], f"What is {processor.image_token} here?"))


def test_broken_pictures_and_empty_choices_are_refused(encoder: ChatEncoder) -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        encoder.prompt(chat([jpeg(0)[:100]]))
    with pytest.raises(ValueError, match="a choice is empty"):
        encoder.tails(encoder.prompt(chat([])), ("", "A"))


def test_parts_keep_their_order_and_tool_speaks_as_user(encoder: ChatEncoder, processor: Any) -> None:
    first, second = ChatMessage("user", ("one", "two", jpeg(0), "three")), ChatMessage("tool", ("four", jpeg(1)))
    text = encoder.prompt((first, ChatMessage("assistant", ("zoom",)), second)).text
    pieces = ["one", "two", processor.image_token, "three", "zoom", "four", processor.image_token]
    places, at = [], 0
    for piece in pieces:
        at = text.index(piece, at)
        places.append(at)
    assert places == sorted(places)
    assert "onetwo" in text
    assert "tool" not in text.lower()


REFUSES_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"


def test_a_template_without_system_role_gets_it_in_the_first_message(processor: Any) -> None:
    original = processor.chat_template
    try:
        processor.chat_template = REFUSES_SYSTEM + original
        text = ChatEncoder(processor).prompt(chat([jpeg(0)], "What?")).text
    finally:
        processor.chat_template = original
    assert text.index("Answer briefly.") < text.index(processor.image_token) < text.index("What?")
