"""From a raw chat completion to a `Reply`, and back for models that run in this process."""

from typing import Any

from pipeline.models.chat import Reply
from schemas.captions import Usage
from schemas.config import Price
from schemas.errors import Rejected

Response = dict[str, Any]
"""A chat completion as an OpenAI-compatible server gives it: what `calls/` keeps, whoever answered."""


def visible_text(response: Response) -> str:
    """The text of the first choice, verbatim but for lone surrogates, which no file can hold."""
    return _storable((response["choices"][0].get("message") or {}).get("content") or "")


def first_tokens(response: Response) -> tuple[tuple[str, float], ...]:
    """The likeliest first tokens of a reply, each with its log-probability in nats; () where none are given."""
    places = (response["choices"][0].get("logprobs") or {}).get("content") or []
    listed = (places[0].get("top_logprobs") or []) if places else []
    return tuple((str(item["token"]), float(item["logprob"])) for item in listed)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def reply_of(key: str, model: str, response: Response, price: Price | None) -> Reply:
    """The reply in a response. Raises Rejected where the provider withheld it (`content_filter`, `refusal`)."""
    choice = response["choices"][0]
    message = choice.get("message") or {}
    finish = str(choice.get("finish_reason") or "stop")
    if finish == "content_filter":
        raise Rejected("content_filter", f"{model} withheld its reply (content filter)")
    if message.get("refusal"):
        raise Rejected("refusal", f"{model} refused: {str(message['refusal'])[:200]}")
    return Reply(
        key=key,
        model=model,
        text=visible_text(response),
        reasoning=_storable(str(message.get("reasoning_content") or message.get("reasoning") or "")),
        finish_reason=finish,
        usage=_usage(response.get("usage") or {}, price),
    )


def usage_of(response: Response, price: Price | None) -> Usage:
    """What the server counted for a response."""
    return _usage(response.get("usage") or {}, price)


def _usage(counted: dict[str, Any], price: Price | None) -> Usage:
    cached = (counted.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    prompt, completion = counted.get("prompt_tokens") or 0, counted.get("completion_tokens") or 0
    return Usage(
        calls=1,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cost_usd=price.dollars(prompt, completion, cached) if price else None,
    )


def response_of(reply: Reply) -> Response:
    """A reply in the form of a response."""
    message = {"role": "assistant", "content": reply.text, "reasoning_content": reply.reasoning}
    usage = {"prompt_tokens": reply.usage.prompt_tokens, "completion_tokens": reply.usage.completion_tokens}
    return {
        "model": reply.model,
        "choices": [{"index": 0, "finish_reason": reply.finish_reason, "message": message}],
        "usage": usage,
    }
