"""The demo teacher: navigates by the captions and frames that it is shown, and reads them with a small model.

It gets the chat that any teacher gets and knows nothing else: neither what was rendered nor what a question is about
but for its words. It is mostly careful, now and then careless, and then it may be wrong.
"""

from collections.abc import Sequence
from random import Random

from pipeline.demo.asked import Asked, Temper
from pipeline.demo.chats import VIEWINGS, read_longvideo_r1
from pipeline.demo.sight import Memory, Sight, chat_id
from pipeline.demo.walking import Walker
from pipeline.demo.zooming import CALLS, Viewer
from pipeline.models.chat import CallCounts, ChatMessage, ChatModel, Reply
from prompts.protocol import Step, ZoomProtocol
from schemas.captions import Usage
from schemas.record import content_id

CARELESS = 1 / 8
"""Share of attempts that take less care."""


class DemoTeacher:
    """A `ChatModel` that writes the turns of one protocol.

    reader: the small model. Equal requests get equal texts; what the reader said once is not asked again.
    """

    def __init__(self, reader: ChatModel, protocol: ZoomProtocol) -> None:
        self.name = "demo-teacher"
        self.counts = CallCounts()
        self._memory = Memory(reader)
        self._protocol = protocol

    async def complete(self, messages: Sequence[ChatMessage], *, sample: int = 0, stop: Sequence[str] = ()) -> Reply:
        """See `ChatModel`. usage: of the small model's calls that this turn needed.

        Raises ValueError for a chat that the protocol did not render, and what the small model raises.
        """
        self.counts.sent += 1
        sight = Sight(self._memory)
        step = await self._step(messages, sample, sight)
        return Reply(
            key=content_id([self.name, chat_id(messages), sample]),
            model=self.name,
            text=self._protocol.write(step),
            reasoning="",
            finish_reason="stop",
            usage=sight.usage if sight.usage.calls else Usage(cost_usd=0.0),
        )

    async def _step(self, chat: Sequence[ChatMessage], sample: int, sight: Sight) -> Step:
        if self._protocol.uses_captions:
            walk = read_longvideo_r1(chat, self._protocol)
            temper = _temper(walk.asked, sorted(walk.captions.items()), sample)
            return await Walker(walk, sight, temper).decide()
        viewing = VIEWINGS[self._protocol.name](chat)
        temper = _temper(viewing.asked, [shot.time_s for shot in viewing.overview], sample)
        return await Viewer(viewing, sight, temper, CALLS[self._protocol.name]).decide()


def _temper(asked: Asked, overview: object, sample: int) -> Temper:
    """What distinguishes an attempt: the question, the video as far as it is told, and the attempt's number."""
    seed = content_id([asked.text, asked.choices, overview, sample])
    return Temper(seed, careless=Random(seed).random() < CARELESS)
