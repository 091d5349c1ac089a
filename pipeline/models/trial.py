"""What an endpoint cannot do that its role needs: found by small questions, asked in the form that a run asks in."""

import asyncio
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage, Reply
from pipeline.models.endpoint import EndpointModel
from pipeline.models.endpoint_scorer import lister_of, lists_letters, speaker_of
from pipeline.models.replies import answer_in, visible_text
from schemas.config import Endpoint, EndpointJudge, EndpointVerifier
from schemas.errors import Fatal, Rejected

PATIENCE_S = 180.0
"""Seconds that all questions to one endpoint may take."""

_OUTAGE_S = 5.0
"""Seconds after which a server that does not answer is taken to be down."""

_SIDE = 56
_FIRST, _SECOND = ("red", (220, 20, 20)), ("blue", (20, 20, 220))
_SYSTEM = ChatMessage("system", ("You answer in one word.",))


@dataclass(frozen=True)
class Need:
    """What a role asks of its endpoint. stop: the stop strings that it sends."""

    pictures: bool
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Lack:
    """Something that an endpoint cannot do, and what to change. fatal: the role cannot be played without it."""

    text: str
    fatal: bool


def lacks(config: Endpoint, role: str, need: Need) -> list[Lack]:
    """What an endpoint lacks for a role. Asks up to six short questions, which the provider charges for.

    Raises Fatal where it does not answer at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = _Trial(config, role, need, CallStore(folder))
        try:
            return asyncio.run(asyncio.wait_for(trial.run(), PATIENCE_S))
        except TimeoutError as error:
            raise Fatal(f"{PATIENCE_S:.0f} s were not enough for a few short replies") from error


class _Trial:
    """The questions to one endpoint. calls: where the replies may be thrown away."""

    def __init__(self, config: Endpoint, role: str, need: Need, calls: CallStore) -> None:
        self._config = config.model_copy(update={"retries": min(config.retries, 2), "outage_s": _OUTAGE_S})
        self._role = role
        self._need = need
        self._calls = calls
        self._model = EndpointModel(self._config, role, calls)
        self._found: list[Lack] = []

    async def run(self) -> list[Lack]:
        try:
            await self._say_yes()
            if self._need.pictures:
                await self._name_colours()
            if self._need.stop:
                await self._repeat()
            if isinstance(self._config, EndpointJudge) and self._config.structured:
                await self._judge()
        finally:
            await self._model.close()
        if isinstance(self._config, EndpointVerifier):
            await self._choose(self._config)
        return self._found

    def _lacks(self, text: str, fatal: bool = False) -> None:
        self._found.append(Lack(text, fatal))

    async def _say_yes(self) -> None:
        ask = ChatMessage("user", ("Say yes.",))
        try:
            reply = await self._model.complete([_SYSTEM, ask])
        except Rejected as refused:
            try:
                reply = await self._model.complete([ask])
            except Rejected:
                raise Fatal(refused.message) from refused
            self._lacks(f"takes no system message ({refused.message}): choose a model whose chat has one", fatal=True)
        if reply.finish_reason == "length" and self._role != "verifier":
            limit = f"{self._role}.max_tokens = {self._config.max_tokens}"
            self._lacks(f"cannot say yes within {limit}: raise it, for thoughts count, too", fatal=True)
        self._money(reply)

    def _money(self, reply: Reply) -> None:
        if self._config.price is None:
            self._lacks(f"has no price: its cost will be shown as unknown; set {self._role}.price")
        elif reply.usage.cost_usd is None:
            self._lacks("counts no tokens: its cost will be shown as unknown")

    async def _name_colours(self) -> None:
        refused = await self._refusal([_picture(_FIRST[1]), _picture(_SECOND[1])])
        if refused is None:
            return
        if await self._refusal([_picture(_FIRST[1])]) is None:
            text = f"takes one picture a request, not several ({refused}): raise the server's limit"
            self._lacks(f"{text} (vLLM: --limit-mm-per-prompt)", fatal=True)
        else:
            self._lacks(f"takes no pictures ({refused}): choose a vision-language model", fatal=True)

    async def _refusal(self, pictures: Sequence[bytes]) -> str | None:
        """Why pictures are refused, None where they are taken. What is said of them tells whether they are seen."""
        ask = "Which colour does each picture have? Name the colours only, in order."
        try:
            reply = await self._model.complete([ChatMessage("user", (*pictures, ask))])
        except Rejected as refused:
            return refused.message
        if _FIRST[0] not in reply.text.casefold():
            said = " ".join(reply.text.split())[:60]
            self._lacks(f"takes pictures, but says {said!r} of one that is red: make sure that it sees them")
        return None

    async def _repeat(self) -> None:
        stop = self._need.stop
        ask = ChatMessage("user", (f"Repeat this line exactly, and say nothing else: one {stop[0]} two",))
        _, response = await self._model.respond([ask], stop=stop)
        if "two" in visible_text(response).partition(stop[0])[2]:
            self._lacks("heeds no stop strings: replies are cut here, but what follows is written and paid for")

    async def _judge(self) -> None:
        if not await _keeps_to_choices(self._model):
            text = "keeps to no answer schema: its judgements are read as plain text"
            self._lacks(f"{text}; set judge.structured to false")

    async def _choose(self, config: EndpointVerifier) -> None:
        lister, speaker = lister_of(config, self._calls), speaker_of(config, self._calls)
        try:
            if config.answer_by == "letter" and not await lists_letters(lister, speaker):
                answers = f"{config.samples} answers"
                self._lacks(f"lists no log-probabilities: a probe takes {answers} instead of one token")
            if config.structured and not await _keeps_to_choices(speaker):
                text = "keeps to no answer schema: its answers are read as plain text"
                self._lacks(f"{text}; leave verifier.structured out")
        finally:
            await lister.close()
            await speaker.close()


async def _keeps_to_choices(speaker: EndpointModel) -> bool:
    ask = ChatMessage("user", ("Is water wet? Answer yes or no.",))
    reply, _ = await speaker.respond([ask], choices=("yes", "no"))
    return answer_in(reply.text) != reply.text


def _picture(colour: tuple[int, int, int]) -> bytes:
    """A JPEG of one colour."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (_SIDE, _SIDE), colour).save(out, "JPEG", quality=95)
    return out.getvalue()
