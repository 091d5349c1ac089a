"""In which form one server takes requests: learnt from what it refuses."""

import re
from typing import Any

from pipeline.models.refusals import Refusal
from schemas.errors import UserError

Body = dict[str, Any]

_AS_IT_IS = {"temperature": 1, "top_p": 1}
"""What leaves a model's own probabilities alone: a server that takes no such field does the same without it."""

_FOR_EASE = {"stop", "response_format"}
"""Whoever reads a reply copes without these: it cuts the text itself, and understands a plain answer as well."""

_OPTIONAL = ("max_tokens", *_AS_IT_IS, *_FOR_EASE)


class Dialect:
    """Changes how a request is said, never what is asked for; the key of a request does not depend on it.

    `max_tokens` becomes `max_completion_tokens` (OpenAI's reasoning models). Left out are `stop` and `response_format`,
    a temperature or top_p of 1, and a message without content, as of a model that said nothing (Anthropic, Gemini).
    What is learnt holds for the rest of the process.
    """

    def __init__(self, role: str) -> None:
        self._role = role
        self._renames = False
        self._left_out: set[str] = set()
        self._drops_empty = False
        self._taken: set[str] = set()

    def said(self, body: Body) -> Body:
        """A request in the form that the server takes, as far as it is known."""
        form = {name: value for name, value in body.items() if name not in self._left_out}
        if self._renames and "max_tokens" in form:
            form["max_completion_tokens"] = form.pop("max_tokens")
        if self._drops_empty:
            form["messages"] = [message for message in form["messages"] if message["content"]]
        return form

    def took(self, form: Body) -> None:
        """The server answered: a later refusal is not about the fields of this request."""
        self._taken |= form.keys()

    def learns(self, refusal: Refusal, body: Body, form: Body) -> bool:
        """Whether a refused request is worth sending once more, in another form. form: as it was sent.

        Raises UserError where the server takes no such temperature or top_p as the config asks for.
        """
        refused = [name for name in self._named(refusal, form) if not self._adapted(name, refusal, body)]
        if not refusal.fields and not all(message["content"] for message in form["messages"]):
            self._drops_empty = True
        learnt = _outline(self.said(body)) != _outline(form)
        if refused and not learnt:
            settings = " and ".join(f"{self._role}.{name}" for name in refused)
            raise UserError(f"the {self._role} endpoint refuses {settings}, leave it out of the job: {refusal.message}")
        return learnt

    def _named(self, refusal: Refusal, form: Body) -> list[str]:
        """Optional fields that a refusal names: apart from its message, or in it where nothing stands apart."""
        open_to_doubt = [name for name in _OPTIONAL if name in form and name not in self._taken]
        if refusal.fields:
            return [name for name in open_to_doubt if name in refusal.fields]
        return [name for name in open_to_doubt if re.search(rf"\b{name}\b", refusal.message)]

    def _adapted(self, name: str, refusal: Refusal, body: Body) -> bool:
        """Whether a field needs nothing that the config would have to say."""
        if name == "max_tokens":
            self._renames |= refusal.code == "unsupported_parameter" or "max_completion_tokens" in refusal.message
            return True
        if name in _FOR_EASE or body[name] == _AS_IT_IS[name]:
            self._left_out.add(name)
            return True
        return False


def _outline(form: Body) -> tuple[frozenset[str], int]:
    return frozenset(form), len(form["messages"])
