"""A stored file of which parts are read, each as one request that is made again where it fails by the way."""

import io

from pipeline.storage import Storage

AHEAD_BYTES = 8 << 20
"""Of a file that is read from its beginning to its end."""


class Ranges(io.RawIOBase):
    """A file to read from. ahead: bytes that a request asks for at least, as those after it will be wanted, too.

    Raises FileNotFoundError where there is none, Fatal where it cannot be read.
    """

    def __init__(self, storage: Storage, name: str, ahead: int = 0) -> None:
        self.ahead = ahead
        self._storage = storage
        self._name = name
        self._size = storage.size(name)
        self._at = 0
        self._begin = 0
        self._held = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        if end <= self._at:
            return b""
        if not self._begin <= self._at <= end <= self._begin + len(self._held):
            until = min(max(end, self._at + self.ahead), self._size)
            self._begin, self._held = self._at, self._storage.read_range(self._name, self._at, until)
        data = self._held[self._at - self._begin : end - self._begin]
        self._at = end
        return data
