"""What a server says when it refuses a request, whichever form it says it in."""

from dataclasses import dataclass
from typing import Any

_MODERATION = {"content_filter", "content_policy_violation"}
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached"}
_NO_KEY = {"invalid_api_key", "account_deactivated", "authentication_error", "unauthenticated"} | {
    "api_key_invalid",
    "api_key_expired",
    "api_key_service_blocked",
    "access_token_expired",
    "account_state_invalid",
    "consumer_suspended",
    "consumer_invalid",
    "service_disabled",
    "billing_disabled",
}
"""What OpenAI, Anthropic and Gemini (with HTTP 400) call a key that is worth nothing any more, in small letters."""

_LONGEST_S = 600.0
"""Seconds that a server may ask to wait."""

_MOST = 300
"""Characters kept of a server's message."""


@dataclass(frozen=True)
class Refusal:
    """message: in the server's own words; code: its short name of the fault, "" where it has none.

    fields: of the request, that it names apart from the message. withheld: a moderation does not let the request pass.
    no_credit: nothing is sold to this key any more, however long one waits. no_key: the key is not taken, whatever the
    status. after_s: seconds after which the request may come again, 0 where the body does not say.
    """

    message: str
    code: str
    fields: tuple[str, ...]
    withheld: bool
    no_credit: bool
    no_key: bool = False
    after_s: float = 0.0


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
    details = [entry for entry in _listed(body.get("details")) if isinstance(entry, dict)]
    words = {str(word).casefold() for word in (code, body.get("type"), body.get("status"), *_each(details, "reason"))}
    return Refusal(
        message=_said(detail if detail is not None else message)[:_MOST],
        code=code,
        fields=_fields(body.get("param"), detail),
        withheld=code in _MODERATION or bool((metadata or {}).get("flagged_input")),
        no_credit=code in _NO_CREDIT,
        no_key=not _NO_KEY.isdisjoint(words),
        after_s=max((seconds_in(delay) for delay in _each(details, "retryDelay")), default=0.0),
    )


def seconds_in(told: Any, unit: float = 1.0) -> float:
    """Seconds to wait, as a server puts them: a number, or one with `s` behind it (Gemini); 0 where that is none.

    unit: of the number, in seconds.
    """
    try:
        seconds = float(str(told).strip().removesuffix("s")) * unit
    except ValueError:
        return 0.0
    return min(seconds, _LONGEST_S) if seconds > 0 else 0.0  # NaN is not


def _each(details: list[Any], name: str) -> list[Any]:
    return [entry[name] for entry in details if name in entry]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _said(text: Any) -> str:
    if isinstance(text, list):
        return "; ".join(str(item.get("msg") or item) if isinstance(item, dict) else str(item) for item in text)
    return str(text or "")


def _fields(param: Any, detail: Any) -> tuple[str, ...]:
    """`param` without what lies below it (`messages[0].role`), or the second place of each `loc` (after `body`)."""
    if param:
        return (str(param).partition("[")[0].partition(".")[0],)
    places = [_listed(item.get("loc")) for item in _listed(detail) if isinstance(item, dict)]
    return tuple(str(place[1]) for place in places if len(place) > 1)
