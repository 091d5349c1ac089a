"""What a judge is asked about texts that must not betray a hint, or the reference answer."""

from collections.abc import Sequence

from prompts.answer_judge import asked
from prompts.rendering import question_text
from schemas.chat import Message
from schemas.question import Question


def hint_leak_messages(question: Question, hints: Sequence[str], written: Sequence[str]) -> tuple[Message, ...]:
    """Whether what was written after hints betrays them. written: the texts of the turns."""
    fields = {"question": question_text(question), "hint": "\n".join(hints), "text": "\n".join(written)}
    return asked("judge_hint_leak", fields)


def gold_leak_messages(question: Question, before: Sequence[str], after: Sequence[str]) -> tuple[Message, ...]:
    """Whether texts betray that the reference answer was known. before: those up to the first look, after: the rest."""
    answer = f"{question.answer_letter}. {question.answer_text}" if question.answer_letter else question.answer_text
    fields = {"question": question_text(question), "answer": answer}
    return asked("judge_gold_leak", fields | {"before": "\n".join(before), "after": "\n".join(after)})
