"""Requests that wait while a model is busy are taken together."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Serve = Callable[[Sequence[T]], Iterable[tuple[int, R | Exception]]]
"""From requests to (a request's number among them, its result or its error), each once, as soon as it is known."""


class SharedRuns(Generic[T, R]):
    """Hands requests to `serve` in a thread of its own: first one, then always all that have come in the meantime."""

    def __init__(self, serve: Serve[T, R], name: str) -> None:
        """name: of the thread."""
        self._serve = serve
        self._waiting: list[tuple[T, Future[R]]] = []
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def submit(self, request: T) -> Future[R]:
        """The result to come. An error of `serve` itself is that of all requests that it has not answered."""
        reply: Future[R] = Future()
        with self._lock:
            self._waiting.append((request, reply))
        self._thread.submit(self._run)
        return reply

    def _run(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, []
        taken = [(request, reply) for request, reply in taken if reply.set_running_or_notify_cancel()]
        if not taken:
            return
        try:
            for number, result in self._serve([request for request, _ in taken]):
                if isinstance(result, Exception):
                    taken[number][1].set_exception(result)
                else:
                    taken[number][1].set_result(result)
        except Exception as error:
            for _, reply in taken:
                if not reply.done():
                    reply.set_exception(error)
