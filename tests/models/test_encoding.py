from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from pipeline.models import shown
from pipeline.models.chat import ChatMessage
from pipeline.models.encoding import ChatEncoder, Rendered, without_pixels
from schemas.errors import Rejected
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
    asked = encoder.rendered(chat([jpeg(0)]))
    expected = " " if asked.text.endswith("Assistant:") else ""
    assert asked.lead == expected


def test_choices_follow_the_chat(encoder: ChatEncoder) -> None:
    asked = encoder.rendered(chat([jpeg(0)]))
    choices = ("A", "The answer is B")
    shared, endings = encoder.endings(asked, choices)
    assert shared == len(plain(encoder, asked.text)) == len(endings[0].tokens) - 2
    for choice, ending in zip(choices, endings, strict=True):
        assert list(ending.tokens) == plain(encoder, asked.text + asked.lead + choice + asked.end)


def test_a_token_across_the_boundary_is_scored_as_the_tokenizer_writes_it(encoder: ChatEncoder) -> None:
    """A template that ends in a space: ` A` is one token, so the prompt gives its space away."""
    spaced = Rendered(encoder.rendered(chat([])).text + " ", "", ())
    shared, endings = encoder.endings(spaced, ("A", "B"))
    assert shared == len(plain(encoder, spaced.text)) - 1
    assert [encoder.tokenizer.decode(ending.tokens[shared:]) for ending in endings] == [" A", " B"]


def test_a_chat_is_put_together_as_the_processor_writes_it(encoder: ChatEncoder) -> None:
    """Pictures side by side and apart, of sizes seen before and new ones; and the pixels are left out."""
    for pictures in ([], [jpeg(1)], [jpeg(2, 40, 40), jpeg(3), jpeg(4, 96, 32)]):
        asked = encoder.rendered((*chat(pictures), ChatMessage("assistant", ("I look.",)), *chat(pictures[:1])[1:]))
        own = without_pixels(encoder.processed(asked.text, asked.pictures).tensors)
        composed = encoder.composed(asked).tensors
        assert own.keys() == composed.keys()
        assert all(torch.equal(own[name], composed[name]) for name in own)


def test_a_text_that_spells_the_placeholder_is_refused(encoder: ChatEncoder, processor: Any) -> None:
    with pytest.raises(Rejected, match="1 pictures, but 2"):
        encoder.prompt(chat([jpeg(0)], f"What is {processor.image_token} here?"))
    with pytest.raises(Rejected, match="0 pictures, but 1"):
        encoder.prompt(chat([], f"What is {processor.image_token} here?"))


def test_broken_pictures_and_empty_choices_are_refused(encoder: ChatEncoder) -> None:
    with pytest.raises(Rejected, match="cannot be decoded"):
        encoder.prompt(chat([jpeg(0)[:100]]))
    with pytest.raises(Rejected, match="a choice is empty"):
        encoder.endings(encoder.rendered(chat([])), ("", "A"))


def test_parts_keep_their_order_and_tool_speaks_as_user(encoder: ChatEncoder, processor: Any) -> None:
    first, second = ChatMessage("user", ("one", "two", jpeg(0), "three")), ChatMessage("tool", ("four", jpeg(1)))
    text = encoder.rendered((first, ChatMessage("assistant", ("zoom",)), second)).text
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
        text = ChatEncoder(processor).rendered(chat([jpeg(0)], "What?")).text
    finally:
        processor.chat_template = original
    assert text.index("Answer briefly.") < text.index(processor.image_token) < text.index("What?")


def test_a_text_that_another_goes_on_from_ends_with_the_turn(encoder: ChatEncoder) -> None:
    asked = encoder.rendered(chat([jpeg(0)]))
    choices = ("red", "red and blue")
    shared, endings = encoder.endings(asked, choices)
    tails = [encoder.tokenizer.decode(ending.tokens[shared:]) for ending in endings]
    assert tails == [asked.lead + choice + asked.end for choice in choices]
    assert asked.end == encoder.tokenizer.eos_token
    _, letters = encoder.endings(asked, ("A", "B"))
    assert all(ending.text == asked.text + asked.lead + letter for letter, ending in zip("AB", letters, strict=True))


def test_a_long_prompt_is_put_into_tokens_once(encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    kind, asked = type(encoder.tokenizer), encoder.rendered(chat([jpeg(0)] * 30, "What?"))
    tokenize = kind.__call__

    def watched(self: Any, text: str, **settings: Any) -> Any:
        written.append(text)
        return tokenize(self, text, **settings)

    monkeypatch.setattr(kind, "__call__", watched)
    _, endings = encoder.endings(asked, ("A", "B", "C", "D"))
    assert sum(text.count(encoder.placeholder or "") for text in written) < 2 * 30
    assert [list(e.tokens) for e in endings] == [plain(encoder, e.text) for e in endings]


def test_chats_that_show_the_same_pictures_open_each_once(
    encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []
    by_hand = shown._opened

    def watched(picture: bytes) -> Any:
        opened.append(picture)
        return by_hand(picture)

    monkeypatch.setattr(shown, "_opened", watched)
    pictures = [jpeg(0), jpeg(1, 40, 40)]
    first, second = encoder.all_rendered([chat(pictures), chat(pictures[::-1])])
    assert opened == pictures
    assert first.pictures == second.pictures[::-1] and [p.size for p in first.pictures] == [(64, 48), (40, 40)]
