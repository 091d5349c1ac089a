"""The video files of a run, as a browser may play them: only the very bytes that the run saw."""

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from schemas.errors import Rejected
from schemas.video import Video

_TYPES = {
    "mov": "video/mp4",
    "mp4": "video/mp4",
    "matroska": "video/webm",
    "webm": "video/webm",
    "ogg": "video/ogg",
    "mpegts": "video/mp2t",
    "avi": "video/x-msvideo",
    "flv": "video/x-flv",
    "gif": "image/gif",
}
"""By the container's name as FFmpeg gives it; a browser plays MP4's and WebM's kin."""

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Film:
    """An open file. mime: its type; size: bytes."""

    file: BinaryIO
    mime: str
    size: int


class Films:
    """Opens a file only where its SHA-256 is the recorded one: neither a path nor a link leads to anything else."""

    def __init__(self) -> None:
        self._proven: dict[tuple[int, int, int, int], str] = {}
        self._lock = threading.Lock()

    @contextmanager
    def open(self, video: Video) -> Iterator[Film]:
        """Raises Rejected: `video_missing`, `video_elsewhere` for an URL, `video_changed` where it is another file."""
        if "://" in video.uri:
            raise Rejected("video_elsewhere", f"the video lies at {video.uri}: only local files are played")
        file = _opened(video.uri)
        with file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise Rejected("video_missing", f"{video.uri} is no file")
            if self._hash(file, found) != video.content_hash:
                raise Rejected("video_changed", f"{video.uri} is another file than the run saw: its SHA-256 differs")
            yield Film(file, _TYPES.get(video.container.split(",")[0], "application/octet-stream"), found.st_size)

    def _hash(self, file: BinaryIO, found: os.stat_result) -> str:
        """Of a file's content, computed once while the file stays as it is."""
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            if key not in self._proven:
                digest = hashlib.sha256()
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                self._proven[key] = digest.hexdigest()
            return self._proven[key]


def fault(video: Video) -> str:
    """What keeps a video from being played, as far as can be seen without reading it; "" where nothing does."""
    if "://" in video.uri:
        return f"The video lies at {video.uri}: only local files are played."
    try:
        with _opened(video.uri):
            return ""
    except Rejected as error:
        return f"The video is not here: {error.message}."


def _opened(path: str) -> BinaryIO:
    """A file for reading; a pipe or a device does not block. Raises Rejected."""
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise Rejected("video_missing", f"{path}: {said}") from error
