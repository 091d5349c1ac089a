"""The child process of `pipeline.media.sandbox`: python -m pipeline.media.decoder_child DESCRIPTOR STALL_SECONDS."""

import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from pipeline.media.errors import VideoError
from pipeline.media.video import VideoFile
from schemas.captions import Picture
from schemas.video import FramePlan

BATCH = 16
"""Pictures per answer, and how many wait for the next question."""

SIGN_OF_LIFE_S = 0.5

Placed = tuple[int, int, Picture]


class Pulse:
    """Shows progress: postpones the process's own death, and tells a parent that waits for an answer."""

    def __init__(self, connection: Connection, stall_s: float) -> None:
        self._connection = connection
        self._stall_s = stall_s
        self._told = time.monotonic()
        self.asked = False

    def beat(self) -> None:
        """Called at each packet."""
        now = time.monotonic()
        if now - self._told < SIGN_OF_LIFE_S:
            return
        self._told = now
        signal.setitimer(signal.ITIMER_REAL, self._stall_s)
        if self.asked or self._connection.poll():
            self._connection.send(("busy",))

    def start(self) -> None:
        """Work begins: the alarm of the kernel's ends this process unless `beat` or `stop` is called in time."""
        signal.setitimer(signal.ITIMER_REAL, self._stall_s)

    def stop(self) -> None:
        """Work is done: waiting for the parent may take any time."""
        signal.setitimer(signal.ITIMER_REAL, 0)


class Sampling:
    """One sample iterator, decoded ahead by at most one batch."""

    def __init__(self, pictures: Iterator[Placed]) -> None:
        self._pictures = pictures
        self._ready: deque[Placed] = deque()
        self._fault: VideoError | None = None
        self._ended = False

    @property
    def wants_work(self) -> bool:
        return not self._ended and len(self._ready) < BATCH

    def work(self) -> None:
        """Makes one more picture ready."""
        try:
            self._ready.append(next(self._pictures))
        except StopIteration:
            self._ended = True
        except VideoError as error:
            self._ended, self._fault = True, error

    def take(self) -> list[Placed]:
        """The next batch; empty at the end. Raises VideoError once all pictures before the fault are handed out."""
        while self.wants_work:
            self.work()
        batch = list(self._ready)
        self._ready.clear()
        if not batch and self._fault is not None:
            raise self._fault
        return batch


class Server:
    """Answers the parent's requests about one video."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._file: VideoFile | None = None
        self._samplings: dict[int, Sampling] = {}

    def answer(self, dropped: Sequence[int], name: str, arguments: tuple[Any, ...]) -> Any:
        """Raises VideoError."""
        for number in dropped:
            self._samplings.pop(number, None)
        if name == "open":
            uri, video_id = arguments
            self._file = VideoFile(uri, video_id, self._pulse.beat)
            return self._file.video, self._file.timeline
        if name == "sample":
            return self._sample(*arguments)
        return self._samplings[arguments[0]].take()

    def _sample(self, number: int, plans: Sequence[FramePlan]) -> None:
        assert self._file is not None
        self._samplings[number] = Sampling(self._file.sample(plans))

    def work_ahead(self) -> bool:
        """Makes one picture ready for a later request; False where there is nothing to do."""
        for sampling in self._samplings.values():
            if sampling.wants_work:
                sampling.work()
                return True
        return False


def serve(connection: Connection, stall_s: float) -> None:
    """Answers requests until the parent is gone."""
    pulse = Pulse(connection, stall_s)
    server = Server(pulse)
    while True:
        pulse.start()
        while not connection.poll() and server.work_ahead():
            pass
        pulse.stop()
        dropped, name, arguments = connection.recv()
        pulse.start()
        pulse.asked = True
        try:
            reply: tuple[Any, ...] = ("done", server.answer(dropped, name, arguments))
        except VideoError as error:
            reply = ("fault", error.kind, error.message)
        pulse.asked = False
        pulse.stop()
        connection.send(reply)


def main() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        serve(Connection(int(sys.argv[1])), float(sys.argv[2]))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main()
