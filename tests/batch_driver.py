"""Asks some questions by batch in a process of its own, which kills itself at a chosen step of the batch's life.

    python -m tests.batch_driver BASE_URL RUN N STEP

STEP: `upload`, `on file`, `create` (while the provider has not told of it yet), `on batch`, `poll`, `download`,
`closed`, or `none`. Prints the replies as JSON.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline.models import batch_api, batch_log
from pipeline.models.batch_carrying import Pace
from pipeline.models.batches import BatchModel
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage
from schemas.config import EndpointCaptioner

FAST = Pace(quiet_s=0.2, poll_s=0.1, settle_s=0.3, room_s=0.2)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The method, and death after it."""

    async def last(*arguments: Any) -> Any:
        await method(*arguments)
        die()

    return last


def arm(step: str) -> None:
    """Puts death after a step."""
    api, log = batch_api.BatchApi, batch_log.BatchLog
    if step in ("upload", "state", "lines"):
        setattr(api, step, deadly(getattr(api, step)))
    create, write = api.create, log.write

    async def dying_create(*arguments: Any) -> Any:
        asyncio.get_running_loop().call_later(0.3, die)
        return await create(*arguments)

    def dying_write(self: batch_log.BatchLog, record: batch_log.BatchRecord) -> None:
        write(self, record)
        reached = {"on file": record.file, "on batch": record.batch, "closed": record.closed}
        if reached.get(step):
            die()

    log.write = dying_write  # type: ignore[method-assign]
    if step == "create":
        api.create = dying_create  # type: ignore[method-assign]


async def ask(base_url: str, run: str, number: int) -> list[str]:
    """The replies to so many questions."""
    config = EndpointCaptioner(model="m", base_url=base_url, batch=True, retries=3)
    model = BatchModel(config, "captioner", CallStore(run), pace=FAST)
    chats = [[ChatMessage("user", (f"say {n}", b"\xff\xd8picture"))] for n in range(number)]
    replies = await asyncio.gather(*(model.complete(chat) for chat in chats))
    await model.close()
    return [reply.text for reply in replies]


if __name__ == "__main__":
    arm({"poll": "state", "download": "lines"}.get(sys.argv[4], sys.argv[4]))
    print(json.dumps(asyncio.run(ask(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
