"""What the renderers of all protocols share: safe text, questions, and the walk over a dialogue's turns."""

import re
from collections.abc import Callable, Iterable, Sequence

from prompts.protocol import Step, ZoomProtocol
from schemas.chat import Message, Role
from schemas.question import Question
from schemas.trajectory import Dialogue, Turn
from schemas.video import Frame

Part = str | Frame

_PLACEHOLDER = re.compile(r"<(?=(?:image|video|audio)>|\|)")


def plain(text: str) -> str:
    """Text from outside, with a space put into each media placeholder and special token (`<image>` -> `< image>`).

    Else a caption could add an `<image>` without a frame to a training row, or end a message with `<|im_end|>`.
    """
    return _PLACEHOLDER.sub("< ", text)


def question_text(question: Question) -> str:
    """The question, then each choice on a line of its own: `A. first choice`."""
    return "\n".join((plain(question.text), *choice_lines(question)))


def choice_lines(question: Question) -> list[str]:
    """Each choice as `A. first choice`; none for an open question."""
    return [f"{letter}. {plain(text)}" for letter, text in zip(question.letters, question.choices, strict=True)]


def message(role: Role, parts: Iterable[Part]) -> Message:
    """A message whose neighbouring texts are joined and whose empty texts are left out."""
    joined: list[Part] = []
    for part in parts:
        if not isinstance(part, str):
            joined.append(part)
        elif joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part:
            joined.append(part)
    # Each part is of its type: to look at it again would take longer than all else.
    return Message.model_construct(role=role, parts=tuple(joined))


def conversation(
    protocol: ZoomProtocol,
    opening: Sequence[Message],
    dialogue: Dialogue,
    observed: Callable[[int, Turn], Iterable[Part]],
    hint: str,
    role: Role = "user",
) -> tuple[Message, ...]:
    """The opening, then each turn as an assistant message and, where it brought something, a message of `role`.

    observed: what the message after turn `number` (from 0) holds. hint: appended to the last message that the model
    did not write.
    """
    messages = list(opening)
    for number, turn in enumerate(dialogue.turns):
        messages.append(said(protocol, turn))
        if turn.observations:
            messages.append(message(role, observed(number, turn)))
    if hint:
        last = max(i for i, m in enumerate(messages) if m.role != "assistant")
        messages[last] = message(messages[last].role, (*messages[last].parts, f"\n\n{hint}"))
    return tuple(messages)


def said(protocol: ZoomProtocol, turn: Turn) -> Message:
    """A turn as an assistant message: its canonical text; as the model wrote it where it could not be parsed."""
    text = protocol.write(Step(turn.think, turn.actions)) if turn.actions else plain(turn.raw)
    return Message(role="assistant", parts=(text,) if text else (), trainable=turn.trainable, origin=turn.origin)


def states(protocol: ZoomProtocol, dialogue: Dialogue) -> list[tuple[Message, ...]]:
    """The conversations that a dialogue teaches: one for each turn of a stateless protocol, which is the state before
    it and its text; else the whole dialogue as one."""
    if not protocol.stateless:
        return [protocol.messages(dialogue)]
    before = (dialogue.model_copy(update={"turns": dialogue.turns[:k]}) for k in range(len(dialogue.turns)))
    return [
        (*protocol.messages(state), said(protocol, turn)) for state, turn in zip(before, dialogue.turns, strict=True)
    ]
