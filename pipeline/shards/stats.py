"""What a run has come to: the funnel whole and in groups, how its measures are spread, and what each shard cost."""

from dataclasses import asdict, dataclass
from math import fsum
from typing import Any

from pipeline.prices import Prices
from pipeline.shards.columns import USAGE
from pipeline.shards.condition import Condition
from pipeline.shards.distributions import Distribution, distributions
from pipeline.shards.expressions import known_column
from pipeline.shards.funnel import SHORT, Funnel, funnel_of, loss_sql
from pipeline.shards.groups import FIGURES, Group, groups, groups_by
from pipeline.shards.table import Rows
from schemas.config import STAGES

MEASURES = {
    name: f"{name}::INT" if name in ("answer_correct", "hint_leak", "gold_leak") else name
    for name in (
        *("answer_correct", "n_zooms", "n_frames", "redundant_zooms", "grounding_iou", "grounding_recall"),
        *("grounding_precision", "p_gold_blind", "p_gold_overview", "p_gold_evidence", "p_gold_zooms_only"),
        *("evidence_gain", "n_claims", "claims_supported", "zooms_mentioned", "hint_leak", "gold_leak", "think_chars"),
    )
}
"""Means that are shown, over the attempts that were answered and verified, and over those kept."""

SPREAD = {
    "n_zooms": "n_zooms",
    "n_frames": "n_frames",
    "think_chars": "think_chars",
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens",
    "cost_usd": "cost_usd",
    "grounding_iou": "grounding_iou",
    "evidence_gain": "evidence_gain",
}
ZOOMS = {
    "zoom_seconds": "ends - starts",
    "zoom_share": "(ends - starts) / nullif(duration_s, 0)",
    "zoom_position": "(starts + ends) / 2 / nullif(duration_s, 0)",
}
"""How the same rows are spread, and each of their zooms: its length, that as a share of the video, where its middle
lies in the video (0 the beginning, 1 the end)."""

DIMENSIONS = ("protocol", "source", "teacher", "hint_level", "attempt")

_NEEDED = (
    *("status", "verified", "duration_s", "zoom_starts_s", "zoom_ends_s", "question_id", "video_id", "shard"),
    *("verifier_tokens", *DIMENSIONS, *MEASURES, *SPREAD, *(column.name for column in USAGE)),
)
_VERIFIED = "verified AND status = 'answered'"


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
    replay_usd: None where a verifier or a judge is paid for: no verdict tells what it cost, `zoomtrail calls` does.
    means: by measure, of the verified and of the kept rows; spread: of the verified ones. groups: by each dimension;
    by: the column that was asked for and its groups. per_shard: attempts and failures of the looked-at rows, bytes and
    seconds of all its files; worst first: least kept, most failed, slowest. shards: each committed file.
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
    replay_usd: float | None
    means: dict[str, dict[str, Mean]]
    spread: dict[str, Distribution]
    groups: dict[str, list[Group]]
    by: tuple[str, list[Group]] | None
    per_shard: list[dict[str, Any]]
    shards: list[dict[str, Any]]

    @property
    def usd_per_kept(self) -> float | None:
        """Dollars of all calls for each kept row; None where a price is unknown or nothing is kept."""
        costs = [*(spent.cost_usd for spent in self.spent.values()), self.replay_usd]
        if not self.funnel.kept or any(cost is None for cost in costs):
            return None
        return sum(cost or 0.0 for cost in costs) / self.funnel.kept

    def as_json(self) -> dict[str, Any]:
        """Plain values under stable names, for programs; unknown is null."""
        levels = [{"level": "planned", "rows": self.funnel.planned, "lost": []}]
        for level, reached in self.funnel.reached.items():
            lost = [
                {"reason": loss.reason, "rows": loss.rows, "example": loss.example}
                for loss in self.funnel.losses
                if loss.level == level
            ]
            spared = self.funnel.spared.get(level, 0)
            levels.append({"level": level, "rows": reached, "lost": lost, "met_all_the_same": spared})
        totals = {
            "attempts": self.funnel.planned,
            "videos": self.videos,
            "questions": self.questions,
            "questions_kept": self.questions_kept,
            "verifier_tokens": self.verifier_tokens,
            "replay_usd": self.replay_usd,
            "usd_per_kept": self.usd_per_kept,
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
            "means": {name: {group: asdict(m) for group, m in found.items()} for name, found in self.means.items()},
            "distributions": {name: asdict(found) for name, found in self.spread.items()},
            "groups": {name: [asdict(group) for group in found] for name, found in self.groups.items()},
            "by": self.by and {"column": self.by[0], "groups": [asdict(group) for group in self.by[1]]},
            "per_shard": self.per_shard,
            "shards": self.shards,
        }


