"""Files of a run on any fsspec file system, written whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import Fatal


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
        """Raises FileNotFoundError."""
        return bytes(self.fs.cat_file(self.path(name)))

    def read_or_none(self, name: str) -> bytes | None:
        """The content, or None where there is no such file."""
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Writes atomically and durably. Raises Fatal where the disk is full or the folder cannot be written."""
        try:
            if self.is_local:
                _write_locally(Path(self.path(name)), lambda file: file.write(data))
            else:
                self.fs.pipe_file(self.path(name), data)
        except OSError as error:
            raise Fatal(f"cannot write {name} in {self.url}: {error.strerror or error}") from error

    def write_file(self, name: str, source: Path) -> int:
        """Writes a local file's content as `write` does, without holding it in memory; gives its bytes."""
        try:
            if self.is_local:
                with source.open("rb") as content:
                    _write_locally(Path(self.path(name)), lambda file: shutil.copyfileobj(content, file))
            else:
                self.fs.put_file(str(source), self.path(name))
        except OSError as error:
            raise Fatal(f"cannot write {name} in {self.url}: {error.strerror or error}") from error
        return source.stat().st_size

    def names(self, folder: str, suffix: str) -> list[str]:
        """Names of the files directly in a folder that end in `suffix`, sorted; empty where there is no folder."""
        try:
            entries = self.fs.ls(self.path(folder), detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(name for name in (str(e).rsplit("/", 1)[-1] for e in entries) if name.endswith(suffix))


def _write_locally(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
