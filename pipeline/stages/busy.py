"""How a verifier's time goes: it is asked something, or it waits for pictures that are still being decoded."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Busy:
    """Sums up seconds, of whatever is under way at the same time, from the first question on.

    A moment counts as busy where anything is asked, and as waiting where nothing is, but a video is being decoded.
    Moments without either (nothing is there to be replayed) count for neither. To be used from one thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asking = self._decoding = 0
        self._begun = False
        self._busy_s = self._waiting_s = 0.0
        self._since = clock()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around each time that the verifier is asked."""
        self._note()
        self._begun = True
        self._asking += 1
        try:
            yield
        finally:
            self._note()
            self._asking -= 1

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Around each time that a video is decoded."""
        self._note()
        self._decoding += 1
        try:
            yield
        finally:
            self._note()
            self._decoding -= 1

    def waited(self, seconds: float) -> None:
        """Of the time in which it was asked, what it waited for pictures to be resized."""
        self._busy_s -= seconds
        self._waiting_s += seconds

    def taken(self) -> tuple[float, float]:
        """Seconds busy and seconds waiting since this was last asked."""
        self._note()
        found = max(0.0, self._busy_s), self._waiting_s
        self._busy_s = self._waiting_s = 0.0
        return found

    def _note(self) -> None:
        now = self._clock()
        if self._asking:
            self._busy_s += now - self._since
        elif self._decoding and self._begun:
            self._waiting_s += now - self._since
        self._since = now