def collect(rows: Rows, condition: Condition, where: str | None = None, by: str | None = None) -> Stats:
    """The statistics of the rows that meet `where` (None: all), which are read once; files are listed whole.

    by: a column to group by. Raises UserError and Fatal.
    """
    column = None if by is None else known_column(by)
    looked_at = rows.check(where) if where is not None else "true"
    needed = ", ".join(dict.fromkeys((*_NEEDED, *([column] if column else []))))
    rows.query(
        f"CREATE OR REPLACE TABLE looked AS SELECT {needed}, {loss_sql(rows, condition)} AS loss, {SHORT} AS short "
        f"FROM rows WHERE {looked_at}"
    )
    dimensions = ", ".join(DIMENSIONS)
    rows.query(f"CREATE OR REPLACE TABLE summed AS SELECT {dimensions}, {FIGURES} FROM looked GROUP BY ALL")
    measured = ", ".join(f"{sql} AS {name}" for name, sql in SPREAD.items())
    rows.query(f"CREATE OR REPLACE TABLE spread AS SELECT {measured} FROM looked WHERE {_VERIFIED}")
    rows.query(
        "CREATE OR REPLACE TABLE zooms AS SELECT unnest(zoom_starts_s) AS starts, unnest(zoom_ends_s) AS ends, "
        f"duration_s FROM looked WHERE {_VERIFIED}"
    )
    (counts,) = rows.query(
        "SELECT count(DISTINCT nullif(video_id, '')) AS videos, count(DISTINCT question_id) AS questions, "
        "count(DISTINCT question_id) FILTER (loss IS NULL) AS questions_kept, "
        "coalesce(sum(verifier_tokens), 0)::BIGINT AS verifier_tokens FROM looked"
    )
    videos = (
        "(SELECT DISTINCT ON (video_id) * FROM caption SEMI JOIN looked USING (shard, video_id) "
        "ORDER BY video_id, shard)"
    )
    found = Stats(
        run=rows.store.url,
        where=where,
        condition=condition,
        fingerprints=rows.fingerprints,
        funnel=funnel_of(rows, "summed", rows.planned if where is None else None),
        **counts,
        replay_usd=None if _pays_for_replay(rows) else 0.0,
        spent={"caption": _spent(rows, videos), "teach": _spent(rows, "looked")},
        means=_means(rows),
        spread=distributions(rows, "spread", {name: name for name in SPREAD}) | distributions(rows, "zooms", ZOOMS),
        groups={name: groups(rows, "summed", name) for name in DIMENSIONS},
        by=(column, groups_by(rows, "looked", column)) if column else None,
        per_shard=_per_shard(rows),
        shards=_shards(rows),
    )
    rows.query("DROP TABLE looked; DROP TABLE summed; DROP TABLE spread; DROP TABLE zooms")
    return found


def _pays_for_replay(rows: Rows) -> bool:
    """Whether the run names a verifier or a judge that is not known to be free."""
    prices = Prices(rows.store).endpoints.items()
    asked = [price for (role, _), price in prices if role in ("verifier", "judge")]
    return any(file.stage == "replay" for file in rows.files) and any(p is None or p.input or p.output for p in asked)


def _spent(rows: Rows, table: str) -> Spent:
    unpriced = "calls > 0 AND cost_usd IS NULL"
    sums = [f"coalesce(sum({c.name}), 0)::BIGINT AS {c.name}" for c in USAGE if c.name != "cost_usd"]
    (row,) = rows.query(
        f"SELECT {', '.join(sums)}, count(*) FILTER ({unpriced}) AS rows_without_price, "
        "coalesce(sum(cost_usd), 0.0) AS known_usd, "
        f"CASE WHEN count(*) FILTER ({unpriced}) = 0 THEN coalesce(sum(cost_usd), 0.0) END AS cost_usd FROM {table}"
    )
    return Spent(**row)


def _means(rows: Rows) -> dict[str, dict[str, Mean]]:
    """Of each measure the means over the verified rows and over those kept, in one pass."""
    sums = [f"coalesce(sum({sql}), 0)::DOUBLE AS {name}, count({sql}) AS {name}_rows" for name, sql in MEASURES.items()]
    found = rows.query(
        f"SELECT coalesce({_VERIFIED}, false) AS verified, loss IS NULL AS kept, {', '.join(sums)} FROM looked "
        "GROUP BY ALL"
    )

    def mean(name: str, group: str) -> Mean:
        parts = [(row[name], row[f"{name}_rows"]) for row in found if row[group]]
        count = sum(rows for _, rows in parts)
        return Mean(fsum(total for total, _ in parts) / count if count else None, count)

    return {name: {group: mean(name, group) for group in ("verified", "kept")} for name in MEASURES}


def _per_shard(rows: Rows) -> list[dict[str, Any]]:
    """Each shard with attempts that are looked at; the worst first."""
    found = rows.query(
        "SELECT shard, count(*) AS planned, count(*) FILTER (loss IS NULL) AS kept, "
        "count(*) FILTER (status = 'failed' OR status = 'answered' AND NOT verified AND loss[1] = 'verified' "
        "AND loss[2] <> 'not yet verified') AS failed FROM looked GROUP BY 1 ORDER BY 1"
    )
    files: dict[int, dict[str, Any]] = {}
    for file in rows.files:
        of_shard = files.setdefault(file.shard, {"bytes": 0, "seconds": 0.0})
        of_shard["bytes"] += file.size
        of_shard["seconds"] += file.footer.get("seconds") or 0.0
    nothing = {"bytes": 0, "seconds": 0.0}
    shards = [row | files.get(row["shard"], nothing) for row in found]
    return sorted(shards, key=lambda row: (row["kept"] / row["planned"], -row["failed"], -row["seconds"], row["shard"]))


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
