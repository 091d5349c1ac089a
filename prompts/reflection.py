"""Reflection, as in VideoZoomer (`scripts/video_eval/reflection.py`): a teacher continues a rollout that went wrong.

The wrong rollout, without its final answer, is told to the teacher in one user message; the reference answer is not.
Upstream has a system prompt of its own for this; here it stays the protocol's, so that every protocol whose messages
grow can reflect. The training row knows nothing of it: there the teacher's turns simply follow the wrong ones.
"""

from collections.abc import Iterable

from prompts.protocol import ZoomProtocol
from prompts.rendering import Part, message
from prompts.template import fill
from schemas.chat import Message
from schemas.trajectory import Dialogue


def reflecting(protocol: ZoomProtocol, dialogue: Dialogue, n_wrong: int) -> tuple[Message, ...]:
    """The messages that ask a teacher for the next turn of a dialogue whose first `n_wrong` turns went wrong."""
    messages = protocol.messages(dialogue)
    wrong = dialogue.model_copy(update={"turns": dialogue.turns[:n_wrong]})
    told = protocol.messages(wrong)
    system = tuple(m for m in told if m.role == "system")
    request = message("user", (*_told(told), fill("reflection", {"turns": dialogue.max_turns - n_wrong})))
    return (*system, request, *messages[len(told) :])


def _told(messages: Iterable[Message]) -> Iterable[Part]:
    for told in messages:
        if told.role != "system":
            yield f"{told.role}:\n"
            yield from told.parts
            yield "\n\n"
