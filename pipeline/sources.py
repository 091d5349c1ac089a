"""Questions from annotation files, through `datasets`: CG-Bench's JSON and a plain JSONL.

A new source is one function from a raw row to a `Question`. A row that cannot be used becomes a `BadRow`, never
nothing.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pipeline.remote import is_remote, shown
from pipeline.storage import Storage
from schemas.config import Source
from schemas.errors import Failure, Rejected, UserError
from schemas.question import LETTERS, Question, question_id
from schemas.record import content_id
from schemas.timeline import Interval

Row = Mapping[str, Any]


class BadRow(Rejected):
    """A source row that is not a usable question; `question` holds what could be read of it."""

    def __init__(self, message: str, question: Question) -> None:
        super().__init__("bad_source_row", message)
        self.question = question

    def failure(self) -> Failure:
        """The form in which each planned attempt at this row records the fault."""
        return Failure(stage="source", kind=self.kind, message=self.message)


def _require(row: Row, field: str) -> Any:
    value = row.get(field)
    if value is None or value == "":
        raise ValueError(f"field {field!r} is missing")
    return value


def _intervals(value: Any) -> tuple[Interval, ...]:
    intervals = []
    for pair in value or ():
        start, end = (float(x) for x in pair)
        if not 0 <= start <= end:
            raise ValueError(f"clue interval [{start:g}, {end:g}] is not 0 <= start <= end")
        intervals.append((start, end))
    return tuple(intervals)


def _answer(row: Row, field: str, choices: tuple[str, ...]) -> tuple[str, str]:
    """(letter, text) of the reference. A letter wins over an option's text; without choices the text stands alone."""
    value = str(_require(row, field)).strip()
    if not choices:
        return "", value
    letters = LETTERS[: len(choices)]
    if len(value) == 1 and value.upper() in letters:
        return value.upper(), choices[letters.index(value.upper())]
    matches = [letter for letter, choice in zip(letters, choices, strict=True) if choice == value]
    if len(matches) != 1:
        raise ValueError(f"answer {value!r} is neither a letter of {letters} nor exactly one of the choices")
    return matches[0], value


def _question(row: Row, source: str, id_field: str, video_field: str, answer_field: str) -> Question:
    choices = tuple(str(c) for c in row.get("choices") or ())
    if len(choices) == 1 or len(choices) > len(LETTERS):
        raise ValueError(f"{len(choices)} choices")
    letter, text = _answer(row, answer_field, choices)
    stated = row.get("answer_text") if source == "jsonl" else row.get("answer")
    if choices and stated is not None and stated != text:
        raise ValueError(f"answer {letter} is {text!r}, but the row's answer text is {stated!r}")
    clues = _intervals(row.get("clue_intervals"))
    video, asked = str(_require(row, video_field)), str(_require(row, "question"))
    source_id = str(row.get(id_field) or "")
    used = {id_field, video_field, answer_field, "question", "choices", "clue_intervals"}
    extras = {k: v for k, v in row.items() if k not in used and v is not None}
    question = Question(
        question_id=question_id(source_id, video, asked, choices, letter or text, clues),
        video_id=video,
        text=asked,
        kind="multiple_choice" if choices else "open",
        choices=choices,
        answer_letter=letter,
        answer_text=text,
        clue_intervals=clues,
        source=source,
        source_id=source_id,
        extras_json=json.dumps(extras, sort_keys=True, ensure_ascii=False, default=str),
    )
    _ = question.tolerances  # what is no number is found here, not when an answer is judged
    return question


def jsonl_question(row: Row) -> Question:
    """A row {qid?, video, question, choices?, answer (letter or text), clue_intervals? in seconds, answer_tolerance?,
    answer_relative_tolerance?}."""
    return _question(row, "jsonl", "qid", "video", "answer")


def cgbench_question(row: Row) -> Question:
    """A row of CG-Bench's JSON; its `duration` is not trusted (it differs from the files by up to 42.7 s)."""
    return _question(row, "cgbench", "qid", "video_uid", "right_answer")


def _unusable(row: Row, fault: Exception) -> BadRow:
    digest = content_id(json.loads(json.dumps(row, default=str)), 10)
    video = str(row.get("video") or row.get("video_uid") or "")
    return BadRow(
        f"source row {row.get('qid', '')!s}: {fault}",
        Question(
            question_id=f"bad-{digest}",
            video_id=video,
            text=str(row.get("question") or ""),
            kind="open",
            choices=(),
            answer_letter="",
            answer_text="",
            clue_intervals=(),
            source="bad",
            source_id=str(row.get("qid") or ""),
        ),
    )


def _json_line(row: Row) -> Row:
    value = json.loads(row["text"])
    if not isinstance(value, dict):
        raise ValueError("the line is not a JSON object")
    return value


_READERS: dict[str, tuple[str, Callable[[Row], Question]]] = {
    "jsonl": ("text", lambda row: jsonl_question(_json_line(row))),  # by line: one broken line spoils no other
    "cgbench": ("json", cgbench_question),
}


def load_questions(source: Source) -> Iterator[Question | BadRow]:
    """All questions of a source in its order.

    Raises UserError where the file is missing or is no such format, Fatal where a store cannot be asked.
    """
    import datasets

    builder, to_question = _READERS[source.format]
    if not is_remote(source.path) and not Path(source.path).is_file():
        raise UserError(f"source.path: there is no file {source.path}")
    datasets.disable_progress_bars()
    try:
        with _local(source.path) as path:
            with _torch_left_out():
                rows = datasets.load_dataset(builder, data_files=path, split="train", streaming=True)
            for row in rows:
                if row.get("text") == "":
                    continue
                try:
                    yield to_question(row)
                except (ValueError, TypeError) as fault:
                    yield _unusable(row, fault)
    except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
        raise UserError(f"source.path: cannot read {source.path} as {source.format}: {error}") from error


@contextmanager
def _torch_left_out() -> Iterator[None]:
    """Keeps `datasets` from importing torch to make a stream of rows: seconds, and 200 MB, for nothing."""
    import datasets

    available, datasets.config.TORCH_AVAILABLE = datasets.config.TORCH_AVAILABLE, False
    try:
        yield
    finally:
        datasets.config.TORCH_AVAILABLE = available


def source_hash(source: Source) -> str:
    """SHA-256 of the annotation file. Raises UserError where it cannot be read, Fatal where a store cannot be asked."""
    digest = hashlib.sha256()
    try:
        with _local(source.path) as path, Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"source.path: cannot read {source.path}: {error.strerror or error}") from error
    return digest.hexdigest()


@contextmanager
def _local(path: str) -> Iterator[str]:
    """An annotation file on this machine, fetched where it lies elsewhere. Raises UserError, Fatal."""
    if not is_remote(path):
        yield path
        return
    folder, name = path.rsplit("/", 1)
    data = Storage(folder).read_or_none(name)
    if data is None:
        raise UserError(f"source.path: there is no file {shown(path)}")
    with tempfile.TemporaryDirectory(prefix="zoomtrail-source-") as place:
        file = Path(place) / f"source{PurePosixPath(urlsplit(path).path).suffix}"
        file.write_bytes(data)
        yield str(file)


def video_uri(source: Source, video_id: str) -> str:
    """Where a source's video should be: the reference below `videos`; CG-Bench's references lack the `.mp4`."""
    name = f"{video_id}.mp4" if source.format == "cgbench" else video_id
    return f"{source.videos.rstrip('/')}/{name}"
