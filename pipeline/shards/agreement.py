"""How far two verifiers of one run agree."""

import re
from dataclasses import dataclass, replace
from math import isfinite
from statistics import StatisticsError, correlation, fmean

from pipeline.shards.condition import Clause, Condition
from pipeline.shards.funnel import loss_sql
from pipeline.shards.table import Rows
from pipeline.store import RunStore


@dataclass(frozen=True)
class Agreement:
    """Of the attempts that both verifiers judged, and on which they could differ: those that every clause keeps that a
    verifier has no part in. What such a clause drops, both drop, which would pass for agreement. verifier: the other
    one's name, "" for the run's own.

    both, neither: kept by both under a condition, by none. kappa: Cohen's, 1 for full agreement, 0 for what chance
    would give; None where each always says the same. mean_difference: of their p_gold_evidence, in 0..1; correlation:
    Pearson's, of the same; None where nothing was measured, or always the same.
    """

    verifier: str
    attempts: int
    both: int
    neither: int
    kappa: float | None
    mean_difference: float | None
    correlation: float | None

    @property
    def agree(self) -> int:
        return self.both + self.neither


def agreements(store: RunStore, condition: Condition) -> list[Agreement]:
    """Of the store's verifier with each other one of the run. Raises as `Rows`."""
    others = [name for name in ("", *store.require().verifiers()) if name != store.verifier]
    own = _judged(store, condition) if others else {}
    return [agreement(name, own, _judged(RunStore(store.url, name), condition)) for name in others]


Judged = dict[str, tuple[bool, float | None]]
"""By trajectory id: whether an attempt is kept, and its p_gold_evidence."""


def agreement(verifier: str, these: Judged, those: Judged) -> Agreement:
    """Of two verifiers over the attempts that both judged."""
    pairs = [(these[name], those[name]) for name in these.keys() & those.keys()]
    kept = [(one, other) for (one, _), (other, _) in pairs]
    both, neither = kept.count((True, True)), kept.count((False, False))
    p = sorted((one, other) for (_, one), (_, other) in pairs if one is not None and other is not None)
    return Agreement(
        verifier=verifier,
        attempts=len(pairs),
        both=both,
        neither=neither,
        kappa=_kappa(len(pairs), both, neither, sum(a for a, _ in kept), sum(b for _, b in kept)),
        mean_difference=fmean(abs(a - b) for a, b in p) if p else None,
        correlation=_correlation([a for a, _ in p], [b for _, b in p]),
    )


def _kappa(n: int, both: int, neither: int, kept_by_one: int, kept_by_other: int) -> float | None:
    """Cohen (1960): (observed agreement - that of chance) / (1 - that of chance)."""
    if not n:
        return None
    chance = (kept_by_one * kept_by_other + (n - kept_by_one) * (n - kept_by_other)) / n**2
    return None if chance == 1 else ((both + neither) / n - chance) / (1 - chance)


def _correlation(these: list[float], those: list[float]) -> float | None:
    try:
        found = correlation(these, those)
    except StatisticsError:
        return None
    return found if isfinite(found) else None


_MEASURED = re.compile(
    r"\b(?:p_gold_\w+|evidence_gain|gain_per_step|claims_supported|claim_min|pass_rate|n_rollouts)\b"
)
"""Columns that a verifier fills."""


def without_verifier(condition: Condition) -> Condition:
    """What is left of a condition without the clauses that look at what a verifier measured."""
    left = tuple(clause for clause in condition.clauses if not _MEASURED.search(clause.sql))
    return replace(condition, clauses=left or (Clause("", "true"),))


def _judged(store: RunStore, condition: Condition) -> Judged:
    rows = Rows(store)
    kept = f"{loss_sql(rows, condition)} IS NULL AS kept"
    # Where there is no trajectory there was nothing to judge.
    judged = f"verified AND status <> 'failed' AND ({loss_sql(rows, without_verifier(condition))}) IS NULL"
    found = rows.query(f"SELECT trajectory_id, {kept}, p_gold_evidence FROM rows WHERE {judged}")
    return {row["trajectory_id"]: (row["kept"], row["p_gold_evidence"]) for row in found}
