"""Running out of a device's memory, so that there is room again afterwards."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Full:
    """There was no room. message: torch's."""

    message: str


def within_memory(run: Callable[[], T]) -> T | Full:
    """What `run` returns, or that there was no room for it.

    An error holds the frames that it came through, and they hold tensors: it is gone before memory is given back.
    """
    try:
        return run()
    except torch.cuda.OutOfMemoryError as error:
        message = str(error)
    torch.cuda.empty_cache()
    return Full(message)
