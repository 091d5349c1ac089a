"""From a raw chat completion to a `Reply`, and back for models that run in this process."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.models.chat import Reply
from schemas.captions import Usage
from schemas.config import Price
from schemas.errors import Rejected

Response = dict[str, Any]
"""A chat completion as an OpenAI-compatible server gives it: what `calls/` keeps, whoever answered."""

_BY_BATCH = "zoomtrail_batch"
"""Field of a response that names the provider's batch that it came by."""

_WHOLE = {"stop", "end_turn", "stop_sequence", "eos", "eos_token", "tool_calls", "function_call"}
_CUT_OFF = {"length", "max_tokens", "model_length"}
_WITHHELD = {"content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content", "spii"} | {
    "image_safety",
    "image_recitation",
    "image_prohibited_content",
}
_BROKEN_OFF = {"error", "abort", "insufficient_system_resource"}
"""How servers say, in any case, why a reply ends: OpenAI's words, and those that Gemini, Mistral, TGI, DeepSeek, vLLM,
SGLang and OpenRouter let through."""

_MOST_TOKENS = 1 << 40
"""A server that counts more has counted nonsense."""

_DEEPEST = 8
"""Parts within parts that may be text."""

_HIDDEN_PARTS = {"thinking", "reasoning"}
_HIDDEN_FIELDS = ("reasoning_content", "reasoning")


def reply_of(
    key: str, model: str, response: Response, price: Price | None, stop: Sequence[str] = (), limit: int = 0
) -> Reply:
    """The reply in a response.

    stop: texts after which it ends, where the server went on. limit: tokens it could have, 0 where that is not known;
    a server that does not say why a reply ends may have cut it off there.
    Raises Rejected where the provider withheld it (`content_filter`, `refusal`), ended it for a reason that is not
    known here (`unfinished`: what may be cut off is not taken for a whole reply), or has not the form of a completion
    (`misshapen`: kept by an earlier version).
    """
    if misshapen(response):
        raise Rejected("misshapen", f"{model} gave a reply that has not the form of a completion")
    finish, message = _finish(response), _message(response)
    if finish in _WITHHELD:
        raise Rejected("content_filter", f"{model} withheld its reply ({finish})")
    if message.get("refusal"):
        raise Rejected("refusal", f"{model} refused: {str(message['refusal'])[:200]}")
    if finish not in _WHOLE | _CUT_OFF:
        raise Rejected("unfinished", f"{model} ended its reply for a reason that is not known here: {finish!r}")
    usage = usage_of(response, price)
    silent = not response["choices"][0].get("finish_reason") and 0 < limit <= usage.completion_tokens
    text, stopped = cut_after_stop(visible_text(response), stop)
    return Reply(
        key=key,
        model=model,
        text=text,
        reasoning=_reasoning(message),
        finish_reason="length" if (finish in _CUT_OFF or silent) and not stopped else "stop",
        usage=usage,
    )


@dataclass(frozen=True)
class Tokens:
    """What a server counted of one call, or of several together. cached, images: parts of the prompt that do not
    overlap. batched: a provider's batch answered."""

    batched: bool
    prompt: int
    completion: int
    cached: int
    images: int

    def dollars(self, price: Price | None) -> float | None:
        """What they cost. Where nothing was counted that is unknown, unless tokens are free."""
        if price is None or not (self.prompt > 0 or price.free):
            return None
        live = price.dollars(self.prompt, self.completion, self.cached, self.images)
        return price.by_batch(live) if self.batched else live


def tokens_of(response: Response) -> Tokens:
    """What a server counted. Tokens of its total that it counts neither as read nor as written are thoughts, which it
    charges as written (Gemini, xAI)."""
    counted = _object(response.get("usage"))
    prompt, details = _count(counted.get("prompt_tokens")), _object(counted.get("prompt_tokens_details"))
    completion = max(_count(counted.get("completion_tokens")), _count(counted.get("total_tokens")) - prompt)
    cached = _count(details.get("cached_tokens")) or _count(counted.get("cache_read_input_tokens"))
    cached = min(cached, prompt)
    images = min(_count(details.get("image_tokens")), prompt - cached)
    return Tokens(_BY_BATCH in response, prompt, completion, cached, images)


