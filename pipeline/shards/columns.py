"""The columns that a condition may name: one flat row per planned attempt, drawn from all stages' files."""

from dataclasses import dataclass
from typing import Any

from schemas.verdict import Verdict


@dataclass(frozen=True)
class Column:
    """name; sql: how it is drawn from its file's rows (alias `r`); meaning: with unit, for people."""

    name: str
    sql: str
    meaning: str


PLANNED = (
    Column("trajectory_id", "r.question.question_id || '@' || r.attempt", "question_id@attempt"),
    Column("question_id", "r.question.question_id", "id of the question"),
    Column("video_id", "r.question.video_id", "the source's reference to the video"),
    Column("attempt", "r.attempt", "number of the attempt, from 0"),
    Column("shard", "r.shard", "number of the shard"),
    Column("question_kind", "r.question.kind", "multiple_choice or open"),
    Column("source", "r.question.source", "kind of source"),
    Column("answer_letter", "r.question.answer_letter", "reference letter, '' for an open question"),
    Column("n_choices", "len(r.question.choices)", "choices of the question"),
    Column("n_clues", "len(r.question.clue_intervals)", "clue intervals of the question"),
    Column("question_chars", "length(r.question.text)", "characters of the question's text"),
)

GENERATION = Column("generation", "0::BIGINT", "number of the regeneration that made the attempt, 0 for the run's own")
"""One number for all of a plan's part: it stands in the part's footer, and the table knows it by the shard."""

CAPTIONED = (
    Column("caption_status", "r.status", "ok or failed; NULL before the caption stage"),
    Column("caption_error_kind", "r.error.kind", "why the video could not be used"),
    Column("caption_error_message", "r.error.message", "the same in words"),
    Column("duration_s", "r.video.duration_s", "seconds of video"),
    Column("video_fps", "r.video.fps", "frames a second of the video"),
    Column("video_width", "r.video.width", "pixels"),
    Column("video_height", "r.video.height", "pixels"),
    Column("video_codec", "r.video.codec", "codec of the video"),
)

ROLLED_OUT = (
    Column("status", "r.status", "answered, gave_up, malformed, failed; not_run before the teach stage"),
    Column("protocol", "r.protocol", "how the model zooms"),
    Column("teacher", "r.teacher", "model that wrote the turns"),
    Column("final_answer", "r.final_answer", "the answer as the teacher wrote it"),
    Column("final_answer_chars", "length(r.final_answer)", "its characters"),
    Column("reflected", "r.reflection IS NOT NULL", "a wrong rollout that the teacher corrected"),
    Column("n_hints", "len(r.hints)", "hints shown to the teacher"),
    Column("hint_level", "len(r.hints) - 1", "last step of the ladder of hints, -1 without a hint"),
    Column("answer_shown", "r.answer_shown", "the reference answer was shown to the teacher"),
    Column("interval_shown", "r.interval_shown", "the clue intervals were shown to the teacher"),
    Column("calls", "r.usage.calls", "model calls"),
    Column("prompt_tokens", "r.usage.prompt_tokens", "tokens read"),
    Column("completion_tokens", "r.usage.completion_tokens", "tokens written"),
    Column("cached_tokens", "r.usage.cached_tokens", "tokens read from the provider's cache"),
    Column("cost_usd", "r.usage.cost_usd", "dollars, NULL where no price is known"),
    Column("error_stage", "r.error.stage", "stage that failed"),
    Column("error_kind", "r.error.kind", "kind of failure"),
    Column("error_message", "r.error.message", "the same in words"),
    Column("error_attempts", "r.error.attempts", "tries of the failing step"),
)

_LOOKS = (
    "flatten([[a for a in t.actions if a.kind NOT IN ('time', 'answer') AND a.start_s IS NOT NULL AND a.end_s IS NOT "
    "NULL AND NOT list_contains([o.call_id for o in t.observations if o.kind = 'error'], a.call_id)] for t in r.turns])"
)
_IN_TURNS = {
    "think_chars": "coalesce(list_sum([length(t.think) for t in r.turns]), 0)::BIGINT",
    "n_invalid": "len([1 for t in r.turns if t.error != ''])",
    "n_cut_off": "len([1 for t in r.turns if t.error = 'cut_off'])",
    "n_trainable": "len([1 for t in r.turns if t.trainable])",
    "zoom_starts_s": f"[a.start_s for a in {_LOOKS}]",
    "zoom_ends_s": f"[a.end_s for a in {_LOOKS}]",
}

_MEANINGS = {name: " ".join((field.description or "").split()) for name, field in Verdict.model_fields.items()}

TURNS = tuple(Column(name, sql, _MEANINGS[name]) for name, sql in _IN_TURNS.items())
"""Drawn from a trajectory's turns, which are slow to read."""

_TOLD = {
    **{name: f"r.{name}" for name in ("trajectory_id", "question_id", "video_id", "attempt", "protocol", "status")},
    **{name: f"r.{name}" for name in ("source", "teacher", "hint_level", *_IN_TURNS)},
    **{
        name: f"r.usage.{name}" for name in ("calls", "prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd")
    },
    **{f"error_{name}": f"r.failure.{name}" for name in ("stage", "kind", "message", "attempts")},
}
TOLD = tuple(Column(name, sql, "") for name, sql in _TOLD.items())
"""What a verdict tells of its trajectory, under the columns' names, unless it is missing or of an older version: a
million verdicts are read in a second, their trajectories in many."""

_ELSEWHERE = {*_TOLD, "usage", "failure", "error"}

_FINITE: dict[Any, str] = {
    float | None: "CASE WHEN isfinite(r.{0}) THEN r.{0} END",
    tuple[float, ...] | None: "CASE WHEN coalesce(isfinite(list_sum(r.{0})), true) THEN r.{0} END",
}
"""NaN and infinity are unknown: to SQL NaN is more than any number, and so would meet each lower bound. Of a list of
numbers one makes the whole unknown."""


def _measured(name: str) -> str:
    return _FINITE.get(Verdict.model_fields[name].annotation, "r.{0}").format(name)


VERDICT = (
    *(Column(name, _measured(name), meaning) for name, meaning in _MEANINGS.items() if name not in _ELSEWHERE),
    Column("verdict_error_kind", "r.error.kind", "why the replay failed"),
    Column("verdict_error_message", "r.error.message", "the same in words"),
)
"""Every field of `Verdict`: a new check is a new column here by itself."""

FLAGS = (
    Column("captioned", "coalesce(caption_status = 'ok', false)", "the video passed the caption stage"),
    Column("rolled_out", "status != 'not_run'", "the teach stage is done with it, failed or not"),
    Column("verified", "has_verdict AND verdict_error_kind IS NULL", "it was replayed without a failure"),
)

COLUMNS = (*PLANNED, GENERATION, *CAPTIONED, *ROLLED_OUT, *TURNS, *VERDICT, *FLAGS)

USAGE = tuple(
    c for c in ROLLED_OUT if c.name in ("calls", "prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd")
)


def selected(columns: tuple[Column, ...]) -> str:
    """`sql AS name, …` for a SELECT."""
    return ", ".join(f'{column.sql} AS "{column.name}"' for column in columns)
