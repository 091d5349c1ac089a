"""Files of a run on any fsspec file system, written whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.remote import answered, is_remote, missing, open_remote, patiently, reason, shown
from schemas.errors import Fatal

T = TypeVar("T")

_NAMELESS: int | None = getattr(os, "O_TMPFILE", None)
"""Opens a file that has no name yet (Linux)."""


@dataclass(frozen=True)
class StoredFile:
    """A file of a folder. changed_at: Unix seconds of its last change, None where the file system does not tell."""

    name: str
    bytes: int
    changed_at: float | None


class Storage:
    """A folder, local or on an object store (`s3://bucket/run`).

    A file that exists under its final name is complete: locally by a temporary name, fsync and rename; on an object
    store by one PUT, or one completion of an upload in parts. What may pass by itself on the way there is tried again.
    knows_new: until it has said otherwise, the store has a PUT that never replaces a file.
    """

    def __init__(self, url: str) -> None:
        """Raises UserError where there is no file system for the URL."""
        self.url = shown(url)
        self.fs: Any
        self.root: str
        self.fs, self.root = open_remote(url) if is_remote(url) else fsspec.core.url_to_fs(url)
        self.is_local = isinstance(self.fs, LocalFileSystem)
        self.knows_new = True

    def path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}".rstrip("/")

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError; Fatal where there may be such a file, but it cannot be read."""
        path = self.path(name)
        if self.is_local:
            return self._attempt("read", name, Path(path).read_bytes, FileNotFoundError)
        return self._attempt("read", name, lambda: bytes(self.fs.cat_file(path)), FileNotFoundError)

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`, and no others. Raises as `read` does."""
        return self._attempt("read", name, lambda: self._range(self.path(name), start, end), FileNotFoundError)

    def size(self, name: str) -> int:
        """Bytes of a file. Raises as `read` does."""
        return self._attempt("read", name, lambda: int(self.fs.size(self.path(name))), FileNotFoundError)

    def read_or_none(self, name: str) -> bytes | None:
        """The content, or None where there is no such file."""
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def tail(self, name: str, most: int) -> bytes:
        """The last so many bytes, or all. Raises Fatal where they cannot be read."""
        path = self.path(name)
        if self.is_local:
            return self._attempt("read", name, lambda: _end(Path(path), most))
        return self._attempt("read", name, lambda: bytes(self.fs.cat_file(path, start=-most)))

    def write(self, name: str, data: bytes) -> None:
        """Writes atomically and durably. Raises Fatal where the disk is full or the folder cannot be written."""
        path = self.path(name)
        if self.is_local:
            self._attempt("write", name, lambda: _write_locally(Path(path), lambda file: file.write(data)))
        else:
            self._attempt("write", name, lambda: self.fs.pipe_file(path, data))

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file that does not exist yet; False where it does, though another process made it just now.

        data: where it matters whose file it is, unlike any other writer's: that is how a writer knows its own again
        whose answer was lost on the way.
        """
        path = self.path(name)
        try:
            if self.is_local:
                fill = lambda file: file.write(data)  # noqa: E731
                self._attempt("write", name, lambda: _write_locally(Path(path), fill, _link), FileExistsError)
            else:
                self._attempt("write", name, lambda: self._put_new(path, data), FileExistsError)
        except FileExistsError:
            return not self.is_local and self.read_or_none(name) == data
        return True

    def keep(self, name: str, data: bytes) -> bool:
        """As `create`, with half its disk accesses, for a file that its reader can tell to be whole.

        After the machine's power has failed, a file that was being written may be there and end early.
        """
        path, nameless = Path(self.path(name)), _NAMELESS
        if not self.is_local or nameless is None:
            return self.create(name, data)
        try:
            self._attempt("write", name, lambda: _keep_locally(path, data, nameless), FileExistsError)
        except FileExistsError:
            return False
        return True

    def write_file(self, name: str, source: Path) -> int:
        """Writes a local file's content as `write` does, without holding it in memory; gives its bytes."""
        path = self.path(name)

        def copy(file: BinaryIO) -> None:
            with source.open("rb") as content:
                shutil.copyfileobj(content, file)

        if self.is_local:
            self._attempt("write", name, lambda: _write_locally(Path(path), copy))
        else:
            self._attempt("write", name, lambda: self.fs.put_file(str(source), path))
        return source.stat().st_size

    def remove(self, name: str) -> None:
        """Removes a file; no-op where there is none. Raises Fatal where it cannot be removed."""
        with suppress(FileNotFoundError):
            self._attempt("remove", name, lambda: self.fs.rm_file(self.path(name)), FileNotFoundError)

    def names(self, folder: str, suffix: str) -> list[str]:
        """Names of the files directly in a folder that end in `suffix`, sorted; empty where there is no folder."""
        found = self._listed(folder) if self.is_local else map(_last, self._ls(folder, False))
        return sorted(name for name in found if name.endswith(suffix))

    def files(self, folder: str) -> list[StoredFile]:
        """The files directly in a folder, sorted by name; empty where there is no folder."""
        return self.entries(folder)[1]

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in a folder, sorted; empty where there is none."""
        return self.entries(folder)[0]

    def entries(self, folder: str) -> tuple[list[str], list[StoredFile]]:
        """The folders and the files directly in a folder, each sorted by name, of one listing."""
        entries = self._ls(folder, True)
        files = (
            StoredFile(_last(entry["name"]), int(entry["size"] or 0), changed_at(entry))
            for entry in entries
            if entry["type"] == "file" and entry["name"] != self.path(folder)
        )
        folders = sorted(_last(entry["name"]) for entry in entries if entry["type"] == "directory")
        return folders, sorted(files, key=lambda file: file.name)

    def _listed(self, folder: str) -> list[str]:
        """As `_ls`, which looks at each path of a local folder: for a million calls that takes longer than all else."""
        path = self.path(folder)
        try:
            return self._attempt("list", folder, lambda: os.listdir(path), FileNotFoundError)  # noqa: PTH208  # names alone
        except FileNotFoundError:
            return []

    def _ls(self, folder: str, detail: bool) -> list[Any]:
        path = self.path(folder)
        try:
            listed = self._attempt(
                "list", folder, lambda: self.fs.ls(path, detail=detail, refresh=True), FileNotFoundError
            )
            return list(listed)
        except FileNotFoundError:
            return []

    def _range(self, path: str, start: int, end: int) -> bytes:
        data = bytes(self.fs.cat_file(path, start=start, end=end))
        if len(data) != end - start:
            raise ConnectionError(f"{len(data)} bytes came of {end - start}")
        return data

    def _put_new(self, path: str, data: bytes) -> None:
        """Raises FileExistsError. Where the store knows no condition, a look before the PUT has to do."""
        if self.knows_new:
            try:
                self.fs.pipe_file(path, data, mode="create")
                return
            except Exception as error:
                status, _ = answered(error)
                if status == 412:
                    raise FileExistsError(path) from error
                if status != 501 and not isinstance(error, NotImplementedError | TypeError):
                    raise
                self.knows_new = False
        if self.fs.exists(path):
            raise FileExistsError(path)
        self.fs.pipe_file(path, data)

    def _attempt(self, what: str, name: str, work: Callable[[], T], *expected: type[OSError]) -> T:
        """What `work` gives. Of a remote file system any error becomes Fatal, since its client has errors of its own.

        expected: errors that the caller knows what to do with. A missing bucket is never one: it holds no call because
        it is not there, and every call would be paid again before the first is written.
        """
        try:
            return work() if self.is_local else patiently(work)
        except Exception as error:
            if isinstance(error, expected) and (missing(error) or not isinstance(error, FileNotFoundError)):
                raise
            if self.is_local and not isinstance(error, OSError):
                raise
            raise Fatal(f"cannot {what} {name} in {self.url}: {reason(error)}".replace("  ", " ")) from error


def _end(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        file.seek(-min(most, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return file.read()


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def changed_at(entry: dict[str, Any]) -> float | None:
    """When a file was changed: local and remote file systems tell it under names of their own."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = entry.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


def _link(temporary: Path, path: Path) -> None:
    """Gives a file its final name. Raises FileExistsError where it is taken; atomic on NFS, too.

    Where a file system has no hard links, a look before the renaming has to do.
    """
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        if temporary.stat().st_nlink < 2:  # else it was linked, and NFS lost the answer
            raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if path.exists():
            raise FileExistsError(path) from error
        temporary.replace(path)
        return
    temporary.unlink()


def _keep_locally(path: Path, data: bytes, nameless: int) -> None:
    """A file without a name gets one when it is written; then one step of the disk's journal makes both last."""
    try:
        file = os.open(path.parent, nameless | os.O_WRONLY, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        _keep_locally(path, data, nameless)
        return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        _write_locally(path, lambda file: file.write(data), _link)  # a file system without such files, as NFS
        return
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
        os.link(str(file), path, src_dir_fd=_open_files(), follow_symlinks=True)
        os.fsync(file)
    finally:
        os.close(file)


@cache
def _open_files() -> int:
    """The folder in which a process's open files have names."""
    return os.open("/proc/self/fd", os.O_RDONLY)


def _write_locally(
    path: Path, fill: Callable[[BinaryIO], object], place: Callable[[Path, Path], object] = Path.replace
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
