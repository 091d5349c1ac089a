"""One driver at a time per run: a lease in the run directory, kept fresh, and taken over where its driver is gone.

`RUN/driver-N.json` is created by one process only and rewritten every few seconds; the highest N drives. Where its
driver is gone, `driver-(N+1).json` is created, which one process alone can do, on an object store and on NFS, too. A
driver that sees a higher number than its own stops, and so does one that finds another's lease under its own: a store
may not know how to create a file but once. Clocks of different machines are never compared.
"""

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from pipeline.remote import PATIENCE_S
from pipeline.storage import Storage
from schemas.errors import Fatal, UserError
from schemas.record import Record

BEAT_S = 10.0
"""Seconds between two signs of life."""

SILENCE_S = PATIENCE_S + 3 * BEAT_S
"""Seconds without one after which a driver on another machine counts as gone. On this machine its process tells. A
living one may be waiting for a store that is away from it: its sign comes with the store, or never.
"""

_SETTLE_S = 3.0
"""Seconds after which another's lease has come under the same number, where the store lets both create it."""


class Lease(Record):
    """What a driver says of itself. place: names the machine as of this boot; started: of its process, in ticks.

    beat: counts its signs of life.
    """

    token: str
    host: str
    place: str
    pid: int
    started: str
    beat: int = 0

    @property
    def said(self) -> bytes:
        return self.model_dump_json().encode()

    @property
    def process_gone(self) -> bool | None:
        """Whether its process has ended; None where it is of another machine."""
        if self.place != _place():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return _started(self.pid) != self.started


class Driver:
    """The right to drive a run, kept until `end`."""

    def __init__(self, storage: Storage, number: int, lease: Lease) -> None:
        self._storage = storage
        self._number = number
        self._lease = lease
        self._lost = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="driver-lease", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Raises Fatal, once, where another driver has taken over."""
        lost, self._lost = self._lost, ""
        if lost:
            raise Fatal(lost)

    def end(self) -> None:
        """Gives the run free."""
        self._ended.set()
        self._thread.join(timeout=BEAT_S)
        with suppress(Fatal):
            if _is_ours(self._storage, self._number, self._lease):
                self._storage.remove(_name(self._number))

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(Fatal):  # a store that is away for a while; what matters is who drives when it is back
                number, other = _latest(self._storage) or (self._number, None)
                if number > self._number or (other and other.token != self._lease.token):
                    who = f"process {other.pid} on {other.host}" if other else "another process"
                    self._lost = f"{who} has taken over {self._storage.url}, since this one gave no sign of life"
                    return
                self._lease = self._lease.model_copy(update={"beat": self._lease.beat + 1})
                self._storage.write(_name(self._number), self._lease.said)


@contextmanager
def driving(url: str) -> Iterator[Driver]:
    """The right to drive a run. Raises UserError where another process has it.

    A driver that was killed is replaced at once on its own machine, from another one after two minutes of silence.
    """
    storage = Storage(url)
    driver = _taken(storage)
    try:
        yield driver
    finally:
        driver.end()


def _taken(storage: Storage) -> Driver:
    token, host = secrets.token_hex(16), platform.node()
    lease = Lease(token=token, host=host, place=_place(), pid=os.getpid(), started=_started(os.getpid()))
    while True:
        number, standing = _latest(storage) or (0, None)
        if number:
            _require_gone(storage, number, standing)
        if not storage.create(_name(number + 1), lease.said):
            continue
        if not _creates_once(storage, number + 1, lease):
            time.sleep(_SETTLE_S)
        if _numbers(storage)[-1:] != [number + 1]:
            storage.remove(_name(number + 1))  # others came and went since we looked
        elif _is_ours(storage, number + 1, lease):
            for old in _numbers(storage)[:-1]:
                storage.remove(_name(old))
            return Driver(storage, number + 1, lease)


def _creates_once(storage: Storage, number: int, lease: Lease) -> bool:
    """Whether the storage refuses to create a lease again: many a store does not know the condition, or ignores it."""
    again = lease.model_copy(update={"beat": 1})
    return storage.is_local or (storage.knows_new and not storage.create(_name(number), again.said))


def _is_ours(storage: Storage, number: int, lease: Lease) -> bool:
    standing = _read(storage.read_or_none(_name(number)) or b"")
    return standing is not None and standing.token == lease.token


def _require_gone(storage: Storage, number: int, lease: Lease | None) -> None:
    """Raises UserError where a driver lives: by its process, or by a sign of life.

    Only seconds between two looks are silence: while the store is away from us, its driver cannot be heard either.
    """
    gone = lease.process_gone if lease else None
    if gone is False and lease is not None:
        raise _driven(storage.url, lease)
    silence, pause = 0.0, min(1.0, BEAT_S)
    while not gone and silence < SILENCE_S:
        time.sleep(pause)
        silence += pause
        now, standing = _latest(storage) or (0, None)
        if now != number:
            return
        if standing is not None and standing != lease:
            raise _driven(storage.url, standing)


def _driven(url: str, lease: Lease) -> UserError:
    return UserError(f"{url} is being worked on by process {lease.pid} on {lease.host}: wait for it, or stop it first")


def _latest(storage: Storage) -> tuple[int, Lease | None] | None:
    """The highest number and its lease, None where that cannot be read; None where there is none."""
    for number in reversed(_numbers(storage)):
        data = storage.read_or_none(_name(number))
        if data is not None:
            return number, _read(data)
    return None


def _read(data: bytes) -> Lease | None:
    try:
        return Lease.model_validate_json(data)
    except ValidationError:
        return None


def _numbers(storage: Storage) -> list[int]:
    """Of all leases, sorted."""
    middles = (name.removeprefix("driver-").removesuffix(".json") for name in storage.names("", ".json"))
    return sorted(int(middle) for middle in middles if middle.isdecimal())


def _name(number: int) -> str:
    return f"driver-{number}.json"


def _place() -> str:
    """Names this machine as of its boot, and within it the container: where a process id means the same process."""
    boot, room = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return json.dumps([platform.node(), boot.read_text().strip(), str(room.readlink())])
    except OSError:
        return json.dumps([platform.node()])


def _started(pid: int) -> str:
    """When a process began, in ticks since the boot; "" where that is not known, or where it has ended."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]  # ended, and not yet asked for by its parent
    except (OSError, IndexError):
        return ""
