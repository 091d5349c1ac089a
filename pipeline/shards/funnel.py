"""The funnel from planned to kept: every attempt that is not kept is lost at one level for one reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.shards.condition import Condition
from pipeline.shards.reading import text
from pipeline.shards.table import Rows
from schemas.errors import Fatal

LEVELS = ("captioned", "answered", "verified", "kept")
"""What an attempt must reach, in order; before them stands `planned`."""

STATUSES = ("answered", "gave_up", "malformed", "failed", "not_run")

_BEFORE_THE_CONDITION = """CASE
    WHEN status = 'failed' AND error_stage IN ('source', 'caption')
        THEN ['captioned', error_stage || '/' || error_kind, error_message]
    WHEN status = 'not_run' AND caption_status = 'failed'
        THEN ['captioned', 'caption/' || coalesce(caption_error_kind, 'unknown'), caption_error_message]
    WHEN status = 'not_run' AND NOT captioned THEN ['captioned', 'not yet captioned', NULL]
    WHEN status = 'not_run' THEN ['answered', 'not yet rolled out', NULL]
    WHEN status = 'failed' THEN ['answered', coalesce(error_stage || '/' || error_kind, 'unknown'), error_message]
    WHEN status != 'answered' THEN ['answered', status, NULL]
    WHEN NOT has_verdict THEN ['verified', 'not yet verified', NULL]
    WHEN NOT verified THEN ['verified', 'replay/' || verdict_error_kind, verdict_error_message]
"""

SHORT = f"({_BEFORE_THE_CONDITION} END)[1]"
"""An expression over `rows`: the first level to which an attempt did not come, kept or not; NULL for a verified one."""

WITHOUT = {"captioned": "without a usable video", "answered": "without an answer", "verified": "without a verdict"}
"""What an attempt is that did not come to a level."""


@dataclass(frozen=True)
class Loss:
    """Attempts lost for one reason. example: the message of one of them, "" where there is none."""

    level: str
    reason: str
    rows: int
    example: str


@dataclass(frozen=True)
class Funnel:
    """planned: attempts looked at; reached: how many came to each level; losses: by level, most frequent first.

    statuses: attempts by status, `not_run` among them; they add up to `planned`. spared: attempts that did not come to
    a level and meet the condition all the same, by the first such level: it may ask for no answer, or for no verdict.
    """

    planned: int
    reached: dict[str, int]
    losses: tuple[Loss, ...]
    statuses: dict[str, int]
    spared: dict[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        return self.reached["kept"]


def loss_sql(rows: Rows, condition: Condition) -> str:
    """An expression over `rows`: NULL for a kept row, else [level, reason, message]. Raises UserError."""
    checked = [(clause.reason, rows.check(clause.sql)) for clause in condition.clauses]
    kept = " AND ".join(f"coalesce({sql}, false)" for _, sql in checked)
    failed = "\n".join(
        f"WHEN NOT coalesce({sql}, false) THEN ['kept', {text(reason)}, NULL]" for reason, sql in checked
    )
    return f"CASE WHEN {kept} THEN NULL ELSE {_BEFORE_THE_CONDITION} {failed} END END"


def funnel(rows: Rows, condition: Condition, where: str | None = None) -> Funnel:
    """The funnel of the rows that meet `where` (None: of all).

    Raises UserError for a bad condition, Fatal where attempts are lost or counted twice.
    """
    looked_at = rows.check(where) if where is not None else "true"
    lost = f"SELECT status, {loss_sql(rows, condition)} AS loss, {SHORT} AS short FROM rows WHERE {looked_at}"
    counted = (
        "SELECT status, short, loss[1] AS level, loss[2] AS reason, min(loss[3]) AS example, count(*) AS n "
        f"FROM ({lost}) GROUP BY ALL"
    )
    return funnel_of(rows, f"({counted})", rows.planned if where is None else None)


def funnel_of(rows: Rows, table: str, planned: int | None) -> Funnel:
    """The funnel of counted rows: status, `SHORT`, level, reason and example as `loss_sql` has them, and n of them.

    planned: how many there must be in all, where that is known. Raises as `funnel` does.
    """
    counted = rows.query(
        "SELECT level, reason, short, min(example) AS example, sum(n)::BIGINT AS n "
        f"FROM {table} GROUP BY level, reason, short"
    )
    by_status = rows.query(f"SELECT status, sum(n)::BIGINT AS n FROM {table} GROUP BY 1")
    statuses = dict.fromkeys(STATUSES, 0) | {row["status"]: row["n"] for row in by_status}
    lost = [Loss(r["level"], r["reason"], r["n"], r["example"] or "") for r in counted if r["level"] is not None]
    lost.sort(key=lambda loss: (LEVELS.index(loss.level), -loss.rows, loss.reason))
    total = sum(statuses.values())
    spared = {level: sum(r["n"] for r in counted if r["level"] is None and r["short"] == level) for level in WITHOUT}
    short = {level: sum(r["n"] for r in counted if r["short"] == level) for level in WITHOUT}
    reached = reached_of(total, short, sum(row["n"] for row in counted if row["level"] is None))
    result = Funnel(total, reached, tuple(lost), statuses, {level: n for level, n in spared.items() if n})
    _conserve(rows, result, total if planned is None else planned)
    return result


def reached_of(planned: int, short: Mapping[str, int], kept: int) -> dict[str, int]:
    """How many came to each level. short: by `SHORT`."""
    reached, left = {}, planned
    for level in WITHOUT:
        left -= short[level]
        reached[level] = left
    return reached | {"kept": kept}


def _conserve(rows: Rows, found: Funnel, planned: int) -> None:
    """planned = answered + gave up + malformed + failed + not yet run, and = kept + all losses."""
    lost = sum(loss.rows for loss in found.losses)
    unknown = found.statuses.keys() - set(STATUSES)
    if unknown or found.planned != planned or sum(found.statuses.values()) != planned or found.kept + lost != planned:
        raise Fatal(
            f"{rows.store.url}: {planned} attempts do not add up: by status {found.statuses}, kept {found.kept}, "
            f"lost {lost}"
        )
