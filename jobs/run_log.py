"""The run's log: one JSON object a line, every few seconds and at the end, in `RUN/logs/`. It holds no secrets."""

import json
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.tally import Tally
from pipeline.storage import Storage
from schemas.errors import Fatal

_EVERY_S = 5.0
_EVERY_S_REMOTE = 60.0
"""An object store has no appending: there a file is put again for each line."""

_FILE_BYTES = 100_000
"""Bytes of a file on an object store after which the next one is begun."""


class RunLog:
    """Of each session `logs/progress-20260131T120000Z-0001.jsonl`, on an object store later on `…-0002.jsonl`, too.

    Each line has `time` (UTC), `event` (`progress`, at last `end`) and a tally's fields; `end` has `error`, or null.
    A thread writes, and a log that cannot be written is said once: neither stops the run. While a line is being
    written, no other comes: figures are sums, so that the next line makes up for it.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._session = f"logs/progress-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        self._file = 1
        self._text = ""
        self._noted_at = float("-inf")
        self._last: Tally | None = None
        self._thread = ThreadPoolExecutor(1, "run-log")
        self._writing: Future[None] | None = None
        self._said = False

    def note(self, tally: Tally) -> None:
        """Begins to write a line where the last one is some seconds old."""
        self._last = tally
        due = time.monotonic() - self._noted_at >= (_EVERY_S if self._storage.is_local else _EVERY_S_REMOTE)
        if due and (self._writing is None or self._writing.done()):
            self._begin("progress", tally, {})

    def end(self, error: BaseException | None) -> None:
        """Writes the last line. error: that the session ended with; its text where it is one of ours, else its name."""
        if self._last is not None:
            said = None if error is None else str(error) if isinstance(error, Fatal) else type(error).__name__
            self._begin("end", self._last, {"error": said})
        self._thread.shutdown()

    @property
    def _name(self) -> str:
        return f"{self._session}-{self._file:04d}.jsonl"

    def _begin(self, event: str, tally: Tally, more: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "event": event, **_rounded(asdict(tally)), **more}) + "\n"
        self._noted_at = time.monotonic()
        self._writing = self._thread.submit(self._write, line)

    def _write(self, line: str) -> None:
        try:
            self._append(line) if self._storage.is_local else self._put(line)
        except (Fatal, OSError) as error:
            if not self._said:
                print(f"the run goes on without its log: {error}", file=sys.stderr)
            self._said = True

    def _append(self, line: str) -> None:
        path = Path(self._storage.path(self._name))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line)

    def _put(self, line: str) -> None:
        if len(self._text) + len(line) > _FILE_BYTES and self._text:
            self._file, self._text = self._file + 1, ""
        self._text += line
        self._storage.write(self._name, self._text.encode())


def _rounded(value: Any) -> Any:
    """Without the digits that mean nothing."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return round(value, 6) if isinstance(value, float) else value
