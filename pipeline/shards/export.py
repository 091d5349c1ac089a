"""From kept trajectories to a trainer's records: samples, pictures, tokens, and a reason for every row lost."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import pyarrow as pa

from pipeline.shards.formats.layout import Example, Kind, Layout, Media, Piece, Sample, placeholders
from pipeline.shards.pictures import Encoded, VideoPictures
from pipeline.shards.samples import Facts, corrections_only, rl_sample, sft_samples, step_samples
from pipeline.shards.tokens import TokenCounter
from pipeline.storage import Storage
from schemas.errors import Fatal, Rejected
from schemas.trajectory import Trajectory

Split = Literal["train", "test"]

Learn = Literal["all", "corrections"]
"""Which turns carry loss where a wrong rollout was corrected: the wrong ones too, as VideoZoomer trains, or not."""

TOKENS = pa.field("n_tokens", pa.int64())
MEDIA_FOLDER = "media"
TOO_LONG = "more than --max-tokens"

_HASH_DIGITS = 13


@dataclass(frozen=True)
class Made:
    """A record with its place: rank of its sample among all kept, number among the sample's records."""

    split: Split
    rank: int
    number: int
    columns: dict[str, Any]


@dataclass(frozen=True)
class _Part:
    """A piece with its number among its sample's records, and its tokens where they are counted."""

    piece: Piece
    number: int
    tokens: int | None


@dataclass
class Shelf:
    """Where the media files of a cut go: each one is written once by a process, and every process writes the same."""

    storage: Storage
    folder: str
    names: set[str] = field(default_factory=set)

    def keep(self, name: str, data: bytes) -> None:
        """Stores a file by its path below the cut."""
        if name not in self.names:
            self.names.add(name)
            self.storage.write(f"{self.folder}/{name}", data)


@dataclass
class Exporter:
    """Makes the records of an order, here or in another process.

    kept_by: the condition; dropped: rows by reason, until they are taken.
    """

    kind: Kind
    media: Media
    layout: Layout
    learn: Learn
    kept_by: str
    test_share: float
    seed: int
    tokenizer: str
    max_tokens: int | None
    shelf: Shelf
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def counter(self) -> TokenCounter | None:
        """Counts tokens where that was asked for. Raises UserError where the tokenizer cannot be loaded."""
        return _counter(self.tokenizer) if self.tokenizer else None

    @property
    def schema(self) -> pa.Schema:
        """Of all records, whatever they hold."""
        return self.layout.schema if not self.tokenizer else self.layout.schema.append(TOKENS)

    def records(self, trajectories: Sequence[Trajectory], facts: dict[str, Facts]) -> Iterable[list[Made]]:
        """The records of one video after the other, so that the pictures of one at a time are held.

        facts: by trajectory, also `rank` and `run_fingerprint`.
        Raises Fatal where a row cannot be rendered faithfully, UserError for another version of a protocol.
        """
        videos: dict[str, list[Example]] = defaultdict(list)
        for trajectory in trajectories:
            found = facts[trajectory.trajectory_id]
            for sample in self._samples(trajectory, found):
                split = split_of(trajectory.video_id, self.seed, self.test_share)
                videos[sample.video.uri].append(Example(sample, trajectory.question, found["rank"], split))
        for examples in videos.values():
            yield self._video(examples)

    def _samples(self, trajectory: Trajectory, facts: Facts) -> Sequence[Sample]:
        origin = {"run_fingerprint": facts["run_fingerprint"], "kept_by": self.kept_by}
        if self.kind == "rl-steps":
            steps = step_samples(trajectory, facts, origin)
            if not steps:
                self.dropped["no gain per step"] += 1
            return steps
        if self.kind == "rl":
            return [rl_sample(trajectory, facts, origin)]
        samples = sft_samples(trajectory, facts, origin)
        if self.learn == "corrections":
            samples = [corrections_only(sample) for sample in samples]
        learnable = [sample for sample in samples if any(m.train for m in sample.messages)]
        if lost := len(samples) - len(learnable):
            self.dropped["nothing to learn"] += lost
        return learnable

    def _video(self, examples: Sequence[Example]) -> list[Made]:
        parts = [part for example in examples for part in self._parts(example)]
        shown = [image for part in parts for image in part.piece.images]
        pictures = None
        if self.media != "reference" and shown:
            pictures = VideoPictures(examples[0].sample.video, shown, self.layout.picture)
        made = [self._record(part, pictures) for part in parts]
        return [record for record in made if record is not None]

    def _parts(self, example: Example) -> list["_Part"]:
        """The parts of an example that are neither rejected nor too long; what is dropped is counted."""
        try:
            pieces = self.layout.pieces(example)
        except Rejected as error:
            self.dropped[error.kind] += 1
            return []
        offset = example.sample.provenance.step or 0
        parts = [_Part(piece, offset + n, self._count(piece)) for n, piece in enumerate(pieces)]
        short = [p for p in parts if self.max_tokens is None or (p.tokens or 0) <= self.max_tokens]
        if long := len(parts) - len(short):
            self.dropped[TOO_LONG] += long
        return short

    def _count(self, piece: Piece) -> int | None:
        counter = self.counter
        return None if counter is None else counter.count(piece.messages, piece.images)

    def _record(self, part: "_Part", pictures: VideoPictures | None) -> Made | None:
        """A part as a record; None where it is dropped, which is counted."""
        piece = part.piece
        try:
            encoded = [] if pictures is None else [pictures.get(image) for image in piece.images]
            columns = self.layout.record(piece, [self._cell(picture) for picture in encoded])
        except Rejected as error:
            self.dropped[error.kind] += 1
            return None
        _require_parity(self.layout, piece, columns)
        if self.media == "files":
            for picture in encoded:
                self.shelf.keep(f"{MEDIA_FOLDER}/{picture.name[:2]}/{picture.name}", picture.data)
        example = piece.example
        extra = {} if part.tokens is None else {TOKENS.name: part.tokens}
        return Made(example.split, example.number, part.number, columns | extra)

    def _cell(self, picture: Encoded) -> Any:
        """What stands for a picture in a record."""
        if self.media == "files":
            return f"{MEDIA_FOLDER}/{picture.name[:2]}/{picture.name}"
        return {"bytes": picture.data, "path": picture.name}


@cache
def _counter(tokenizer: str) -> TokenCounter:
    return TokenCounter(tokenizer)


def split_of(video_id: str, seed: int, test_share: float) -> Split:
    """The half that a video belongs to, by a hash of its id and the seed: the same in every run and order of rows."""
    digits = hashlib.sha256(f"{seed}:{video_id}".encode()).hexdigest()[:_HASH_DIGITS]
    return "test" if int(digits, 16) < test_share * 16**_HASH_DIGITS else "train"


def _require_parity(layout: Layout, piece: Piece, columns: dict[str, Any]) -> None:
    """Raises Fatal where a record lacks a column, has a foreign one, or its `<image>` marks are not its pictures."""
    name = piece.example.sample.provenance.trajectory_id
    if set(columns) != set(layout.schema.names):
        raise Fatal(f"{name}: the record's columns are not those of its schema")
    marks = sum(placeholders(columns[column]) for column in layout.text)
    pictures = len(columns[layout.media]) if layout.media else 0
    if marks != pictures:
        raise Fatal(f"{name}: {marks} image marks for {pictures} pictures, so images would be misplaced")