def _count(tokens: Any) -> int:
    """A number of tokens, whole and of at least 0, as a number or a text; 0 for what is none."""
    if not isinstance(tokens, int):
        try:
            tokens = int(float(tokens or 0))
        except (TypeError, ValueError, OverflowError):
            return 0
    return tokens if 0 <= tokens <= _MOST_TOKENS else 0


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def usage_of(response: Response, price: Price | None) -> Usage:
    """What a call used, as the server counted."""
    tokens = tokens_of(response)
    return Usage(
        calls=1,
        prompt_tokens=tokens.prompt,
        completion_tokens=tokens.completion,
        cached_tokens=tokens.cached,
        cost_usd=tokens.dollars(price),
    )


def by_batch(response: Response, batch: str) -> Response:
    """A response marked as answered by a provider's batch, which costs less than a live call."""
    return {**response, _BY_BATCH: batch}


def misshapen(response: Response) -> bool:
    """Whether the first choice has not the form in which it can be read."""
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return True
    message = choices[0].get("message") or {}
    return not isinstance(message, dict) or not isinstance(message.get("content") or "", str | list)


def broken_off(response: Response) -> bool:
    """Whether the server says that an error of its own ended the reply: it is to be asked again, and not kept."""
    return _finish(response) in _BROKEN_OFF


def visible_text(response: Response) -> str:
    """The text of the first choice, verbatim but for lone surrogates, which no file can hold.

    Of content in parts it is those that are not marked as thoughts; tags such as `<think>` inside a text are text.
    """
    content = _message(response).get("content") or ""
    if isinstance(content, str):
        return _storable(content)
    return _storable("".join(_text(part) for part in content if not _is_hidden(part)))


def answer_in(text: str) -> str:
    """The answer in a structured reply; the text as it is where the server did not keep to the form."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return str(found["answer"]) if isinstance(found, dict) and "answer" in found else text


def first_tokens(response: Response) -> tuple[tuple[str, float], ...]:
    """The likeliest first tokens of a reply, each with its log-probability in nats; () where none are given."""
    try:
        places = (response["choices"][0].get("logprobs") or {}).get("content") or []
        listed = (places[0].get("top_logprobs") or []) if places else []
        return tuple((str(item["token"]), float(item["logprob"])) for item in listed)
    except (TypeError, ValueError, LookupError, AttributeError):  # in a form that is not OpenAI's
        return ()


def cut_after_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text up to the end of the stop string that ends first, that string included; and whether there is one."""
    ends = [text.index(s) + len(s) for s in stop if s in text]
    return (text[: min(ends)], True) if ends else (text, False)


def _message(response: Response) -> dict[str, Any]:
    return response["choices"][0].get("message") or {}


def _finish(response: Response) -> str:
    """Why the first choice ends: one word in small letters, without what follows a colon; none counts as `stop`."""
    word = str(response["choices"][0].get("finish_reason") or "stop")
    return word.partition(":")[0].strip().casefold()


def _reasoning(message: dict[str, Any]) -> str:
    """What a server reports as thoughts, in a field of its own or as parts of the content."""
    for name in _HIDDEN_FIELDS:
        if message.get(name):
            return _storable(_text(message[name]))
    content = message.get("content")
    return _storable("".join(_text(part) for part in content if _is_hidden(part)) if isinstance(content, list) else "")


def _is_hidden(part: Any) -> bool:
    return isinstance(part, dict) and (part.get("type") in _HIDDEN_PARTS or part.get("thought") is True)


def _text(part: Any, depth: int = 0) -> str:
    """The text of a part, which may hold parts in turn."""
    if depth > _DEEPEST:
        return ""
    if isinstance(part, list):
        return "".join(_text(inner, depth + 1) for inner in part)
    if isinstance(part, dict):
        return next((_text(part[name], depth + 1) for name in ("text", "thinking", "reasoning") if part.get(name)), "")
    return str(part or "")


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def response_of(reply: Reply) -> Response:
    """A reply in the form of a response."""
    message = {"role": "assistant", "content": reply.text, "reasoning_content": reply.reasoning}
    usage = {"prompt_tokens": reply.usage.prompt_tokens, "completion_tokens": reply.usage.completion_tokens}
    return {
        "model": reply.model,
        "choices": [{"index": 0, "finish_reason": reply.finish_reason, "message": message}],
        "usage": usage,
    }
