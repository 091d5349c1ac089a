"""A verifier behind an OpenAI-compatible server: the probability of given answers, by log-probabilities or samples."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple, TypeVar

from pipeline.leases import Link
from pipeline.links import Alone
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage, ChoiceQuestion, Scores
from pipeline.models.endpoint import EndpointModel
from pipeline.models.prefix_tree import PrefixTree
from pipeline.models.replies import answer_in, first_tokens
from pipeline.models.request import identified
from prompts.judging import YES_NO, letter_of, normalised
from schemas.config import EndpointVerifier
from schemas.errors import Fatal, Rejected
from schemas.question import Question
from schemas.record import content_id

_TOP_TOKENS = 20
"""Tokens that a server is asked to list: the most that OpenAI's interface allows."""

_TRIAL = (ChatMessage("user", ("Question: Which is a colour?\nA. red\nB. seven\nAnswer with one letter only: A, B.",)),)

_LEAST = 1e-12
"""A choice that no listed token spells is not thought impossible, however unlikely those are."""

_PICTURE = "picture "

Probabilities = tuple[float, ...]


class Scored(NamedTuple):
    """Of one probe: the probabilities of its choices, the tokens that were read for them, and of samples the choices
    that they name."""

    probabilities: Probabilities
    tokens_read: int
    named: tuple[int | None, ...] | None = None


Score = Callable[[ChoiceQuestion], Awaitable[Scored]]
T = TypeVar("T")


