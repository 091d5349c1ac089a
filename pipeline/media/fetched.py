"""Videos of other machines, fetched once per node: a folder of whole files, bounded, shared by all processes there.

    KEY.video     a whole file; whoever reads it holds a shared lock on it, and it stays as long
    KEY.SIZE.part what has come so far of one of SIZE bytes
    KE.lock       locked by the process that fetches a video whose key begins so; others wait for it

KEY stands for the URL and what the store says of its content (ETag, size, time of change), so a video that was replaced
is another. All locks are the kernel's and end with their process, however that ends.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.media.errors import VideoError
from pipeline.remote import is_remote, missing, open_remote, patiently, reason, shown
from schemas.errors import Fatal, UserError
from schemas.record import content_id

FOLDER_VARIABLE, SIZE_VARIABLE = "ZOOMTRAIL_VIDEO_CACHE", "ZOOMTRAIL_VIDEO_CACHE_GB"
"""A node's affair, not a run's: nodes have disks of their own, and several runs share one."""

_DEFAULT_BYTES = 50 * 10**9
_SPARE_BYTES = 1 << 30
"""Left free on the disk whatever is fetched."""

_TRIES = 3
"""Fetches of a video that is replaced, or comes in another size than was said, before that is given up."""


class LocalVideo:
    """A video's file on this machine, which stays until `close`. path: of the file."""

    def __init__(self, path: str, held: BinaryIO | None = None) -> None:
        self.path = path
        self._held = held

    def close(self) -> None:
        """May be called twice."""
        if self._held is not None:
            self._held.close()


def local_video(uri: str) -> LocalVideo:
    """The file of a video; one that lies elsewhere is fetched first, unless it is here already.

    Raises VideoError (video_missing) where there is none, Fatal where the store or the disk does not let it be had.
    """
    if not is_remote(uri):
        return LocalVideo(uri.removeprefix("file://").removeprefix("local://"))
    return VideoCache.of_this_node().get(uri)


class VideoCache:
    """The fetched videos of a node.

    limit: bytes that they take up at most, but for what is in use; None: 50 GB, or half of what the disk could give.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        """Raises Fatal where the folder cannot be made."""
        self._folder = folder
        self._limit = limit
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Fatal(f"cannot make {folder} for fetched videos: {error.strerror}; set {FOLDER_VARIABLE}") from error

    @classmethod
    def of_this_node(cls) -> "VideoCache":
        """As the environment says; by default in the user's cache. Raises UserError where it says nonsense; Fatal."""
        named = os.environ.get(FOLDER_VARIABLE)
        folder = Path(named) if named else _default_folder()
        if not (gigabytes := os.environ.get(SIZE_VARIABLE)):
            return cls(folder)
        try:
            return cls(folder, int(float(gigabytes) * 1e9))
        except ValueError as error:
            raise UserError(f"{SIZE_VARIABLE}={gigabytes}: give a number of gigabytes") from error

    def get(self, uri: str) -> LocalVideo:
        """Raises as `local_video` does."""
        fs, path = open_remote(uri)
        for _ in range(_TRIES):
            found = _asked(uri, lambda: fs.info(path))
            if found.get("type") == "directory":
                raise VideoError("video_missing", f"{shown(uri)}: not a file")
            mark = _mark(found)
            video = self._folder / f"{content_id([uri, mark], 32)}.video"
            if (held := _held(video)) is not None:
                return LocalVideo(str(video), held)
            with self._locked(self._lock_of(video)):
                if (held := _held(video)) is not None:  # another process has fetched it meanwhile
                    return LocalVideo(str(video), held)
                part = self._make_room(video, int(found.get("size") or 0))
                try:
                    _asked(uri, lambda part=part: fs.get_file(path, str(part)))
                    whole = found.get("size") in (None, part.stat().st_size)
                    if whole and _mark(_asked(uri, lambda: fs.info(path))) == mark:  # else replaced under our hands
                        _complete(part, video)
                finally:
                    part.unlink(missing_ok=True)
            if (held := _held(video)) is not None:
                return LocalVideo(str(video), held)
        raise Fatal(
            f"cannot fetch {shown(uri)}: it was replaced, or came in another size than was said, {_TRIES} times"
        )

    def _make_room(self, video: Path, size: int) -> Path:
        """Removes what was longest unused until a video fits in; gives the file to fetch it into. Raises Fatal."""
        with self._locked(self._folder / "room.lock"):
            self._clear_parts()
            excess = self._taken() + size - self._bound()
            for old in sorted(self._folder.glob("*.video"), key=_used_at):
                if excess <= 0 and self._free() >= size:
                    break
                excess -= _remove_unused(old)
            if (free := self._free()) < size:
                raise Fatal(
                    f"no room for a video of {size:,} bytes in {self._folder}: {max(0, free):,} are free, and what is "
                    f"there is in use; {FOLDER_VARIABLE} names another folder"
                )
            part = video.with_name(f"{video.stem}.{size}.part")
            part.touch()
            return part

    def _clear_parts(self) -> None:
        """Removes what processes that died have left."""
        for part in self._folder.glob("*.part"):
            with suppress(OSError), self._lock_of(part).open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink(missing_ok=True)

    def _lock_of(self, file: Path) -> Path:
        return self._folder / f"{file.name[:2]}.lock"

    def _bound(self) -> int:
        if self._limit is not None:
            return self._limit
        return min(_DEFAULT_BYTES, (shutil.disk_usage(self._folder).free + self._taken()) // 2)

    def _taken(self) -> int:
        """Bytes of all videos, those counted whole that are on the way."""
        return sum(map(_size, self._folder.glob("*.video"))) + sum(map(_announced, self._folder.glob("*.part")))

    def _free(self) -> int:
        """Bytes that a further video may take of the disk."""
        to_come = sum(_announced(part) - _size(part) for part in self._folder.glob("*.part"))
        return shutil.disk_usage(self._folder).free - max(0, to_come) - _SPARE_BYTES

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _default_folder() -> Path:
    """In the user's cache; beside other temporary files where a user has none, as in many containers."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = home if os.access(home if home.exists() else home.parent, os.W_OK) else None
    return (place / "zoomtrail" if place else Path(tempfile.gettempdir()) / f"zoomtrail-{os.getuid()}") / "videos"


def _asked(uri: str, request: Any) -> Any:
    """What a store answers about a video, or sends of it. Raises VideoError, Fatal."""
    try:
        return patiently(request)
    except Exception as error:  # each client has errors of its own
        if missing(error):
            raise VideoError("video_missing", f"{shown(uri)}: there is no such file") from error
        raise Fatal(f"cannot fetch {shown(uri)}: {reason(error)}") from error


def _mark(found: dict[str, Any]) -> list[str]:
    """What a store says of a content: it changes where that does."""
    names = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")
    return [str(found.get(name)) for name in ("size", *names)]


def _held(video: Path) -> BinaryIO | None:
    """A whole video, locked against removal; None where there is none."""
    try:
        file = video.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)
    if video.exists() and os.path.samestat(os.fstat(file.fileno()), video.stat()):
        os.utime(video)
        return file
    file.close()  # removed between the opening and the lock
    return None


def _remove_unused(video: Path) -> int:
    """The bytes that this frees; 0 where the video is in use."""
    try:
        with video.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.fstat(file.fileno()).st_size
            video.unlink()
            return size
    except OSError:
        return 0


def _complete(part: Path, video: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(video)


def _used_at(video: Path) -> float:
    try:
        return video.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _announced(part: Path) -> int:
    return int(part.name.split(".")[1])
