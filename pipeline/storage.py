"""Files of a run on any fsspec file system, written whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import Fatal


@dataclass(frozen=True)
class StoredFile:
    """A file of a folder. changed_at: Unix seconds of its last change, None where the file system does not tell."""

    name: str
    bytes: int
    changed_at: float | None


class Storage:
    """A folder, local or on an object store (`s3://bucket/run`).

    A file that exists under its final name is complete: locally by a temporary name, fsync and rename; on an object
    store by one PUT.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.fs, self.root = fsspec.core.url_to_fs(url)
        self.is_local = isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError; Fatal where there may be such a file, but it cannot be read."""
        with self._attempt("read", name, FileNotFoundError):
            path = self.path(name)
            return Path(path).read_bytes() if self.is_local else bytes(self.fs.cat_file(path))

    def read_or_none(self, name: str) -> bytes | None:
        """The content, or None where there is no such file."""
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Writes atomically and durably. Raises Fatal where the disk is full or the folder cannot be written."""
        with self._attempt("write", name):
            if self.is_local:
                _write_locally(Path(self.path(name)), lambda file: file.write(data))
            else:
                self.fs.pipe_file(self.path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file that does not exist yet; False where it does, though another process made it just now."""
        try:
            with self._attempt("write", name, FileExistsError):
                if self.is_local:
                    _write_locally(Path(self.path(name)), lambda file: file.write(data), place=_link)
                else:
                    self.fs.pipe_file(self.path(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def write_file(self, name: str, source: Path) -> int:
        """Writes a local file's content as `write` does, without holding it in memory; gives its bytes."""
        with self._attempt("write", name):
            if self.is_local:
                with source.open("rb") as content:
                    _write_locally(Path(self.path(name)), lambda file: shutil.copyfileobj(content, file))
            else:
                self.fs.put_file(str(source), self.path(name))
        return source.stat().st_size

    def remove(self, name: str) -> None:
        """Removes a file; no-op where there is none. Raises Fatal where it cannot be removed."""
        try:
            with self._attempt("remove", name, FileNotFoundError):
                self.fs.rm_file(self.path(name))
        except FileNotFoundError:
            return

    def names(self, folder: str, suffix: str) -> list[str]:
        """Names of the files directly in a folder that end in `suffix`, sorted; empty where there is no folder."""
        return sorted(name for name in (_last(str(e)) for e in self._entries(folder, False)) if name.endswith(suffix))

    def files(self, folder: str) -> list[StoredFile]:
        """The files directly in a folder, sorted by name; empty where there is no folder."""
        entries = [entry for entry in self._entries(folder, True) if entry["type"] == "file"]
        files = (StoredFile(_last(entry["name"]), int(entry["size"] or 0), _changed_at(entry)) for entry in entries)
        return sorted(files, key=lambda file: file.name)

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in a folder, sorted; empty where there is none."""
        return sorted(_last(entry["name"]) for entry in self._entries(folder, True) if entry["type"] == "directory")

    def _entries(self, folder: str, detail: bool) -> list[Any]:
        try:
            with self._attempt("list", folder, FileNotFoundError):
                return list(self.fs.ls(self.path(folder), detail=detail, refresh=True))
        except FileNotFoundError:
            return []

    @contextmanager
    def _attempt(self, what: str, name: str, *expected: type[OSError]) -> Iterator[None]:
        """Turns what a file system raises into Fatal: of a remote one anything, since its client has errors of its own.

        expected: errors that the caller knows what to do with.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, expected) or (self.is_local and not isinstance(error, OSError)):
                raise
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Fatal(f"cannot {what} {name} in {self.url}: {said}") from error


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _changed_at(entry: dict[str, Any]) -> float | None:
    """When a file was changed: local and remote file systems tell it under names of their own."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = entry.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


def _link(temporary: Path, path: Path) -> None:
    """Gives a file its final name. Raises FileExistsError where it is taken; atomic on NFS, too."""
    path.hardlink_to(temporary)
    temporary.unlink()


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
