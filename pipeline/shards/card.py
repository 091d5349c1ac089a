"""The dataset card of a cut: README.md, whose front matter `datasets` reads and which marks the cut as complete."""

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from pipeline.shards.condition import Condition
from pipeline.shards.files import FileKind, pattern
from pipeline.shards.formats.layout import Format, Kind, Media
from pipeline.shards.funnel import WITHOUT, Funnel
from pipeline.shards.lineage import LINEAGE
from pipeline.shards.plot import PLOT
from pipeline.shards.thinning import in_words
from schemas.errors import Fatal

MEANINGS = {
    "messages": "the conversation: role, content with `<image>` for each frame, train (whether its tokens carry loss)",
    "prompt": "the messages before the first turn, in the same form",
    "images": "one per `<image>`, in order: frame index, time in seconds, size in pixels, hash of the decoded picture",
    "tools": "JSON schemas of the chat's tools, which its system message holds already",
    "video": "where the frames come from: path, SHA-256 of the file, duration in seconds, frames a second",
    "answer": "the final answer as the teacher wrote it",
    "kind": "`multiple_choice` or `open`",
    "ground_truth": "the reference: a letter, or the text of an open answer",
    "answer_text": "the reference as text",
    "choices": "the texts of the choices, none for an open question",
    "clue_intervals": "seconds in which the evidence is shown; empty where the source gives none",
    "caption_width": "children per segment of the caption tree; null for a protocol without captions",
    "n_attempts": "attempts at the question whose outcome is known, failed ones counted",
    "n_correct": "how many of them were right",
    "pass_rate": "n_correct / n_attempts",
    "frames": "where the images come from: frame index, time in seconds, size in pixels, hash of the decoded picture",
    "action": "the turn's text, as a trainer would learn it",
    "turn": "number of the turn, from 0",
    "p_before": "the verifier's probability of the reference given the overview and the zooms before this turn",
    "p_after": "the same with this turn's zooms",
    "evidence_gain": "p_after - p_before: a process reward of the step",
    "n_tokens": "tokens of the row's messages, as counted below",
    "provenance": "the trajectory, its teacher, its verifier's findings, what was revealed, the run and the condition",
}
"""What each column of a sample holds."""

_TEMPLATE = """\
---
{{ front }}---

# {{ name }}

Rows for {{ training }}, cut by Zoomtrail from {{ funnel.planned }} attempts: {{ rows }}.
Format `{{ format.name }}`: {{ format.about }}.
Condition `{{ condition.name | cell }}`: {{ condition.description }}
{% if condition.source %}
Recipe: {{ condition.source }}
{% endif %}

![How far the attempts came, and how many zooms the kept ones made]({{ plot }})

## Where the rows come from

Of {{ funnel.planned }} attempts that were planned, {{ funnel.reached.captioned }} had a usable video,
{{ funnel.reached.answered }} came to an answer, {{ funnel.reached.verified }} were replayed, and {{ funnel.kept }} are
kept, out of {{ shards }} shards of one run.{{ spared }}
No model was called to cut them: the same command gives the same bytes. `{{ lineage_file }}` tells programs the same,
with every shard that was read and how many of its attempts are kept.

| | |
|---|---|
{% for key, value in lineage %}
| {{ key }} | `{{ value | cell }}` |
{% endfor %}

A row is kept where all of this is true (a clause that is NULL counts as failed):

<pre>{{ clauses }}</pre>
{% if thinning %}

Of those rows:

{% endif %}
{% for sentence in thinning %}
{{ loop.index }}. {{ sentence }}
{% endfor %}

## What was dropped, and why

Each attempt that was not kept counts once, for the first reason that holds.

| stage | reason | attempts |
|---|---|---:|
| planned | | {{ funnel.planned }} |
{% for loss in funnel.losses %}
| before {{ loss.level }} | `{{ loss.reason | cell }}` | -{{ loss.rows }} |
{% endfor %}
| kept | | {{ funnel.kept }} |

{{ note }}
{% if dropped %}

| kept, and not written because | rows |
|---|---:|
{% for reason, count in dropped %}
| `{{ reason | cell }}` | {{ count }} |
{% endfor %}
{% endif %}

## Splits

| split | rows |
|---|---:|
{% for split, count in splits %}
| {{ split }} | {{ count }} |
{% endfor %}

{{ split_note }}

## Columns

| column | meaning |
|---|---|
{% for column, meaning in columns %}
| `{{ column }}` | {{ meaning | safe }} |
{% endfor %}

{% for paragraph in paragraphs %}
{{ paragraph | safe }}

{% endfor %}
The videos are not part of this dataset. Whether they, and text drawn from them, may be used and passed on is for you to
check with their owners.
"""

_TRAINING: dict[Kind, str] = {
    "sft": "supervised fine-tuning",
    "rl": "reinforcement learning",
    "rl-steps": "reinforcement learning on single steps",
}
_NOTES: dict[Kind, str] = {
    "sft": "Each kept attempt is one row, or one for each turn that is learned where the protocol has "
    "no memory or the format says so.",
    "rl": "Each question with a kept attempt is one row.",
    "rl-steps": "Each turn of a kept attempt that zoomed is one row, where a verifier gave it a gain.",
}
_MEDIA: dict[Media, str] = {
    "reference": "To show a model the right pictures, decode the frame of each `index` from the video, check its "
    "`hash`, scale it to `width` x `height`, and where it was `stamped` draw its whole second as "
    "`pipeline/media/stamp.py` does.",
    "embedded": "The pictures are inside the rows, decoded from the videos again and proven by their hashes.",
    "files": "The pictures lie in `media/`, named by their content, decoded from the videos again and proven by their "
    "hashes.",
}
_LEARNED = "`train` marks the messages to learn; an assistant message that broke the protocol stays visible and is not "
_TOKENS = "`n_tokens` counts the chat template of `{}` over the row's messages, {}."
_COUNTED = {
    True: "and for each picture what the processor makes of one of its size",
    False: "each `<image>` as text, since there is no processor that counts pictures",
}