class EndpointScorer:
    """Scores choices by what a server answers. Replies are durable, and none is asked for twice: see `EndpointModel`.

    Where the server gives log-probabilities, a probe whose choices are letters, or yes and no, is one call for one
    token (`by_first_token`). Any other is `samples` answers at temperature 1 (`by_samples`). Whether it does, a trial
    decides once per run, and `name` then says it: `model@logprobs`, `model@8 samples`, or `model@8 samples, claims by
    logprobs` where choices are named by their texts.
    """

    def __init__(self, config: EndpointVerifier, calls: CallStore, link: Link | None = None) -> None:
        """link: see `EndpointModel`."""
        link = link or Alone(config, "verifier")
        self.name = config.model
        self._config = config
        self._calls = calls
        self._speaker, self._lister = speaker_of(config, calls, link), lister_of(config, calls, link)
        self._lists: bool | None = None
        self._finding = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint-scorer", daemon=True)
        self._thread.start()

    def score(self, probes: Sequence[ChoiceQuestion]) -> Scores:
        """See `Scorer`. Raises Rejected where a probe was refused, or came without the log-probabilities that this
        run is scored by, or with no choice among them, which would say nothing; Fatal where the server does not
        answer."""
        return asyncio.run_coroutine_threadsafe(self._scored(probes), self._loop).result()

    async def close(self) -> None:
        """Ends the connections and the loop of their own that they live in. Nobody may be asking it any more."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._ended(), self._loop))
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def _ended(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)  # what is asked for is kept
        await self._speaker.close()
        await self._lister.close()

    async def _scored(self, probes: Sequence[ChoiceQuestion]) -> Scores:
        async with self._finding:
            if self._lists is None:
                self._lists = await self._found()
                self.name += self._way()
        scored = await self._in_turn(probes, self._by_first_token_or_samples)
        probabilities, read, named = zip(*scored, strict=True) if scored else ((), (), ())
        return Scores(list(probabilities), sum(read), named=named)

    def _way(self) -> str:
        if not self._lists:
            return f"@{self._config.samples} samples"
        by_text = self._config.answer_by == "text"
        return f"@{self._config.samples} samples, claims by logprobs" if by_text else "@logprobs"

    async def _by_first_token_or_samples(self, probe: ChoiceQuestion) -> Scored:
        by_token = self._config.answer_by == "letter" or tuple(probe.choices) == YES_NO
        return await (self._by_first_token(probe) if self._lists and by_token else self._by_samples(probe))

    async def _in_turn(self, probes: Sequence[ChoiceQuestion], score: Score) -> list[Scored]:
        """Each probe is sent when the one is answered that has most of its pictures: the server's prefix cache holds
        them then, while probes that arrive together would all be read from the start."""
        tasks: list[asyncio.Task[Scored]] = []

        async def one(probe: ChoiceQuestion, leader: int | None) -> Scored:
            if leader is not None:
                await asyncio.wait([tasks[leader]])
            return await score(probe)

        for probe, leader in zip(probes, leaders(probes), strict=True):
            tasks.append(asyncio.ensure_future(one(probe, leader)))
        return await _all(tasks)

    async def _found(self) -> bool:
        """Whether the server gives log-probabilities. The finding is kept among the calls: all its workers agree,
        and so do they after a restart, whichever server answers by then."""
        key = content_id({"scored by log-probabilities": self._config.model, **identified(self._config)})
        finding = await asyncio.to_thread(self._calls.get, key)
        if finding is None:
            finding = {"log_probabilities": await lists_letters(self._lister, self._speaker)}
            request = {"model": self._config.model}
            finding = await asyncio.to_thread(self._calls.put, key, "verifier", request, finding)
        return bool(finding["log_probabilities"])

    async def _by_first_token(self, probe: ChoiceQuestion) -> Scored:
        reply, response = await self._lister.respond(probe.messages)
        tokens = first_tokens(response)
        if not tokens:
            raise Rejected("no_log_probabilities", f"{self._config.model} gave none, and this run is scored by them")
        if not any(_names(token, choice) for token, _ in tokens for choice in probe.choices):
            raise Rejected("no_choice_listed", f"{self._config.model} lists no choice among its likeliest first tokens")
        return Scored(by_first_token(tokens, probe.choices), reply.usage.prompt_tokens)

    async def _by_samples(self, probe: ChoiceQuestion) -> Scored:
        held_to = probe.choices if self._config.structured else ()
        respond, numbers = self._speaker.respond, range(self._config.samples)
        replies = await _all(respond(probe.messages, sample=n, choices=held_to) for n in numbers)
        texts = [answer_in(reply.text) if held_to else reply.text for reply, _ in replies]
        read = sum(reply.usage.prompt_tokens for reply, _ in replies)
        named = tuple(named_choice(text, probe.choices) for text in texts)
        return Scored(by_samples(texts, probe.choices), read, named)


def leaders(probes: Sequence[ChoiceQuestion]) -> list[int | None]:
    """For each probe the earlier one with which it shares the longest beginning that holds a picture; None for none."""
    tree, bringers, found = PrefixTree(), list[int](), list[int | None]()
    for number, probe in enumerate(probes):
        known = len(tree.units)
        path = tree.add(_parts(probe))
        bringers += [number] * (len(tree.units) - known)
        shared = [entry for entry in path if entry < known]
        pictured = any(str(tree.units[entry]).startswith(_PICTURE) for entry in shared)
        found.append(bringers[shared[-1]] if pictured else None)
    return found


def _parts(probe: ChoiceQuestion) -> list[str]:
    """Roles, texts and pictures of a probe, in order."""
    parts = list[str]()
    for message in probe.messages:
        parts.append(f"role {message.role}")
        for part in message.parts:
            parts.append(f"text {part}" if isinstance(part, str) else _PICTURE + sha256(part).hexdigest())
    return parts


_EXACT = {"temperature": 1.0, "top_p": None}
"""Of a verifier the probabilities as they are."""


def speaker_of(config: EndpointVerifier, calls: CallStore, link: Link | None = None) -> EndpointModel:
    """The verifier as one that answers in words."""
    return EndpointModel(config.model_copy(update=_EXACT), "verifier", calls, link=link)


def lister_of(config: EndpointVerifier, calls: CallStore, link: Link | None = None) -> EndpointModel:
    """The verifier as one that says one token, and lists the likeliest."""
    one_token = config.model_copy(update={**_EXACT, "max_tokens": 1})
    return EndpointModel(one_token, "verifier", calls, top_logprobs=_TOP_TOKENS, link=link)


async def lists_letters(lister: EndpointModel, speaker: EndpointModel) -> bool:
    """Whether the server lists the likeliest tokens, and a letter is among them when it was asked for one.

    Raises Rejected where that cannot be found out, Fatal where the server does not answer.
    """
    try:
        _, response = await lister.respond(_TRIAL)
    except Rejected as refused:
        if refused.kind == "server_error":  # it says nothing of what the server can do
            raise
        if refused.kind == "forbidden":  # that may be the key: a finding needs a server that takes it
            await speaker.complete(_TRIAL)
        return False
    return any(_names(token, choice) for token, _ in first_tokens(response) for choice in "AB")


def by_first_token(tokens: Sequence[tuple[str, float]], choices: Sequence[str]) -> Probabilities:
    """The probability of each choice as the first token, over that of all choices.

    tokens: the likeliest first tokens with their log-probabilities in nats. Those that spell one choice (` B`, `B`) are
    added up. A choice that none spells gets the probability of the least likely token, which it cannot exceed.
    """
    bound = math.exp(min(value for _, value in tokens))
    spelt = [sum(math.exp(value) for token, value in tokens if _names(token, choice)) for choice in choices]
    weights = [max(weight or bound, _LEAST) for weight in spelt]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def by_samples(answers: Sequence[str], choices: Sequence[str]) -> Probabilities:
    """The share of each choice among answers: (times named + 1/2) / (answers that name one + choices / 2).

    The half (Jeffreys' prior) keeps an answer that was never given from being impossible. An answer that names no
    choice, or several, counts for none; where no answer names one, all choices are equally likely.
    """
    named = [named_choice(answer, choices) for answer in answers]
    total = sum(choice is not None for choice in named) + len(choices) / 2
    return tuple((named.count(i) + 0.5) / total for i in range(len(choices)))


def named_choice(answer: str, choices: Sequence[str]) -> int | None:
    """The index of the one choice that an answer names, as `letter_of` understands it; yes and no by the first word."""
    if tuple(choices) == YES_NO:
        first = normalised(answer).partition(" ")[0]
        return choices.index(first) if first in choices else None
    question = Question(
        question_id="",
        video_id="",
        text="",
        kind="multiple_choice",
        choices=tuple(choices),
        answer_letter="",
        answer_text="",
        clue_intervals=(),
        source="",
        source_id="",
    )
    letter = letter_of(answer, question)
    return question.letters.index(letter) if letter else None


def _names(token: str, choice: str) -> bool:
    """Letters are told apart by case (`a` begins many an answer); words are not (`Yes`)."""
    word = token.strip()
    return word == choice or (len(choice) > 1 and word.casefold() == choice.casefold())


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    """The results, in order. An error is raised when all calls are through, so that what was paid for is kept."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        raise next((error for error in errors if isinstance(error, Fatal)), errors[0])
    return [result for result in results if not isinstance(result, BaseException)]
