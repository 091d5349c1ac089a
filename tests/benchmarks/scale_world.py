"""What the benchmark of scale works on: one tiny video under many names, questions about it, and finished shards."""

import json
import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from pipeline.models.call_index import CallIndex, entry_of, table_of
from pipeline.models.calls import CallStore, Document
from pipeline.store import RunStore
from schemas.config import STAGES
from schemas.record import content_id
from tests.corpus import render_video

SECONDS = 8.0
PER_VIDEO = 50
"""Questions about each video, with two attempts each."""

ATTEMPTS = 2
MODEL = "scripted"


@dataclass(frozen=True)
class World:
    """A folder with a job. videos: each with a hundred attempts, and a shard of its own.

    Every video is the same file under another name.
    """

    folder: Path
    videos: int

    @property
    def job(self) -> Path:
        return self.folder / "job.yaml"

    @property
    def out(self) -> Path:
        return self.folder / "run"

    @property
    def attempts(self) -> int:
        return self.videos * PER_VIDEO * ATTEMPTS

    def write(self) -> None:
        """The video and the questions."""
        (self.folder / "videos").mkdir(parents=True, exist_ok=True)
        whole = self.folder / "whole.mp4"
        render_video(whole, SECONDS, size=(160, 120))
        with (self.folder / "questions.jsonl").open("w") as file:
            for number in range(self.videos):
                os.link(whole, self.folder / "videos" / _video(number))
                file.writelines(json.dumps(_question(number, n)) + "\n" for n in range(PER_VIDEO))

    def write_job(self, base_url: str, in_flight: int, workers: dict[str, Any], **more: Any) -> None:
        """The job; its models answer at an address. in_flight: calls of each worker."""
        teacher = {"model": MODEL, "base_url": base_url, "concurrency": in_flight, "max_tokens": 500}
        job = {
            "protocol": "videozoomer",
            "attempts": ATTEMPTS,
            "source": {"path": "questions.jsonl", "videos": "videos"},
            "teacher": {**teacher, "price": {"input": 1.0, "output": 4.0}},
            "workers": {"videos_per_shard": 1, **workers},
            **more,
        }
        self.job.write_text(yaml.safe_dump(job))

    def finish(self, shards: range, like: int) -> None:
        """Makes shards look committed by all stages: each is a further name of the file of one that is."""
        store = RunStore(str(self.out))
        for stage in STAGES:
            whole = self.out / store.shard_name(stage, like)
            for shard in shards:
                path = self.out / store.shard_name(stage, shard)
                if not path.exists():
                    os.link(whole, path)

    def keep_calls(self, count: int) -> None:
        """Calls as workers leave them: small files, and an index of a thousand in each of its own.

        A million of them: hence plain system calls, which take a third of the time of `Path.write_text` by threads.
        """
        index = CallIndex(CallStore(str(self.out)).storage)
        numbers = iter(range(count))
        for n in range(256):
            (self.out / "calls" / f"{n:02x}").mkdir(parents=True, exist_ok=True)
        while some := [_call(number) for number in islice(numbers, 1000)]:
            for call in some:
                self._keep(call)
            index.put(table_of(map(entry_of, some)))

    def _keep(self, call: Document) -> None:
        file = os.open(f"{self.out}/{CallStore.name(call['key'])}", os.O_WRONLY | os.O_CREAT, 0o666)
        os.write(file, json.dumps(call).encode())
        os.close(file)


def _video(number: int) -> str:
    return f"film-{number:06d}.mp4"


def _question(video: int, number: int) -> dict[str, Any]:
    return {
        "qid": f"{video}-{number}",
        "video": _video(video),
        "question": f"What does the person with the red bag do in scene {number} of film {video}, and what follows?",
        "choices": ["leaves the room", "puts the bag down", "hands it to somebody", "nothing of these"],
        "answer": "ABCD"[number % 4],
        "clue_intervals": [[1.0, 3.0]],
    }


def _call(number: int) -> Document:
    usage = {"prompt_tokens": 600 + number % 100, "completion_tokens": 80}
    choice = {"finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
    request = {"model": MODEL, "messages": []}
    key = content_id(["forged", number])
    return {"key": key, "role": "teacher", "request": request, "response": {"choices": [choice], "usage": usage}}
