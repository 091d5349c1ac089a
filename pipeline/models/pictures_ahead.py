"""Pictures decoded and resized in threads, ahead of the model that reads them."""

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.models.encoding import ChatEncoder, Tensors
from pipeline.models.shown import Shown

_THREADS = min(8, os.cpu_count() or 1)


class PicturesAhead:
    """What an encoder makes of pictures, by name. waited_s: seconds that have been spent waiting for one."""

    def __init__(self, encoder: ChatEncoder) -> None:
        self.waited_s = 0.0
        self._encoder = encoder
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pictures")
        self._coming: dict[str, Future[Tensors]] = {}

    def prepare(self, pictures: Mapping[str, Shown]) -> None:
        """Begins with those that are not under way, and returns."""
        for name, picture in pictures.items():
            if name not in self._coming:
                self._coming[name] = self._threads.submit(self._encoder.picture, picture)

    def tensors(self, pictures: Mapping[str, Shown]) -> Iterator[Tensors]:
        """Each picture as the vision tower takes it, in order. Raises Rejected for one that cannot be decoded."""
        self.prepare(pictures)
        futures = [self._coming.pop(name) for name in pictures]
        for future in futures:
            began = time.perf_counter()
            tensors = future.result()
            self.waited_s += time.perf_counter() - began
            yield tensors
