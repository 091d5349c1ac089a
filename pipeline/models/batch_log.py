"""What a run knows of its provider batches, written before and after each step, so that a crash loses no paid batch."""

import json
import secrets
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pipeline.leases import Need
from pipeline.models.request import Request
from pipeline.storage import Storage
from schemas.errors import Fatal
from schemas.record import Record

_FOLDER = "batches"


@dataclass(frozen=True)
class Asked:
    """A request of a batch. form: in which it was sent, as `Dialect` has it, but for its images."""

    request: Request
    form: Request


class BatchRecord(Record):
    """One batch. name: ours for it, unlike any other batch's; base_url: of the provider.

    file: the provider's id for the uploaded requests; batch: for the batch; each "" as long as there is none.
    closed: nothing more comes of it. asked, answered: numbers of requests. prompt, completion, images: what they may
    use at most, as `Need` has it.
    """

    name: str
    role: str
    base_url: str
    asked: int
    file: str = ""
    batch: str = ""
    closed: bool = False
    answered: int = 0
    prompt: int = 0
    completion: int = 0
    images: int = 0

    def need(self, begun: bool) -> Need:
        """What it may use, for the run's meter."""
        return Need(self.prompt, self.completion, self.asked, batch=True, begun=begun, images=self.images)


class BatchLog:
    """`RUN/batches/NAME/`: first `requests.jsonl` ({key, request, form} a line), then `state.json` (a `BatchRecord`).

    A form that is the request's own is left out. A file `turn-N` is created by one worker only, which alone may begin
    the batch from then on. Turn 1 is that of the record's writer, and has no file.
    """

    def __init__(self, run_url: str) -> None:
        self._storage = Storage(run_url)

    def records(self, known: Container[str] = ()) -> list[BatchRecord]:
        """All batches but the known ones, by name. Raises Fatal for a damaged record."""
        names = [name for name in self._storage.folders(_FOLDER) if name not in known]
        return [record for name in names if (record := self._record(name))]

    def begin(self, record: BatchRecord, requests: dict[str, Asked]) -> None:
        """Writes down a batch that is about to be sent. requests: by key."""
        lines = (json.dumps(_line(key, asked)) for key, asked in requests.items())
        self._storage.write(f"{_FOLDER}/{record.name}/requests.jsonl", "\n".join(lines).encode())
        self.write(record)

    def write(self, record: BatchRecord) -> None:
        self._storage.write(f"{_FOLDER}/{record.name}/state.json", record.model_dump_json().encode())

    def read(self, name: str) -> BatchRecord:
        """Raises Fatal where there is no such record."""
        record = self._record(name)
        if record is None:
            raise Fatal(f"{_FOLDER}/{name} of {self._storage.url} has lost its state.json")
        return record

    def requests(self, name: str) -> dict[str, Asked]:
        """The requests of a batch, by key."""
        lines = map(json.loads, self._storage.read(f"{_FOLDER}/{name}/requests.jsonl").splitlines())
        return {line["key"]: Asked(line["request"], line.get("form", line["request"])) for line in lines}

    def turn(self, name: str) -> int:
        """The number of the latest turn."""
        files = self._storage.files(f"{_FOLDER}/{name}")
        return max((int(file.name[5:]) for file in files if file.name.startswith("turn-")), default=1)

    def take_turn(self, name: str, turn: int) -> bool:
        """Takes a turn; False where another worker has it."""
        return self._storage.create(f"{_FOLDER}/{name}/turn-{turn}", secrets.token_hex(16).encode())

    def _record(self, name: str) -> BatchRecord | None:
        """None for a folder whose first step was never finished: nothing of it was sent."""
        data = self._storage.read_or_none(f"{_FOLDER}/{name}/state.json")
        if data is None:
            return None
        try:
            return BatchRecord.model_validate_json(data)
        except ValidationError as error:
            where = f"{_FOLDER}/{name}/state.json of {self._storage.url}"
            raise Fatal(f"{where} is damaged, and may name a batch that was paid for") from error


def _line(key: str, asked: Asked) -> dict[str, Any]:
    form = {"form": asked.form} if asked.form != asked.request else {}
    return {"key": key, "request": asked.request, **form}