_LINEAGE = {
    "shards": "shards of trajectories",
    "content": "digest of the files read, by their Parquet footers",
    "schema_version": "version of the records",
}


@dataclass(frozen=True)
class Tally:
    """What was written: rows and bytes by split, files of records; dropped: rows by reason."""

    rows: dict[str, int]
    n_bytes: dict[str, int]
    files: int
    dropped: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Card:
    """What a card tells.

    identity: what decides a cut's bytes; makers: protocol, teacher, verifier; schema, suffix: of the files; counted:
    whether tokens of pictures were counted, None where no tokens were.
    """

    name: str
    kind: Kind
    format: Format
    media: Media
    condition: Condition
    funnel: Funnel
    tally: Tally
    identity: dict[str, str]
    fingerprints: dict[str, str]
    makers: dict[str, str]
    schema: pa.Schema
    suffix: FileKind
    counted: bool | None


def render(card: Card) -> str:
    """The text of README.md. What comes from outside is escaped and stands in code: it is neither HTML nor Markdown."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters["cell"] = _cell
    values: dict[str, Any] = {
        "front": Markup(_front_matter(card)),
        "name": card.name,
        "format": card.format,
        "rows": sum(card.tally.rows.values()),
        "training": _TRAINING[card.kind],
        "condition": card.condition,
        "lineage": _lineage(card),
        "clauses": "\n".join(f"{clause.sql}    -- else: {clause.reason}" for clause in card.condition.clauses),
        "funnel": card.funnel,
        "spared": "".join(f" {n} met the condition {WITHOUT[level]}." for level, n in card.funnel.spared.items()),
        "thinning": in_words(card.condition.thinning, card.kind, card.identity["seed"]),
        "plot": PLOT,
        "lineage_file": LINEAGE,
        "shards": card.identity["shards"],
        "note": _NOTES[card.kind],
        "dropped": card.tally.dropped,
        "splits": card.tally.rows.items(),
        "split_note": _split_note(card),
        "columns": [(field.name, _meaning(card, field)) for field in card.schema],
        "paragraphs": _paragraphs(card),
    }
    return environment.from_string(_TEMPLATE).render(values)


def _lineage(card: Card) -> list[tuple[str, str]]:
    stages = [(f"fingerprint of the settings of {stage}", mark) for stage, mark in card.fingerprints.items()]
    told = [(meaning, card.identity[key]) for key, meaning in _LINEAGE.items()]
    return [*card.makers.items(), *stages, *told]


def _meaning(card: Card, field: pa.Field) -> str:
    """What a column holds: in words for our own records, as its type for a trainer's."""
    ours = card.format.name == "native" or field.name == "n_tokens"
    return MEANINGS[field.name] if ours else f"`{_cell(str(field.type))}`"


def _split_note(card: Card) -> str:
    if len(card.tally.rows) == 1:
        return "All rows are for training: no test share was asked for."
    share, seed = card.identity["test_share"], card.identity["seed"]
    return f"No video is in both: a hash of its id and the seed {seed} draws a share of {share} of the videos for test."


def _paragraphs(card: Card) -> list[str]:
    """What a reader must know to use the rows: texts of ours, but for the tokenizer's name. How a trainer finds the
    pictures of rows that hold none stands in its format's own words."""
    said = [f"{_LEARNED}learned."] if card.format.name == "native" else []
    if card.counted is not None:
        said.append(_TOKENS.format(escape(_cell(card.identity["tokenizer"])), _COUNTED[card.counted]))
    by_hand = card.media == "reference" and card.format.name != "native"
    return said if by_hand else [*said, _MEDIA[card.media]]


def identity_in(readme: bytes) -> dict[str, str] | None:
    """The identity of the cut that a README.md belongs to; None where no cut wrote it."""
    try:
        _, front, _ = readme.decode().split("---\n", 2)
        identity = yaml.safe_load(front)["zoomtrail"]
    except (ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    return identity if isinstance(identity, dict) else None


def tally_in(readme: bytes) -> Tally:
    """What a card's cut wrote. Raises Fatal where the card was changed by hand."""
    try:
        made = yaml.safe_load(readme.decode().split("---\n", 2)[1])["zoomtrail_made"]
        dropped = tuple((str(reason), int(count)) for reason, count in made["dropped"].items())
        return Tally(made["rows"], made["n_bytes"], made["files"], dropped)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, yaml.YAMLError) as error:
        raise Fatal("the cut's README.md was changed: delete its folder and cut again") from error


def _front_matter(card: Card) -> str:
    tally = card.tally
    # An empty JSON file has no columns: `datasets` cannot read it.
    told = [split for split, rows in tally.rows.items() if rows or card.suffix == "parquet"]
    files = [{"split": split, "path": pattern(split, card.suffix)} for split in told]
    splits = [{"name": s, "num_bytes": tally.n_bytes[s], "num_examples": n} for s, n in tally.rows.items()]
    document = {
        "pretty_name": card.name,
        "tags": ["zoomtrail", "video", "chain-of-thought"],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {"splits": splits},
        "zoomtrail": card.identity,
        "zoomtrail_made": {**asdict(tally), "dropped": dict(tally.dropped)},
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000)


def _cell(text: str) -> str:
    """A text inside a table: on one line, without the marks that end a cell or begin code."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("`", "'")
