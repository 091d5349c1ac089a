"""The columns that a condition may name: one flat row per planned attempt, drawn from all stages' files."""

from dataclasses import dataclass

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
"""One number for all of a plan's part: it stands in the part's footer."""

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
    Column("think_chars", "list_sum([length(t.think) for t in r.turns])::BIGINT", "characters of all thoughts"),
    Column("n_invalid", "len([1 for t in r.turns if t.error != ''])", "turns that broke the protocol"),
    Column("n_cut_off", "len([1 for t in r.turns if t.error = 'cut_off'])", "turns cut off at the token limit"),
    Column("n_trainable", "len([1 for t in r.turns if t.trainable])", "turns that a trainer learns"),
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

_ELSEWHERE = {"trajectory_id", "question_id", "video_id", "attempt", "protocol", "status", "hint_level", "error"}

VERDICT = (
    *(
        Column(name, f"r.{name}", " ".join((field.description or "").split()))
        for name, field in Verdict.model_fields.items()
        if name not in _ELSEWHERE
    ),
    Column("verdict_error_kind", "r.error.kind", "why the replay failed"),
    Column("verdict_error_message", "r.error.message", "the same in words"),
)
"""Every field of `Verdict`: a new check is a new column here by itself."""

FLAGS = (
    Column("captioned", "coalesce(caption_status = 'ok', false)", "the video passed the caption stage"),
    Column("rolled_out", "status != 'not_run'", "the teach stage is done with it, failed or not"),
    Column("verified", "has_verdict AND verdict_error_kind IS NULL", "it was replayed without a failure"),
)

COLUMNS = (*PLANNED, GENERATION, *CAPTIONED, *ROLLED_OUT, *VERDICT, *FLAGS)

USAGE = tuple(
    c for c in ROLLED_OUT if c.name in ("calls", "prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd")
)


def selected(columns: tuple[Column, ...]) -> str:
    """`sql AS name, …` for a SELECT."""
    return ", ".join(f'{column.sql} AS "{column.name}"' for column in columns)
