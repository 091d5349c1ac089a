"""What stands in a preset's file."""

from pipeline.shards.condition import Clause, Condition
from pipeline.shards.formats.layout import Kind
from pipeline.shards.thinning import NOT_THINNED, Thinning
from schemas.record import Record


class PresetClause(Record):
    """reason: a short word for a row that fails; sql: an expression over the columns of a row."""

    reason: str
    sql: str


class Preset(Record):
    """source: of a published recipe, "" for our own. thinning: for rows of every kind; rl: in its place for RL."""

    name: str
    description: str
    source: str = ""
    where: tuple[PresetClause, ...]
    thinning: Thinning = NOT_THINNED
    rl: Thinning | None = None

    def condition(self, kind: Kind) -> Condition:
        """The condition for rows of a kind."""
        clauses = tuple(Clause(clause.reason, clause.sql) for clause in self.where)
        thinning = self.thinning if kind == "sft" or self.rl is None else self.rl
        return Condition(self.name, self.description, self.source, clauses, thinning)
