"""What a cut keeps: the rows that meet its condition, less near-duplicates and what is too much, each with a reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.shards.alike import What, alike
from pipeline.shards.columns import COLUMNS
from pipeline.shards.condition import Clause, Condition
from pipeline.shards.formats.layout import Kind
from pipeline.shards.funnel import Funnel, Loss, funnel, loss_sql
from pipeline.shards.reading import text
from pipeline.shards.table import Rows
from schemas.errors import UserError

LEARNABLE = Clause("nothing to learn", "n_trainable >= 1")
"""An attempt without one valid turn has nothing to train on, whatever the condition says."""

_QUESTIONS = """
CREATE OR REPLACE TABLE questions AS
SELECT question_id, count(*) FILTER (answer_correct AND NOT coalesce(reflected, false)) AS n_correct,
    count(*) FILTER (answer_correct IS NOT NULL OR status NOT IN ('answered', 'not_run')) AS n_attempts,
    n_correct / nullif(n_attempts, 0) AS pass_rate
FROM rows GROUP BY question_id
"""
"""What all attempts at a question say together; those that failed count, and those that were corrected are wrong."""

_FACTS = """
shard, trajectory_id, question_id, video_id, attempt, protocol, teacher, verifier, n_zooms, evidence_gain,
p_gold_evidence, grounding_iou, p_gold_steps
"""
_CANDIDATES = """
CREATE OR REPLACE TABLE candidates AS
SELECT {facts}, letter, dice, worth,
    row_number() OVER (PARTITION BY question_id ORDER BY {ranking}, trajectory_id) AS place, NULL::VARCHAR AS lost
FROM (
    SELECT {facts}, {letter} AS letter, md5('{seed}:' || trajectory_id) AS dice, {worth} AS worth
    FROM rows WHERE {loss} IS NULL
)
"""
_KEPT = """
CREATE OR REPLACE TABLE kept AS
SELECT shard, video_id, trajectory_id, protocol, teacher, verifier, n_zooms, evidence_gain, p_gold_evidence,
    grounding_iou, p_gold_steps, n_attempts, n_correct, row_number() OVER (ORDER BY trajectory_id) - 1 AS rank
