"""What a format is: how our samples become the records that one trainer's loader reads, with an explicit schema.

A format is one file beside this one and one line in `known.py`. Its functions are pure: they see samples and finished
pictures, never a run, a video or a file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from schemas.errors import Rejected, UserError
from schemas.question import Question
from schemas.samples import RlSample, SampleMessage, SftSample, StepSample
from schemas.video import Frame

Kind = Literal["sft", "rl", "rl-steps"]
"""Rows for supervised training, for RL on questions, for RL on single steps."""

Media = Literal["reference", "embedded", "files"]
"""Pictures as frame references, as bytes inside the row, or as files under the cut's `media/`."""

Sample = SftSample | RlSample | StepSample
Columns = dict[str, Any]

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""How `datasets` stores an Image: the encoded bytes and a name whose suffix says what they are."""

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
PARTED = pa.list_(
    pa.struct([("role", pa.string()), ("content", pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())])))])
)
"""Messages whose contents are lists of parts."""

INTERVALS = pa.list_(pa.list_(pa.float64()))
ASKED_ABOUT = (
    ("question_id", pa.string()),
    ("choices", pa.list_(pa.string())),
    ("clue_intervals", INTERVALS),
)
PLACEHOLDER = "<image>"


@dataclass(frozen=True)
class Example:
    """A sample with what a record may say besides.

    number: place of its attempt, or of its question, among all kept, from 0; split: its half.
    """

    sample: Sample
    question: Question
    number: int
    split: Literal["train", "test"]


@dataclass(frozen=True)
class Piece:
    """What one record is made of: messages of an example, and one frame reference for each `<image>` in them."""

    example: Example
    messages: tuple[SampleMessage, ...]
    images: tuple[Frame, ...]


@dataclass(frozen=True)
class Layout:
    """How a format writes the rows of one kind.

    record: the row of a piece and its pictures (as `IMAGE`, or as relative paths; none by reference). pieces: the
    records' parts of an example; both raise Rejected where the trainer's form cannot say what the sample says.
    schema: of all rows. suffix: of the files; JSON files are not split by rows. text: columns in which an `<image>`
    means a picture; media: the column with one item for each of them, "" where there is none. picture: its encoding.
    """

    record: Callable[[Piece, Sequence[Any]], Columns]
    schema: pa.Schema
    suffix: Literal["parquet", "json", "jsonl"]
    text: tuple[str, ...]
    media: str
    pieces: Callable[[Example], Sequence[Piece]]
    picture: Literal["jpg", "png"] = "jpg"


@dataclass(frozen=True)
class Format:
    """A trainer's records. about: one line for people. layouts: what it can write; a kind's first is its default.

    protocol: the only one whose runs it can hold, "" for all. beside: files that the loader needs next to the records,
    from the cut's name, the suffix of its files and its splits.
    """

    name: str
    about: str
    layouts: Mapping[tuple[Kind, Media], Layout]
    protocol: str = ""
    beside: Callable[[str, str, Sequence[str]], dict[str, bytes]] | None = None

    def layout(self, kind: Kind, media: Media | None) -> tuple[Media, Layout]:
        """The layout of a kind; media None: its default. Raises UserError where the format has none."""
        fitting = {m: layout for (k, m), layout in self.layouts.items() if k == kind}
        if not fitting:
            kinds = ", ".join(dict.fromkeys(k for k, _ in self.layouts))
            raise UserError(f"format {self.name} has no rows for {kind}: it writes {kinds}")
        if media is not None and media not in fitting:
            raise UserError(f"format {self.name} for {kind} cannot hold pictures as {media}: {', '.join(fitting)}")
        chosen: Media = next(iter(fitting)) if media is None else media
        return chosen, fitting[chosen]


def whole(example: Example) -> list[Piece]:
    """All messages of a sample: the conversation, or the prompt."""
    messages = _messages(example.sample)
    return [Piece(example, messages, example.sample.images)]


def through_last_learned(example: Example) -> list[Piece]:
    """The conversation up to the last message that is learned: what follows teaches nothing."""
    messages = _messages(example.sample)
    return [_upto(example, max(n for n, m in enumerate(messages) if m.train))]


def all_learned(example: Example) -> list[Piece]:
    """The same, for a trainer that learns every assistant message. Raises Rejected where one must not be learned."""
    (piece,) = through_last_learned(example)
    if any(m.role == "assistant" and not m.train for m in piece.messages):
        raise Rejected("holds a turn not to be learned", "this form would train on a turn that broke the protocol")
    return [piece]


def turn_by_turn(example: Example) -> list[Piece]:
    """A piece for each learned message, which it ends with: only its last message is to be learned."""
    return [_upto(example, n) for n, m in enumerate(_messages(example.sample)) if m.train]


def placeholders(value: object) -> int:
    """The pictures that a value of a text column stands for: `<image>` in texts, parts of the type `image`."""
    if isinstance(value, str):
        return value.count(PLACEHOLDER)
    if isinstance(value, dict):
        return 1 if value.get("type") == "image" else sum(placeholders(v) for v in value.values())
    return sum(placeholders(v) for v in value) if isinstance(value, list | tuple) else 0


def plain_messages(messages: Sequence[SampleMessage]) -> list[Columns]:
    """Messages as role and content."""
    return [{"role": m.role, "content": m.content} for m in messages]


def parted(role: str, text: str) -> Columns:
    """A message of one text part."""
    return {"role": role, "content": [{"type": "text", "text": text}]}


def prompt_sample(example: Example) -> RlSample | StepSample:
    """The sample of a layout for RL. Raises TypeError for a sample of another kind."""
    if isinstance(example.sample, SftSample):
        raise TypeError("an RL layout was given an SFT sample")
    return example.sample


def asked_about(sample: RlSample | StepSample) -> Columns:
    """The columns of `ASKED_ABOUT`: what a reward needs besides the reference answer."""
    return {
        "question_id": sample.provenance.question_id,
        "choices": list(sample.choices),
        "clue_intervals": [list(interval) for interval in sample.clue_intervals],
    }


def columns(*pairs: tuple[str, pa.DataType]) -> pa.Schema:
    """A schema of named types."""
    return pa.schema(list(pairs))


def _upto(example: Example, last: int) -> Piece:
    messages = _messages(example.sample)[: last + 1]
    shown = sum(m.content.count(PLACEHOLDER) for m in messages)
    return Piece(example, messages, example.sample.images[:shown])


def _messages(sample: Sample) -> tuple[SampleMessage, ...]:
    return sample.messages if isinstance(sample, SftSample) else sample.prompt
