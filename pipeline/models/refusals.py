"""What a server says when it refuses a request, whichever form it says it in."""

from dataclasses import dataclass
from typing import Any

_MODERATION = {"content_filter", "content_policy_violation"}
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached"}
_MOST = 300
"""Characters kept of a server's message."""


@dataclass(frozen=True)
class Refusal:
    """message: in the server's own words; code: its short name of the fault, "" where it has none.

    fields: of the request, that it names apart from the message. withheld: a moderation does not let the request pass.
    no_credit: nothing is sold to this key any more, however long one waits.
    """

    message: str
    code: str
    fields: tuple[str, ...]
    withheld: bool
    no_credit: bool


def refusal_of(body: object) -> Refusal:
    """The refusal in the body of an error: OpenAI's `error` object, a list around it (Gemini), `detail` of a server
    made with FastAPI (`transformers serve`, Mistral), or plain text. The openai client has taken `error` off already.
    """
    if isinstance(body, list):
        body = body[0] if body else None
    if isinstance(body, dict) and "error" in body:
        body = body["error"]
    if not isinstance(body, dict):
        return Refusal(str(body or "")[:_MOST], "", (), False, False)
    message = body.get("message")
    detail = message.get("detail") if isinstance(message, dict) else body.get("detail")
    metadata = body.get("metadata") if isinstance(body.get("metadata"), dict) else {}
    code = str(body.get("code") or "")
    return Refusal(
        message=_said(detail if detail is not None else message)[:_MOST],
        code=code,
        fields=_fields(body.get("param"), detail),
        withheld=code in _MODERATION or bool((metadata or {}).get("flagged_input")),
        no_credit=code in _NO_CREDIT,
    )


def _said(text: Any) -> str:
    if isinstance(text, list):
        return "; ".join(str(item.get("msg") or item) if isinstance(item, dict) else str(item) for item in text)
    return str(text or "")


def _fields(param: Any, detail: Any) -> tuple[str, ...]:
    """`param` without what lies below it (`messages[0].role`), or the second place of each `loc` (after `body`)."""
    if param:
        return (str(param).partition("[")[0].partition(".")[0],)
    items = detail if isinstance(detail, list) else []
    places: list[list[Any]] = [item.get("loc") or [] for item in items if isinstance(item, dict)]
    return tuple(str(place[1]) for place in places if len(place) > 1)
