"""What a run has come to: the funnel, totals, means of the verdicts, and each shard's footer."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.shards.columns import USAGE
from pipeline.shards.condition import Condition
from pipeline.shards.funnel import Funnel, funnel, loss_sql
from pipeline.shards.table import Rows
from schemas.config import STAGES

MEASURES = (
    ("answer_correct", "answer_correct::INT"),
    ("n_zooms", "n_zooms"),
    ("n_frames", "n_frames"),
    ("redundant_zooms", "redundant_zooms"),
    ("grounding_iou", "grounding_iou"),
    ("grounding_recall", "grounding_recall"),
    ("grounding_precision", "grounding_precision"),
    ("p_gold_blind", "p_gold_blind"),
    ("p_gold_overview", "p_gold_overview"),
    ("p_gold_evidence", "p_gold_evidence"),
    ("p_gold_zooms_only", "p_gold_zooms_only"),
    ("evidence_gain", "evidence_gain"),
    ("n_claims", "n_claims"),
    ("claims_supported", "claims_supported"),
    ("zooms_mentioned", "zooms_mentioned"),
    ("hint_leak", "hint_leak::INT"),
    ("gold_leak", "gold_leak::INT"),
    ("think_chars", "think_chars"),
)
"""Means that are shown, over the attempts that were answered and verified, and over those kept."""


@dataclass(frozen=True)
class Spent:
    """What the model calls behind some rows consumed. cost_usd: dollars, None where the price of any call is unknown.

    known_usd: dollars of the rows whose cost is known; rows_without_price: how many rows have calls of unknown price.
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_usd: float | None
    known_usd: float
    rows_without_price: int


@dataclass(frozen=True)
class Mean:
    """Mean over the rows where it was measured; None where it was measured nowhere."""

    mean: float | None
    rows: int


@dataclass(frozen=True)
class Stats:
    """All that `zoomtrail stats` shows.

    spent: by stage, `caption` counting each video once; verifier_tokens: tokens that the verifier read.
    means: by measure, of the verified and of the kept rows. shards: each committed file with its footer.
    """

    run: str
    where: str | None
    condition: Condition
    fingerprints: dict[str, str]
    funnel: Funnel
    videos: int
    questions: int
    questions_kept: int
    spent: dict[str, Spent]
    verifier_tokens: int
    means: dict[str, dict[str, Mean]]
    shards: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """Plain values under stable names, for programs; unknown is null."""
        levels = [{"level": "planned", "rows": self.funnel.planned, "lost": []}]
        for level, reached in self.funnel.reached.items():
            lost = [
                {"reason": loss.reason, "rows": loss.rows, "example": loss.example}
                for loss in self.funnel.losses
                if loss.level == level
            ]
            levels.append({"level": level, "rows": reached, "lost": lost})
        totals = {
            "attempts": self.funnel.planned,
            "videos": self.videos,
            "questions": self.questions,
            "questions_kept": self.questions_kept,
            "verifier_tokens": self.verifier_tokens,
        }
        return {
            "run": self.run,
            "where": self.where,
            "preset": self.condition.name,
            "condition": self.condition.sql,
            "fingerprints": self.fingerprints,
            "funnel": levels,
            "statuses": self.funnel.statuses,
            "totals": totals,
            "spent": {stage: asdict(spent) for stage, spent in self.spent.items()},
            "means": {name: {group: asdict(m) for group, m in groups.items()} for name, groups in self.means.items()},
            "shards": self.shards,
        }


def collect(rows: Rows, condition: Condition, where: str | None = None) -> Stats:
    """The statistics of the rows that meet `where` (None: all); shards are listed whole. Raises UserError and Fatal."""
    found = funnel(rows, condition, where)
    looked_at = rows.check(where) if where is not None else "true"
    kept = f"{looked_at} AND {loss_sql(rows, condition)} IS NULL"
    (counts,) = rows.query(
        "SELECT count(DISTINCT nullif(video_id, '')) AS videos, count(DISTINCT question_id) AS questions, "
        f"coalesce(sum(verifier_tokens), 0)::BIGINT AS verifier_tokens FROM rows WHERE {looked_at}"
    )
    (questions,) = rows.query(f"SELECT count(DISTINCT question_id) AS n FROM rows WHERE {kept}")
    videos = (
        "(SELECT DISTINCT ON (video_id) * FROM caption WHERE (shard, video_id) IN "
        f"(SELECT (shard, video_id) FROM rows WHERE {looked_at}) ORDER BY video_id, shard)"
    )
    verified = _means(rows, f"{looked_at} AND verified AND status = 'answered'")
    of_kept = _means(rows, kept)
    return Stats(
        run=rows.store.url,
        where=where,
        condition=condition,
        fingerprints=rows.fingerprints,
        funnel=found,
        videos=counts["videos"],
        questions=counts["questions"],
        questions_kept=questions["n"],
        spent={"caption": _spent(rows, videos), "teach": _spent(rows, f"(SELECT * FROM rows WHERE {looked_at})")},
        verifier_tokens=counts["verifier_tokens"],
        means={name: {"verified": verified[name], "kept": of_kept[name]} for name, _ in MEASURES},
        shards=_shards(rows),
    )


def _spent(rows: Rows, table: str) -> Spent:
    unpriced = "calls > 0 AND cost_usd IS NULL"
    sums = [f"coalesce(sum({c.name}), 0)::BIGINT AS {c.name}" for c in USAGE if c.name != "cost_usd"]
    (row,) = rows.query(
        f"SELECT {', '.join(sums)}, count(*) FILTER ({unpriced}) AS rows_without_price, "
        "coalesce(sum(cost_usd), 0.0) AS known_usd, "
        f"CASE WHEN count(*) FILTER ({unpriced}) = 0 THEN coalesce(sum(cost_usd), 0.0) END AS cost_usd FROM {table}"
    )
    return Spent(**row)


def _means(rows: Rows, condition: str) -> dict[str, Mean]:
    columns = [f"avg({sql}) AS {name}, count({sql}) AS {name}_rows" for name, sql in MEASURES]
    (row,) = rows.query(f"SELECT {', '.join(columns)} FROM rows WHERE {condition}")
    return {name: Mean(_finite(row[name]), row[f"{name}_rows"]) for name, _ in MEASURES}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _shards(rows: Rows) -> list[dict[str, Any]]:
    """Each file of each stage, in the order of the stages."""
    return [
        {
            "stage": file.stage,
            "shard": file.shard,
            "rows": file.rows,
            "bytes": file.size,
            "seconds": file.footer.get("seconds"),
            "verifier_busy_s": file.footer.get("verifier_busy_s"),
            "verifier_waiting_s": file.footer.get("verifier_waiting_s"),
            "statuses": file.footer.get("statuses", {}),
        }
        for file in sorted(rows.files, key=lambda file: (STAGES.index(file.stage), file.shard))
    ]
