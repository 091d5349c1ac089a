"""What each clause of a condition drops: in its turn, by itself, and alone of all."""

from dataclasses import dataclass

from pipeline.shards.choosing import LEARNABLE, Choice, thinned
from pipeline.shards.condition import Condition
from pipeline.shards.formats.layout import Kind
from pipeline.shards.funnel import Funnel, funnel, loss_sql
from pipeline.shards.table import Rows


@dataclass(frozen=True)
class Drop:
    """What a clause, or a way of thinning, drops.

    in_order: attempts that nothing before it drops. alone: what it drops by itself, of all attempts that come to the
    condition, or, of what thins, of those that meet every clause. only: what nothing else drops; None where it thins.
    """

    reason: str
    sql: str
    in_order: int
    alone: int
    only: int | None


@dataclass(frozen=True)
class Explanation:
    """funnel: from planned to kept; judged: attempts that come to the condition; drops: clauses, then what thins."""

    funnel: Funnel
    judged: int
    drops: tuple[Drop, ...]


def explain(rows: Rows, condition: Condition, kind: Kind, seed: int) -> Explanation:
    """Explains a cut without making it. Raises as `choose`."""
    choice = Choice(rows, condition.plus(LEARNABLE), kind, seed)
    found = funnel(rows, choice.condition)
    judged, clauses = _clauses(rows, choice.condition, found)
    choice.candidates()
    steps = choice.steps()
    for step in steps:
        step.mark()
    lost = choice.lost()
    alone = dict[str, int]()
    for step in steps:
        choice.forget()
        step.mark()
        alone[step.reason] = choice.lost().get(step.reason, 0)
    thins = [Drop(step.reason, "", lost.get(step.reason, 0), alone[step.reason], None) for step in steps]
    return Explanation(thinned(found, lost), judged, (*clauses, *thins))


def _clauses(rows: Rows, condition: Condition, found: Funnel) -> tuple[int, list[Drop]]:
    """How many attempts come to the condition, and what each clause drops of them."""
    fails = ", ".join(
        f"NOT coalesce({rows.check(clause.sql)}, false) AS f{number}" for number, clause in enumerate(condition.clauses)
    )
    numbers = range(len(condition.clauses))
    counts = ", ".join(
        f"count(*) FILTER (f{n}) AS alone{n}, count(*) FILTER (f{n} AND fails = 1) AS only{n}" for n in numbers
    )
    total = " + ".join(f"f{n}::INTEGER" for n in numbers)
    (counted,) = rows.query(
        f"SELECT count(*) AS judged, {counts} FROM (SELECT *, {total} AS fails FROM ("
        f"SELECT {fails}, {loss_sql(rows, condition)} AS loss FROM rows) WHERE loss IS NULL OR loss[1] = 'kept')"
    )
    in_order = {loss.reason: loss.rows for loss in found.losses if loss.level == "kept"}
    drops = list[Drop]()
    for n, clause in enumerate(condition.clauses):
        # Two clauses of one reason are one line of the funnel: it stands at the first of them.
        due = in_order.pop(clause.reason, 0)
        drops.append(Drop(clause.reason, clause.sql, due, counted[f"alone{n}"], counted[f"only{n}"]))
    return counted["judged"], drops
