"""The run's log: one JSON object a line, every few seconds and at the end, in `RUN/logs/`. It holds no secrets."""

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.tally import Tally
from pipeline.storage import Storage
from schemas.errors import Fatal

_EVERY_S = 5.0
_EVERY_S_REMOTE = 60.0
"""An object store has no appending: there the whole log is put again."""


class RunLog:
    """One file for each session: `logs/progress-20260131T120000Z.jsonl`.

    Each line has `time` (UTC), `event` (`progress`, at last `end`) and a tally's fields; `end` has `error`, or null.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._name = f"logs/progress-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl"
        self._lines: list[str] = []
        self._written_at = float("-inf")
        self._last: Tally | None = None

    def note(self, tally: Tally) -> None:
        """Writes a line where the last one is some seconds old. Raises Fatal where it cannot be written."""
        self._last = tally
        if time.monotonic() - self._written_at >= (_EVERY_S if self._storage.is_local else _EVERY_S_REMOTE):
            self._write("progress", tally, {})

    def end(self, error: BaseException | None) -> None:
        """Writes the last line. error: that the session ended with; its text where it is one of ours, else its name."""
        if self._last is not None:
            said = None if error is None else str(error) if isinstance(error, Fatal) else type(error).__name__
            self._write("end", self._last, {"error": said})

    def _write(self, event: str, tally: Tally, more: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "event": event, **_rounded(asdict(tally)), **more}) + "\n"
        self._written_at = time.monotonic()
        if not self._storage.is_local:
            self._lines.append(line)
            self._storage.write(self._name, "".join(self._lines).encode())
            return
        path = Path(self._storage.path(self._name))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise Fatal(f"cannot write {self._name} in {self._storage.url}: {error.strerror or error}") from error


def _rounded(value: Any) -> Any:
    """Without the digits that mean nothing."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return round(value, 6) if isinstance(value, float) else value
