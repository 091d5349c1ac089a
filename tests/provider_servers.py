"""Servers on loopback that take and refuse chats as the providers do, each in its own form.

Written after the providers' documentation and the errors that their users quote. All have the same to say, and say it
as far as their own rules allow: a sensible answer to a question of `doctor`, `TALE` to everything else; up to a stop
string where they heed one, and up to the token limit, one word a token.
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

Body = dict[str, Any]
Server = Callable[[Body], web.Response]

TALE = "<think>The sign is green.</think><answer>B</answer>\n<think>And on it goes, unasked."
THOUGHT = "Green, I think."
GEMINI_THINKS = 50
LETTERS = {"A": -0.5, "B": -1.0, "The": -4.0}


@dataclass(frozen=True)
class Ways:
    """How a server answers. heeds_stop: whether it ends at a stop string; keeps_stop: and leaves that in the text.

    words: what it calls a whole reply and one that was cut off.
    """

    heeds_stop: bool = True
    keeps_stop: bool = False
    words: tuple[str, str] = ("stop", "length")
    logprobs: bool = False
    structured: bool = True


def _say(question: str) -> str:
    if "Repeat this line exactly" in question:
        return question.partition("nothing else: ")[2]
    return "Yes." if "Say yes" in question else "Red, blue." if "Which colour does each" in question else TALE


def _answer(body: Body, ways: Ways) -> tuple[Body, Body]:
    """(choice, usage), as OpenAI's interface has them."""
    text = _say(text_of(body["messages"][-1]))
    if ways.structured and "response_format" in body:
        schema = body["response_format"]["json_schema"]["schema"]
        text = json.dumps({"answer": schema["properties"]["answer"]["enum"][-1]}, separators=(",", ":"))
    stops = body.get("stop") or []
    found = [s for s in ([stops] if isinstance(stops, str) else stops) if s in text] if ways.heeds_stop else []
    if found:
        first = min(found, key=text.index)
        text = text[: text.index(first)] + (first if ways.keeps_stop else "")
    tokens = text.split(" ")
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or len(tokens)
    choice: Body = {
        "index": 0,
        "finish_reason": ways.words[len(tokens) > limit],
        "message": {"role": "assistant", "content": " ".join(tokens[:limit])},
    }
    if ways.logprobs and body.get("logprobs"):
        listed = [{"token": t, "logprob": p, "bytes": None} for t, p in LETTERS.items()]
        choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed[: body["top_logprobs"]]}]}
    prompt = sum(len(text_of(m).split()) + 100 * images_in(m) for m in body["messages"])
    written = min(limit, len(tokens))
    return choice, {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def text_of(message: Body) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def images_in(message: Body) -> int:
    content = message["content"]
    return 0 if isinstance(content, str) else sum(part["type"] == "image_url" for part in content)


def completion(choice: Body, usage: Body | None, **more: Any) -> web.Response:
    head = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    return web.json_response({**head, "choices": [choice], "usage": usage, **more})


def _openai_error(message: str, param: str | None, code: str | None, status: int = 400) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return web.json_response({"error": error}, status=status)


def openai(body: Body) -> web.Response:
    """gpt-4.1: takes everything."""
    choice, usage = _answer(body, Ways(logprobs=True))
    choice["message"] |= {"refusal": None, "annotations": []}
    return completion(choice, usage | {"prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0}})


def openai_reasoning(body: Body) -> web.Response:
    """gpt-5: no `max_tokens`, no stop strings, no other temperature than 1, no log-probabilities."""
    if "logprobs" in body:
        return _openai_error("You are not allowed to request logprobs from this model", None, None, status=403)
    for name in ("max_tokens", "stop"):
        if name in body:
            hint = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            message = f"Unsupported parameter: '{name}' is not supported with this model.{hint}"
            return _openai_error(message, name, "unsupported_parameter")
    for name in ("temperature", "top_p"):
        if body.get(name, 1) != 1:
            message = f"Unsupported value: '{name}' does not support {body[name]} with this model."
            return _openai_error(message, name, "unsupported_value")
    choice, usage = _answer(body, Ways())
    hidden = 64
    usage["completion_tokens"] += hidden
    usage["total_tokens"] += hidden
    return completion(choice, usage | {"completion_tokens_details": {"reasoning_tokens": hidden}})


def anthropic(body: Body) -> web.Response:
    """Claude: the limit is required, system messages move to the front, contents must not be empty; log-probabilities
    and response formats are ignored; temperature and top_p exclude each other; no details of what was counted."""

    def refused(message: str) -> web.Response:
        error = {"code": "invalid_request_error", "message": message, "type": "invalid_request_error", "param": None}
        return web.json_response({"error": error}, status=400)

    if not body.get("max_tokens") and not body.get("max_completion_tokens"):
        return refused("max_tokens: Field required")
    if "temperature" in body and "top_p" in body:
        return refused("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    for number, message in enumerate(body["messages"]):
        parts = message["content"] if isinstance(message["content"], list) else [{"text": message["content"]}]
        if not parts or not all(part.get("text", "a picture") for part in parts):
            return refused(f"messages.{number}: all messages must have non-empty content")
    hoisted = [m for m in body["messages"] if m["role"] in ("system", "developer")]
    if body["messages"][: len(hoisted)] != hoisted:
        return refused("a system message stands among the others: its place would be lost")
    choice, usage = _answer(body, Ways(structured=False))
    choice["message"]["refusal"] = None
    return completion(choice, usage | {"prompt_tokens_details": None, "completion_tokens_details": None})


def gemini(body: Body) -> web.Response:
    """Gemini: errors are a list, log-probabilities are refused, a reply that its safety settings stop has Gemini's own
    word for it and no content, and thoughts use up the limit and are counted in the total alone."""
    if "logprobs" in body:
        error = {"code": 400, "message": "Logprobs is not enabled for models/m", "status": "INVALID_ARGUMENT"}
        return web.json_response([{"error": error}], status=400)
    choice, usage = _answer(body, Ways())
    if "forbidden" in text_of(body["messages"][-1]):
        return completion({"index": 0, "finish_reason": "SAFETY", "message": {"role": "assistant"}}, usage)
    if body["max_tokens"] <= GEMINI_THINKS:
        choice |= {"finish_reason": "length", "message": {"role": "assistant"}}
    return completion(choice, usage | {"total_tokens": usage["total_tokens"] + GEMINI_THINKS})


def vllm(body: Body) -> web.Response:
    """vLLM with a reasoning parser and two pictures a prompt. Models: `gemma`, whose chat template has no system role;
    `single`, which takes one picture; `text`, which takes none."""

    def refused(message: str) -> web.Response:
        error = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
        return web.json_response({"error": error}, status=400)

    most = {"single": 1, "text": 0}.get(body["model"], 2)
    if sum(map(images_in, body["messages"])) > most:
        return refused(f"At most {most} image(s) may be provided in one prompt.")
    if body["model"] == "gemma" and body["messages"][0]["role"] == "system":
        return refused("System role not supported")
    if max(body.get("max_tokens", 0), body.get("max_completion_tokens", 0)) > 8192:
        return refused("'max_tokens' or 'max_completion_tokens' is too large. The maximum context length is 8192")
    choice, usage = _answer(body, Ways(logprobs=True))
    choice["message"] |= {"reasoning": THOUGHT, "refusal": None, "tool_calls": []}
    return completion({**choice, "stop_reason": None}, usage | {"prompt_tokens_details": None}, prompt_logprobs=None)


def sglang(body: Body) -> web.Response:
    """SGLang with a reasoning parser: thoughts under their older name, and what stopped the reply."""
    choice, usage = _answer(body, Ways(logprobs=True))
    choice["message"] |= {"reasoning_content": THOUGHT, "tool_calls": None}
    return completion({**choice, "matched_stop": "</answer>"}, usage | {"prompt_tokens_details": None})


def transformers_serve(body: Body) -> web.Response:
    """`transformers serve`: FastAPI's errors, log-probabilities ignored, the stop string left in the text."""
    if (
        unknown := body.keys()
        - {"model", "messages", "max_tokens", "temperature", "top_p", "stop", "logprobs"}
        - {
            "top_logprobs",
            "response_format",
        }
    ):
        return web.json_response({"detail": f"Unexpected fields in the request: {unknown}"}, status=422)
    return completion(*_answer(body, Ways(keeps_stop=True, structured=False)))


def mistral(body: Body) -> web.Response:
    """Mistral's thinking models: content in parts, and their own word for the limit."""
    choice, usage = _answer(body, Ways(words=("stop", "model_length")))
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}
    choice["message"]["content"] = [thought, {"type": "text", "text": choice["message"]["content"]}]
    return completion(choice, usage)


def strict(body: Body) -> web.Response:
    """A server made with FastAPI that forbids fields it does not know, each named by its place."""
    if more := sorted(body.keys() - {"model", "messages", "max_tokens", "temperature"}):
        detail = [{"type": "extra_forbidden", "loc": ["body", name], "msg": f"{name} not permitted"} for name in more]
        return web.json_response({"detail": detail}, status=422)
    return completion(*_answer(body, Ways()))


def openrouter(body: Body) -> web.Response:
    """OpenRouter: a moderated prompt is a 403; thoughts in a field of their own; two reasons for the end."""
    if "forbidden" in text_of(body["messages"][-1]):
        metadata = {"reasons": ["violence"], "flagged_input": "forbidden", "provider_name": "P", "model_slug": "m"}
        error = {"code": 403, "message": "Your input was flagged", "metadata": metadata}
        return web.json_response({"error": error}, status=403)
    choice, usage = _answer(body, Ways(logprobs=True))
    choice["message"] |= {"reasoning": THOUGHT, "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT}]}
    return completion({**choice, "native_finish_reason": "completed"}, usage | {"cost": 0.01}, provider="P")


def deaf(body: Body) -> web.Response:
    """A server that heeds no stop strings and counts no tokens."""
    choice, _ = _answer(body, Ways(heeds_stop=False))
    return completion(choice, None)


SERVERS: Sequence[Server] = (
    openai,
    openai_reasoning,
    anthropic,
    gemini,
    vllm,
    sglang,
    transformers_serve,
    mistral,
    strict,
    openrouter,
)


@asynccontextmanager
async def served(answer: Server) -> AsyncIterator[tuple[str, list[Body]]]:
    """A server of that kind on a free port: its base URL, and the requests that it saw."""
    seen: list[Body] = []

    async def chat(request: web.Request) -> web.Response:
        seen.append(await request.json())
        return answer(seen[-1])

    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", seen
    finally:
        await runner.cleanup()
