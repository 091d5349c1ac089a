"""Threads for short work on files, beside an event loop that has much else to do."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Work = tuple["asyncio.Future[Any]", Callable[[], Any]]


class FileThreads:
    """Does what `loop.run_in_executor` does, at a fraction of its time: results that come together go back together.

    Used in one event loop.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._told = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives or raises, in one of the threads."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            for _ in range(self._threads):
                threading.Thread(target=self._serve, daemon=True).start()
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put((future, work))
        return await future

    def close(self) -> None:
        """Ends the threads once they have done what waits."""
        for _ in range(self._threads):
            self._waiting.put(None)

    def _serve(self) -> None:
        assert self._loop is not None
        while item := self._waiting.get():
            future, work = item
            try:
                self._done.append((future, work(), None))
            except BaseException as error:
                self._done.append((future, None, error))
            if not self._told:
                self._told = True
                try:
                    self._loop.call_soon_threadsafe(self._hand_back)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    return

    def _hand_back(self) -> None:
        self._told = False  # first: what is done from now on tells of itself
        while self._done:
            future, result, error = self._done.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
