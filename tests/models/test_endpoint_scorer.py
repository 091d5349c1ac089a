"""A verifier behind a real HTTP server: log-probabilities where it gives them, samples elsewhere, one way per run."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage, ChoiceQuestion
from pipeline.models.endpoint_scorer import EndpointScorer, by_first_token, by_samples, leaders
from schemas.config import EndpointVerifier, RunConfig
from schemas.errors import Fatal, Rejected
from tests.models.chats import jpeg
from tests.provider_servers import (
    SERVERS,
    Server,
    anthropic,
    openai,
    openrouter,
    sglang,
    strict,
    transformers_serve,
    vllm,
)

Answer = Callable[[dict[str, Any], int], web.Response | Awaitable[web.Response]]
TOKENS = {"A": -0.5, " A": -2.0, "B": -3.0, "a": -0.1, "The": -5.0}


def reply(text: str, tokens: dict[str, float] | None = None) -> web.Response:
    """A chat completion; tokens: the likeliest first tokens with their log-probabilities, None for a server without."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    if tokens is not None:
        listed = [{"token": token, "logprob": value, "bytes": None} for token, value in tokens.items()]
        choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}]}
    usage = {"prompt_tokens": 10, "completion_tokens": 1}
    return web.json_response(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    )


@contextmanager
def server(
    answer: Answer, more: Mapping[str, Callable[[], web.Response]] | None = None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server in a thread that gives `answer(body, n)` to its n-th request: its URL, and the bodies that it saw.

    more: what it gives under other paths.
    """
    seen: list[dict[str, Any]] = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)

    async def chat(request: web.Request) -> web.Response:
        seen.append(await request.json())
        answered = answer(seen[-1], len(seen))
        return await answered if isinstance(answered, Awaitable) else answered

    def given(found: Callable[[], web.Response]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def give(_: web.Request) -> web.Response:
            return found()

        return give

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        for path, found in (more or {}).items():
            app.router.add_get(path, given(found))
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    thread.start()
    try:
        runner = asyncio.run_coroutine_threadsafe(start(), loop).result()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", seen
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def scorer(url: str, run: Path, **settings: Any) -> EndpointScorer:
    config = EndpointVerifier(model="m", base_url=url, **{"retries": 1, "timeout_s": 5, **settings})
    return EndpointScorer(config, CallStore(str(run)))


def probe(text: str = "Which one?", choices: tuple[str, ...] = ("A", "B", "C")) -> ChoiceQuestion:
    return ChoiceQuestion((ChatMessage("user", ("Frames:\n", jpeg(1), text)),), choices)


def test_a_server_with_log_probabilities_is_asked_for_one_token_a_probe(tmp_path: Path) -> None:
    with server(lambda *_: reply("A", TOKENS)) as (url, seen):
        verifier = scorer(url, tmp_path)
        found = verifier.score([probe("one"), probe("two")])
    first, second = found.probabilities
    assert first == second == pytest.approx((0.9140, 0.0606, 0.0082), abs=0.02) and sum(first) == pytest.approx(1)
    assert verifier.name == "m@logprobs" and found.tokens_read == 20
    assert len(seen) == 3  # the trial and one a probe
    assert all((b["max_tokens"], b["temperature"], b["logprobs"], b["top_logprobs"]) == (1, 1, True, 20) for b in seen)


def test_tokens_that_spell_a_choice_are_added_up_and_a_choice_outside_the_list_is_bounded() -> None:
    a, b, c = by_first_token([("A", -0.5), (" A", -2.0), ("a", -0.1), ("B", -3.0), ("The", -5.0)], ("A", "B", "C"))
    assert a / b == pytest.approx((0.60653 + 0.13534) / 0.04979, rel=1e-3)
    assert c / b == pytest.approx(0.00674 / 0.04979, rel=1e-3)
    assert by_first_token([("I", -9999.0)], ("A", "B")) == (0.5, 0.5)
    assert by_first_token([("Yes", -0.1), ("no", -3.0), (" yes", -4.0)], ("yes", "no"))[0] > 0.9


@pytest.mark.parametrize(
    "refusal",
    [
        reply("A"),  # as `transformers serve`, which ignores the question
        reply("", {"<think>": -0.01, "\n": -5.0}),  # a model that thinks before it names a letter
        web.json_response({"detail": "logprobs are not supported"}, status=422),
    ],
    ids=["ignored", "thinks first", "refused"],
)
def test_a_server_without_log_probabilities_is_sampled(tmp_path: Path, refusal: web.Response) -> None:
    texts = {str(n): text for n, text in enumerate(["A", "B. the second", "(B)", "B", "I cannot tell", "B", "b", "B"])}
    samples = iter(texts.values())

    def answer(body: dict[str, Any], _: int) -> web.Response:
        if "logprobs" in body:
            return web.Response(body=refusal.body, status=refusal.status, content_type="application/json")
        return reply(next(samples))

    with server(answer) as (url, seen):
        verifier = scorer(url, tmp_path)
        found = verifier.score([probe()])
    assert found.probabilities == [pytest.approx((1.5 / 8.5, 6.5 / 8.5, 0.5 / 8.5))]
    assert verifier.name == "m@8 samples" and found.tokens_read == 80
    (named,) = found.named
    assert named is not None and (named.count(0), named.count(1), named.count(None)) == (1, 6, 1)
    assert len(seen) == 9 and all(body["temperature"] == 1 for body in seen)


def test_samples_that_name_no_choice_or_several_count_for_none() -> None:
    assert by_samples(["I see nothing", "A or B", ""], ("A", "B")) == (0.5, 0.5)
    assert by_samples(["Yes, they do.", "no", "A sign is seen"], ("yes", "no")) == (0.5, 0.5)
    words = by_samples(["fish and moon", "B", "FISH and MOON."], ("BIRD and MOON", "FISH and MOON"))
    assert words == pytest.approx((0.5 / 4, 3.5 / 4))


def test_what_the_trial_found_holds_for_the_whole_run(tmp_path: Path) -> None:
    with server(lambda *_: reply("A", TOKENS)) as (url, _):
        scorer(url, tmp_path / "listed").score([probe()])
    with server(lambda *_: reply("A")) as (url, _):
        with pytest.raises(Rejected) as caught:
            scorer(url, tmp_path / "listed").score([probe("another")])
        scorer(url, tmp_path / "sampled").score([probe()])
    assert caught.value.kind == "no_log_probabilities"
    with server(lambda *_: reply("A", TOKENS)) as (url, _):
        verifier = scorer(url, tmp_path / "sampled")
        verifier.score([probe("another")])
    assert verifier.name == "m@8 samples"


@pytest.mark.parametrize("tokens", [TOKENS, None], ids=["log-probabilities", "samples"])
def test_a_restarted_verifier_pays_for_nothing_again(tmp_path: Path, tokens: dict[str, float] | None) -> None:
    with server(lambda *_: reply("A", tokens)) as (url, _):
        first = scorer(url, tmp_path)
        probabilities = first.score([probe()])
    again = scorer(url, tmp_path)  # whose server is gone
    assert again.score([probe()]) == probabilities
    assert again.name == first.name


def test_answers_by_text_are_sampled_and_claims_scored_where_a_server_can(tmp_path: Path) -> None:
    listed = TOKENS | {"Yes": -0.2, "no": -2.0}
    with server(lambda *_: reply("Fish and moon.", listed)) as (url, seen):
        verifier = scorer(url, tmp_path, answer_by="text", samples=3)
        found = verifier.score([probe(choices=("FISH and MOON", "FISH and BIRD")), probe("Do they?", ("yes", "no"))])
    assert found.probabilities[0] == pytest.approx((3.5 / 4, 0.5 / 4))
    assert found.probabilities[1] == pytest.approx((0.858, 0.142), abs=0.01)
    assert list(found.named) == [(0, 0, 0), None]
    assert verifier.name == "m@3 samples, claims by logprobs"
    assert len(seen) == 5 and sum("logprobs" in body for body in seen) == 2  # the trial and the claim


def test_a_list_that_names_no_choice_is_refused_and_passes_for_no_opinion(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], _: int) -> web.Response:
        return reply("I", {"I": -0.1, "The": -3.0}) if "blind" in json.dumps(body) else reply("A", TOKENS)

    with server(answer) as (url, _), pytest.raises(Rejected) as caught:
        scorer(url, tmp_path).score([probe("blind")])
    assert caught.value.kind == "no_choice_listed"


def test_one_refused_probe_is_raised_after_the_others_were_kept(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], _: int) -> web.Response:
        if "cursed" in json.dumps(body):
            return web.json_response({"detail": "too long"}, status=422)
        return reply("A", TOKENS)

    with server(answer) as (url, seen):
        with pytest.raises(Rejected, match="too long"):
            scorer(url, tmp_path).score([probe("cursed"), probe("one"), probe("two")])
        assert len(seen) == 4
        scorer(url, tmp_path).score([probe("one"), probe("two")])
        assert len(seen) == 4


def test_a_server_that_is_down_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="verifier endpoint does not answer"):
        scorer("http://127.0.0.1:9/v1", tmp_path, retries=0, outage_s=0).score([probe()])


def test_a_verifier_with_a_base_url_is_an_endpoint_whose_temperature_is_its_own() -> None:
    endpoint = {"model": "m", "base_url": "http://127.0.0.1:1/v1"}
    job: dict[str, Any] = {"source": {"path": "q.jsonl", "videos": "."}, "teacher": endpoint}
    verifier = RunConfig.model_validate({**job, "verifier": {**endpoint, "samples": 4}}).verifier
    assert isinstance(verifier, EndpointVerifier) and verifier.samples == 4 and verifier.answer_by == "letter"
    with pytest.raises(ValueError, match="temperature"):
        RunConfig.model_validate({**job, "verifier": {**endpoint, "temperature": 0.7}})


def test_a_probe_waits_for_the_one_that_has_most_of_its_pictures() -> None:
    def shown(*parts: str | bytes) -> ChoiceQuestion:
        return ChoiceQuestion((ChatMessage("user", parts),), ("A", "B"))

    overview, zoom, other = jpeg(1), jpeg(2), jpeg(3)
    probes = [
        shown("Frames:", overview, "Which?"),
        shown("Frames:", overview, "Closer:", zoom, "Which?"),
        shown("Frames:", overview, "Closer:", zoom, "Closer:", other, "Which?"),
        shown("Which?"),
        shown("Closer:", zoom, "Which?"),
        shown("Frames:", overview, "Closer:", other, "Which?"),
        shown("Frames:", overview, "Who?"),
    ]
    assert leaders(probes) == [None, 0, 1, None, None, 1, 0]


def test_the_server_sees_a_beginning_before_what_goes_on_from_it(tmp_path: Path) -> None:
    """The first probe is answered late; those that begin as it does arrive after that, and the others before."""
    order: list[tuple[str, str]] = []

    async def slow(body: dict[str, Any], _: int) -> web.Response:
        text = json.dumps(body)
        name = next((n for n in ("first", "second", "blind") if n in text), "")
        order.append(("came", name))
        await asyncio.sleep(0.3 if name == "first" else 0)
        order.append(("went", name))
        return reply("A", TOKENS)

    with server(slow) as (url, _):
        beginning = ("Frames:\n", jpeg(1))
        chats = [(*beginning, "first"), (*beginning, "more", jpeg(2), "second"), ("blind",)]
        probes = [ChoiceQuestion((ChatMessage("user", chat),), ("A", "B", "C")) for chat in chats]
        scorer(url, tmp_path).score(probes)
    named = [event for event in order if event[1]]
    assert named.index(("went", "first")) < named.index(("came", "second"))
    assert named.index(("came", "blind")) < named.index(("went", "first"))


@pytest.mark.parametrize("answer", SERVERS, ids=lambda server: server.__name__)
def test_a_verifier_works_with_every_provider_by_what_it_gives(answer: Server, tmp_path: Path) -> None:
    with server(lambda body, _: answer(body)) as (url, seen):
        verifier = scorer(url, tmp_path, samples=2)
        (probabilities,) = verifier.score([probe(choices=("A", "B"))]).probabilities
    lists = answer in (openai, vllm, sglang, openrouter)
    assert verifier.name == ("m@logprobs" if lists else "m@2 samples")
    assert (probabilities[0] > 0.6) == lists and sum(probabilities) == pytest.approx(1)
    assert all(body["temperature"] == 1 for body in seen)


@pytest.mark.parametrize("answer", SERVERS, ids=lambda server: server.__name__)
def test_answers_are_held_to_the_choices_where_a_server_can_and_plain_elsewhere(answer: Server, tmp_path: Path) -> None:
    with server(lambda body, _: answer(body)) as (url, seen):
        settings = {"answer_by": "text", "structured": True, "samples": 2}
        fish, moon = scorer(url, tmp_path, **settings).score([probe(choices=("a fish", "a moon"))]).probabilities[0]
    plain = answer in (anthropic, transformers_serve, strict)  # whose answers name neither
    assert (fish, moon) == pytest.approx((0.5, 0.5) if plain else (1 / 6, 5 / 6))
    probes = [body for body in seen if "Which one?" in json.dumps(body)]  # not the trial
    assert all(("response_format" in body) == (answer is not strict or body in probes[:2]) for body in probes)


def test_a_key_that_is_refused_is_no_finding_about_log_probabilities(tmp_path: Path) -> None:
    refusal = {"error": {"message": "no"}}
    with (
        server(lambda *_: web.json_response(refusal, status=403)) as (url, seen),
        pytest.raises(Fatal, match="the key was refused"),
    ):
        scorer(url, tmp_path).score([probe()])
    assert len(seen) == 2 and not list(tmp_path.rglob("*.json"))
