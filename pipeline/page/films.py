"""The video files of a run: a run may come from anyone, so only the very bytes that it saw are played or decoded."""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from pipeline.media.errors import VideoError
from pipeline.remote import is_remote, shown
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
    """Opens a file only where its SHA-256 is the recorded one: neither a path nor a link leads to anything else.

    roots: URLs below which videos are fetched to be decoded; a video that a run names elsewhere is never asked for.
    """

    def __init__(self, roots: Sequence[str] = ()) -> None:
        self._roots = tuple(root.rstrip("/") + "/" for root in roots)
        self._proven: dict[tuple[int, int, int, int], str] = {}
        self._lock = threading.Lock()

    @contextmanager
    def open(self, video: Video) -> Iterator[Film]:
        """Raises Rejected: `video_elsewhere` for a URL, `video_missing` where there is no such file or another one."""
        if is_remote(video.uri):
            raise Rejected("video_elsewhere", _elsewhere(video))
        with self._proven_file(video) as file:
            mime = _TYPES.get(video.container.split(",")[0], "application/octet-stream")
            yield Film(file, mime, os.fstat(file.fileno()).st_size)

    def require(self, video: Video) -> None:
        """Raises Rejected as `open` does where a video must not be decoded; a URL may, below the roots."""
        if not is_remote(video.uri):
            self._proven_file(video).close()
        elif not self._below_roots(video.uri):
            where = "it is fetched only from where the run itself lies, or from below what --videos names"
            raise Rejected("video_elsewhere", f"the video lies at {shown(video.uri)}: {where}")

    def _below_roots(self, uri: str) -> bool:
        climbing = ".." in urlsplit(uri).path.replace("%2e", ".").replace("%2E", ".").split("/")
        return uri.startswith(self._roots) and not climbing and "::" not in uri

    def _proven_file(self, video: Video) -> BinaryIO:
        """The file of a video. What is wrong with it is not told apart: that would say what lies on this machine."""
        file = _opened(video)
        try:
            if self._hash(file, os.fstat(file.fileno())) == video.content_hash:
                return file
        except OSError as error:
            file.close()
            raise absent(video) from error
        file.close()
        raise absent(video)

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
    if is_remote(video.uri):
        return f"{_elsewhere(video)}."
    try:
        _opened(video).close()
    except VideoError as error:
        return f"{error.message}."
    return ""


def absent(video: Video) -> VideoError:
    """The one thing that is said of a file that is not the video."""
    return VideoError("video_missing", f"{shown(video.uri)} is not the video that the run saw, or is not here")


def roots_beside(url: str) -> tuple[str, ...]:
    """Where the videos of a run are fetched from by themselves: the bucket or the server that it lies on itself."""
    parts = urlsplit(url)
    return (f"{parts.scheme}://{parts.netloc}/",) if is_remote(url) and parts.netloc else ()


def _elsewhere(video: Video) -> str:
    return f"the video lies at {shown(video.uri)}: only local files are played"


def _opened(video: Video) -> BinaryIO:
    """A regular file for reading; a device is not touched, and a pipe does not block. Raises VideoError."""
    path = Path(video.uri.removeprefix("file://").removeprefix("local://"))
    try:
        if not path.is_file():
            raise absent(video)
        return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    except (OSError, ValueError) as error:
        raise absent(video) from error
