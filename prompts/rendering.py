"""What the renderers of all protocols share: safe text, questions, and the walk over a dialogue's turns."""

import re
from collections.abc import Callable, Iterable, Sequence

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
    choices = (f"{letter}. {plain(text)}" for letter, text in zip(question.letters, question.choices, strict=True))
    return "\n".join((plain(question.text), *choices))


def message(role: Role, parts: Iterable[Part], trainable: bool = False) -> Message:
    """A message whose neighbouring texts are joined and whose empty texts are left out."""
    joined: list[Part] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return Message(role=role, parts=tuple(joined), trainable=trainable)


def conversation(
    opening: Sequence[Message],
    dialogue: Dialogue,
    written: Callable[[Turn], str],
    observed: Callable[[int, Turn], Iterable[Part]],
    hint: str,
) -> tuple[Message, ...]:
    """The opening, then each turn as an assistant message and, where it brought something, a user message.

    written: the canonical text of a turn with actions; a turn that could not be parsed is shown as the model wrote it.
    observed: what the user message after turn `number` (from 0) holds. hint: appended to the last user message.
    """
    messages = list(opening)
    for number, turn in enumerate(dialogue.turns):
        text = written(turn) if turn.actions else plain(turn.raw)
        messages.append(message("assistant", (text,), trainable=turn.trainable))
        if turn.observations:
            messages.append(message("user", observed(number, turn)))
    if hint:
        last = max(i for i, m in enumerate(messages) if m.role == "user")
        messages[last] = message("user", (*messages[last].parts, f"\n\n{hint}"))
    return tuple(messages)
