"""What children make of an interrupt, which they take over from the process that starts them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts(handler: Any) -> Iterator[None]:
    """Processes started meanwhile ignore an interrupt with `SIG_IGN`, and heed it with any function.

    Without it, that depends on how the tests were started: a shell's background ignores interrupts.
    """
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
