"""Splitting a model text into its thought and its one action. Nothing a model wrote is ever evaluated as code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prompts.protocol import Fault, Step
from schemas.trajectory import Action

RESERVED = ("<image>", "<video>", "<audio>", "<|")
"""Texts that a trainer or a tokenizer gives a meaning of its own: media placeholders and special tokens."""


@dataclass(frozen=True)
class Parts:
    """A model text of the form `<think>…</think><tag>content</tag>`; both texts without outer whitespace."""

    think: str
    tag: str
    content: str


def parse_step(
    text: str, action_tags: Sequence[str], tags: Sequence[str], call: Callable[[str], Action | Fault]
) -> Step | Fault:
    """The step that a model text means: `<answer>` holds the answer's text, the other action tag a call. Never raises.

    call: reads the content of the other tag; for the rest see `split_text`.
    """
    parts = split_text(text, action_tags, tags)
    if isinstance(parts, Fault):
        return parts
    if parts.tag == "answer":
        if not parts.content:
            return Fault("no_answer", "The answer inside <answer> and </answer> is empty.")
        return Step(parts.think, (Action(call_id="", kind="answer", answer=parts.content),))
    action = call(parts.content)
    return action if isinstance(action, Fault) else Step(parts.think, (action,))


def split_text(text: str, action_tags: Sequence[str], tags: Sequence[str]) -> Parts | Fault:
    """The thought and the first action of a model text; what follows the first action is cut. Never raises.

    tags: names of all of the protocol's tags; none of them may stand inside the thought or the action, so that the
    canonical text parses to itself. The closing tag may be missing at the very end of the text, where a server drops
    the text it stopped at.
    """
    thought = _split_thought(text)
    if isinstance(thought, Fault):
        return thought
    think, rest = thought
    return _first_action(think, rest, action_tags, tags)


def split_calls(text: str, call_tag: str, action_tags: Sequence[str], tags: Sequence[str]) -> tuple[Parts, ...] | Fault:
    """As `split_text`, with every action of the tag `call_tag` that follows the first at once. Never raises."""
    thought = _split_thought(text)
    if isinstance(thought, Fault):
        return thought
    think, rest = thought
    found = _first_action(think, rest, action_tags, tags)
    calls: list[Parts] = []
    while not isinstance(found, Fault):
        calls.append(found)
        rest = rest.partition(f"</{found.tag}>")[2].lstrip()
        if found.tag != call_tag or not rest.startswith(f"<{call_tag}>"):
            return tuple(calls)
        found = _first_action(think, rest, (call_tag,), tags)
    return found


def _split_thought(text: str) -> tuple[str, str] | Fault:
    """The thought, and what follows it, without outer whitespace."""
    rest = text.strip()
    if not rest.startswith("<think>"):
        if "<think>" in rest:
            return Fault("stray_text", "Nothing may stand before <think>.")
        return Fault("no_think", "Reason first, inside <think> and </think>.")
    think, closed, rest = rest.removeprefix("<think>").partition("</think>")
    think, rest = think.strip(), rest.lstrip()
    if not closed:
        return Fault("no_think", "The thought was not closed by </think>.")
    if not think:
        return Fault("no_think", "The thought inside <think> and </think> is empty.")
    return think, rest


def _first_action(think: str, rest: str, action_tags: Sequence[str], tags: Sequence[str]) -> Parts | Fault:
    tag = next((name for name in action_tags if rest.startswith(f"<{name}>")), None)
    if tag is None:
        return _without_action(rest, action_tags)
    content, closed, _ = rest.removeprefix(f"<{tag}>").partition(f"</{tag}>")
    if not closed and "</" in content:
        return Fault("not_closed", f"<{tag}> was not closed by </{tag}>.")
    content = content.strip()
    return forbidden(think, tags) or forbidden(content, tags) or Parts(think, tag, content)


def _without_action(rest: str, action_tags: Sequence[str]) -> Fault:
    names = " or ".join(f"<{name}>" for name in action_tags)
    if any(f"<{name}>" in rest for name in action_tags):
        return Fault("stray_text", f"Nothing may stand between </think> and {names}.")
    return Fault("no_action", f"The thought must be followed by {names}.")


def forbidden(text: str, tags: Sequence[str]) -> Fault | None:
    """What must not stand inside a thought, an answer or a query: the protocol's tags and reserved texts."""
    if any(f"<{name}>" in text or f"</{name}>" in text for name in tags):
        return Fault("nested_tag", "A tag stands inside another tag.")
    if any(mark in text for mark in RESERVED):
        return Fault("reserved_text", "The text holds a marker that is reserved for media or special tokens.")
    return None
