"""The request that a chat becomes for an OpenAI-compatible server, and the key under which its reply is kept."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from pipeline.models.chat import ChatMessage
from schemas.config import Endpoint
from schemas.record import content_id

Request = dict[str, Any]
"""What is sent, each image standing as its hash."""


def request_of(
    config: Endpoint,
    messages: Sequence[ChatMessage],
    sample: int,
    stop: Sequence[str],
    top_logprobs: int,
    choices: Sequence[str] = (),
) -> tuple[Request, str]:
    """The request, and the key of it. sample: tells equal requests apart that want replies of their own.

    choices: the answers that a server with structured outputs is to allow, () for any text.
    """
    request: Request = {
        "model": config.model,
        "messages": [_message(m, _image_hash) for m in messages],
        "max_tokens": config.max_tokens,
    }
    optional = {
        "temperature": config.temperature,
        "top_p": config.top_p,
        "stop": list(stop) or None,
        "logprobs": True if top_logprobs else None,
        "top_logprobs": top_logprobs or None,
        "response_format": _one_of(choices) if choices else None,
    }
    request |= {name: value for name, value in optional.items() if value is not None}
    return request, content_id({"request": request, "sample": sample, **identified(config)})


def _one_of(choices: Sequence[str]) -> dict[str, Any]:
    """OpenAI's structured output: `{"answer": …}` with one of the choices. See `replies.answer_in`."""
    answer = {"type": "string", "enum": list(choices)}
    schema = {"type": "object", "properties": {"answer": answer}, "required": ["answer"], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def identified(config: Endpoint) -> dict[str, str]:
    """What tells a model apart from others of its name, where the config says so: part of every key then.

    The address is no part of it: a model that moves to another host keeps its replies.
    """
    return {"identity": config.identity} if config.identity else {}


def with_images(request: Request, messages: Sequence[ChatMessage]) -> dict[str, Any]:
    """The request as it goes over the wire. messages: those it was made of."""
    return {**request, "messages": [_message(m, _image_url) for m in messages]}


def plain(request: dict[str, Any]) -> dict[str, Any]:
    """A request of the same settings that no item has a part in: to be answered in a word or two."""
    of_items = ("messages", "stop", "response_format")
    settings = {name: value for name, value in request.items() if name not in of_items}
    return {**settings, "messages": [{"role": "user", "content": "Say yes."}]}


def _image_hash(jpeg: bytes) -> str:
    return "sha256:" + hashlib.sha256(jpeg).hexdigest()


def _image_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _message(message: ChatMessage, image: Any) -> dict[str, Any]:
    """A message as it is sent; one of role `tool` as the user's.

    A server takes role `tool` only in answer to a `tool_calls` entry with the same id, and without pictures; here a
    call is part of the assistant's text.
    """
    return {"role": "user" if message.role == "tool" else message.role, "content": _content(message, image)}


def _content(message: ChatMessage, image: Any) -> str | list[dict[str, Any]]:
    """OpenAI's content: plain text where there are no images, else a list of parts."""
    if all(isinstance(part, str) for part in message.parts):
        return "".join(str(part) for part in message.parts)
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": image(part)}}
        for part in message.parts
    ]