FROM candidates LEFT JOIN questions USING (question_id) WHERE lost IS NULL AND {unit} ORDER BY shard, rank
"""
_TOO_MANY = """
SELECT {key} AS key FROM candidates WHERE lost IS NULL AND {unit} AND {group} <> ''
QUALIFY row_number() OVER (PARTITION BY {group} ORDER BY place, dice, trajectory_id) > {most}
"""

_IDS_AT_A_TIME = 10_000
_NUMBERS = ("DOUBLE", "BIGINT", "INTEGER", "HUGEINT", "BOOLEAN")


@dataclass(frozen=True)
class Step:
    """A way of thinning: marks what it leaves out as lost for its reason."""

    reason: str
    mark: Callable[[], None]


@dataclass(frozen=True)
class Choice:
    """What is chosen of a run's rows for rows of one kind.

    An RL cut has a row for each question: of its attempts the first, or the best, stands for it, and what is left out
    is left out with all of them.
    """

    rows: Rows
    condition: Condition
    kind: Kind
    seed: int

    def candidates(self) -> None:
        """Creates the table `candidates`: the rows that meet every clause. Raises UserError for a bad condition."""
        asked = self.condition.thinning
        needed = self.kind == "rl" or asked.pass_rate_above is not None or asked.pass_rate_below is not None
        self.rows.query(_QUESTIONS + ("" if needed else " LIMIT 0"))
        loss = loss_sql(self.rows, self.condition)
        candidates = _CANDIDATES.format(
            facts=_FACTS, letter=self._letter, loss=loss, seed=self.seed, ranking=self._ranking, worth=self._worth
        )
        self.rows.query(candidates)

    def steps(self) -> list[Step]:
        """How the candidates are thinned, in order. Raises UserError where that makes no sense for the kind."""
        asked = self.condition.thinning
        if self.kind == "rl" and (asked.per_question is not None or asked.distinct_thoughts is not None):
            raise UserError(
                "a cut for rl has a row per question and no thoughts: leave out --per-question and --distinct-thoughts"
            )
        most = None if self.kind == "rl" else asked.most
        found: list[Step | None] = [
            self._solved("above", ">", asked.pass_rate_above),
            self._solved("below", "<", asked.pass_rate_below),
            self._distinct("near-duplicate question", "question", asked.distinct_questions),
            self._distinct("near-duplicate reasoning", "thoughts", asked.distinct_thoughts),
            self._at_most("question", "question_id", most),
            self._at_most("video", "video_id", asked.per_video),
            self._at_most("letter", "letter", asked.per_letter),
        ]
        return [step for step in found if step is not None]

    def kept(self) -> None:
        """Creates the table `kept` of what is left of the candidates."""
        self.rows.query(_KEPT.format(unit=self._unit))

    def lost(self) -> dict[str, int]:
        """Candidates by the reason for which they were left out."""
        counted = self.rows.query("SELECT lost, count(*) AS n FROM candidates WHERE lost IS NOT NULL GROUP BY 1")
        return {row["lost"]: row["n"] for row in counted}

    def forget(self) -> None:
        """Makes every candidate one that is not lost."""
        self.rows.query("UPDATE candidates SET lost = NULL")

    @property
    def _unit(self) -> str:
        return "place = 1" if self.kind == "rl" else "true"

    @property
    def _key(self) -> str:
        return "question_id" if self.kind == "rl" else "trajectory_id"

    @property
    def _ranking(self) -> str:
        if self.condition.thinning.best_by:
            return "worth DESC NULLS LAST"
        return "attempt" if self.kind == "rl" else "dice"

    @property
    def _letter(self) -> str:
        """No verdict tells it, so that every trajectory would be looked up."""
        return "NULL::VARCHAR" if self.condition.thinning.per_letter is None else "rows.answer_letter"

    @property
    def _worth(self) -> str:
        """The column to rank by, as numbers of which the highest is best; NULL where it is none."""
        asked = self.condition.thinning.best_by
        if not asked:
            return "NULL"
        name = asked.removeprefix("-")
        if name not in {column.name for column in COLUMNS}:
            raise UserError(f"--best-by {asked}: there is no column {name}; `zoomtrail columns` lists them")
        (described,) = self.rows.query(f"DESCRIBE SELECT {name} FROM rows")
        if described["column_type"] not in _NUMBERS:
            raise UserError(f"--best-by {asked}: {name} is {described['column_type']}, not a number")
        number = f"({name})::DOUBLE"
        return f"CASE WHEN isfinite({number}) THEN {'-' if asked.startswith('-') else ''}{number} END"

    def _solved(self, side: str, sign: str, bound: float | None) -> Step | None:
        if bound is None:
            return None
        reason = f"pass rate not {side} {bound}"
        query = f"SELECT question_id AS key FROM questions WHERE NOT coalesce(pass_rate {sign} {bound}, false)"
        return Step(reason, lambda: self._mark(reason, "question_id", query))

    def _at_most(self, what: str, group: str, most: int | None) -> Step | None:
        if most is None:
            return None
        reason = f"more than {most} per {what}"
        query = _TOO_MANY.format(key=self._key, unit=self._unit, group=group, most=most)
        return Step(reason, lambda: self._mark(reason, self._key, query))

    def _distinct(self, reason: str, what: What, likeness: float | None) -> Step | None:
        if likeness is None:
            return None
        key = "question_id" if what == "question" else "trajectory_id"
        return Step(reason, lambda: self._mark_all(reason, key, alike(self.rows, what, likeness)))

    def _mark_all(self, reason: str, key: str, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _IDS_AT_A_TIME):
            some = ", ".join(map(text, ids[start : start + _IDS_AT_A_TIME]))
            self._mark(reason, key, f"SELECT unnest([{some}]) AS key")

    def _mark(self, reason: str, key: str, query: str) -> None:
        self.rows.query(
            f"UPDATE candidates SET lost = {text(reason)} WHERE lost IS NULL AND {key} IN (SELECT key FROM ({query}))"
        )


def choose(rows: Rows, condition: Condition, kind: Kind, seed: int) -> Funnel:
    """Creates the table `kept`, and tells how many attempts were lost for which reason.

    Raises UserError for a bad condition or thinning, Fatal where attempts are lost or counted twice.
    """
    choice = Choice(rows, condition.plus(LEARNABLE), kind, seed)
    found = funnel(rows, choice.condition)
    choice.candidates()
    for step in choice.steps():
        step.mark()
    choice.kept()
    return thinned(found, choice.lost())


def thinned(found: Funnel, lost: dict[str, int]) -> Funnel:
    """The funnel with what was left out of the kept ones among the losses."""
    losses = tuple(
        Loss("kept", reason, count, "") for reason, count in sorted(lost.items(), key=lambda i: (-i[1], i[0]))
    )
    reached = found.reached | {"kept": found.kept - sum(lost.values())}
    return replace(found, reached=reached, losses=(*found.losses, *losses))
