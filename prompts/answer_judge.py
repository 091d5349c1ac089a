"""What a judge is asked about an open answer that no rule decides, and what its reply says."""

import re
from collections.abc import Mapping

from prompts.judging import YES_NO
from prompts.rendering import message, plain
from prompts.template import fill
from schemas.chat import Message
from schemas.question import Question

_THOUGHTS = re.compile(r"<think>.*?</think>|^.*</think>", re.DOTALL)
_FIRST = re.compile(r"(yes|no)(?=[\s]*(?:[.,:;!\n]|$))")
_LAST = re.compile(r"(?:^|\n)\W*(?:(?:the )?(?:final )?(?:answer|verdict|judge?ment)(?: is)?\W+)?(yes|no)\W*$")


def judge_messages(answer: str, question: Question) -> tuple[Message, ...]:
    """The question, its reference and the answer, to be compared by a single yes or no."""
    fields = {"question": question.text, "reference": question.answer_text, "answer": answer}
    return asked("judge_answer", fields)


def asked(template: str, texts: Mapping[str, str]) -> tuple[Message, ...]:
    """A judge's template, filled with texts from outside."""
    return (message("user", [fill(template, {name: _fenced(text) for name, text in texts.items()})]),)


def judgement(reply: str) -> bool | None:
    """Yes or no, as the first word of a reply or as its last line; None where it says neither, or both."""
    said = re.sub(r"[*`\"']", "", _THOUGHTS.sub("", reply)).strip().casefold()
    found = {match[1] for match in (_FIRST.match(said), _LAST.search(said)) if match}
    return found == {YES_NO[0]} if len(found) == 1 else None


def _fenced(text: str) -> str:
    """A text from outside that cannot close its own fence."""
    return re.sub(r"^(?=\s*-{3,}\s*$)", "| ", plain(text.strip()), flags=re.MULTILINE)
