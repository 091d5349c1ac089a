"""Ports for servers that other programs start."""

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """One that no system hands out by itself: a program takes it only seconds later, and other tests run meanwhile."""
    for port in random.sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no free port")
