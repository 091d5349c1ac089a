"""The dataset card of a cut: README.md, whose front matter `datasets` reads and which marks the cut as complete."""

from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from pipeline.shards.condition import Condition
from pipeline.shards.funnel import Funnel

MEANINGS = {
    "messages": "the conversation: role, content with `<image>` for each frame, train (whether its tokens carry loss)",
    "prompt": "the messages before the first turn, in the same form",
    "images": "one per `<image>`, in order: frame index, time in seconds, size in pixels, hash of the decoded picture",
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
    "provenance": "the trajectory, its teacher, its verifier's findings, what was revealed, the run and the condition",
}
"""What each column of a sample holds."""

_TEMPLATE = """\
---
{{ front }}---

# {{ name }}

Rows for {{ training }}, cut by Zoomtrail from {{ funnel.planned }} attempts: {{ rows }}.
Condition `{{ condition.name | cell }}`: {{ condition.description }}
{% if condition.source %}
Recipe: {{ condition.source }}
{% endif %}

## Where the rows come from

| | |
|---|---|
{% for key, value in lineage %}
| {{ key }} | `{{ value | cell }}` |
{% endfor %}

A row is kept where all of this is true (a clause that is NULL counts as failed):

<pre>{{ clauses }}</pre>

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

## Columns

| column | meaning |
|---|---|
{% for column, meaning in columns %}
| `{{ column }}` | {{ meaning | safe }} |
{% endfor %}

`train` marks the messages to learn; an assistant message that broke the protocol stays visible and is not learned.
To show a model the right pictures, decode the frame of each `index` from the video, check its `hash`, and scale it to
`width` x `height`.

The videos are not part of this dataset. Whether they, and text drawn from them, may be used and passed on is for you to
check with their owners.
"""

_TRAINING = {"sft": "supervised fine-tuning", "rl": "reinforcement learning"}
_NOTES = {
    "sft": "Each kept attempt is one row.",
    "rl": "Each question with a kept attempt is one row.",
}


_LINEAGE = {
    "run_fingerprint": "fingerprint of the run's settings",
    "shards": "shards of trajectories",
    "inputs": "digest of the shards read",
    "schema_version": "version of the records",
}


@dataclass(frozen=True)
class Card:
    """What a card tells.

    rows, n_bytes: of all train files; identity: what decides a cut's bytes; makers: protocol, teacher, verifier;
    columns: of a row.
    """

    name: str
    kind: str
    condition: Condition
    funnel: Funnel
    rows: int
    n_bytes: int
    identity: dict[str, str]
    makers: dict[str, str]
    columns: tuple[str, ...]


def render(card: Card) -> str:
    """The text of README.md. What comes from outside is escaped and stands in code: it is neither HTML nor Markdown."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters["cell"] = _cell
    values: dict[str, Any] = {
        "front": Markup(_front_matter(card)),
        "name": card.name,
        "rows": card.rows,
        "training": _TRAINING[card.kind],
        "condition": card.condition,
        "lineage": [*card.makers.items(), *((meaning, card.identity[key]) for key, meaning in _LINEAGE.items())],
        "clauses": "\n".join(f"{clause.sql}    -- else: {clause.reason}" for clause in card.condition.clauses),
        "funnel": card.funnel,
        "note": _NOTES[card.kind],
        "columns": [(column, MEANINGS[column]) for column in card.columns],
    }
    return environment.from_string(_TEMPLATE).render(values)


def identity_in(readme: bytes) -> dict[str, str] | None:
    """The identity of the cut that a README.md belongs to; None where no cut wrote it."""
    try:
        _, front, _ = readme.decode().split("---\n", 2)
        identity = yaml.safe_load(front)["zoomtrail"]
    except (ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    return identity if isinstance(identity, dict) else None


def _front_matter(card: Card) -> str:
    document = {
        "pretty_name": card.name,
        "tags": ["zoomtrail", "video", "chain-of-thought"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train-*.parquet"}]}],
        "dataset_info": {"splits": [{"name": "train", "num_bytes": card.n_bytes, "num_examples": card.rows}]},
        "zoomtrail": card.identity,
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000)


def _cell(text: str) -> str:
    """A text inside a table: on one line, without the marks that end a cell or begin code."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("`", "'")
