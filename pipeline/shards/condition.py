"""What is kept: a list of clauses, each with the word that names a row it drops, and what is left out of too much."""

from dataclasses import dataclass, replace

from pipeline.shards.thinning import NOT_THINNED, Thinning


@dataclass(frozen=True)
class Clause:
    """reason: a short word for a row that fails this clause; sql: an expression over the columns of `rows`."""

    reason: str
    sql: str


@dataclass(frozen=True)
class Condition:
    """A row is kept where every clause is true; a clause that is NULL for a row counts as failed.

    name: of the preset, or `where`; source: where a published recipe is described, "" for our own.
    """

    name: str
    description: str
    source: str
    clauses: tuple[Clause, ...]
    thinning: Thinning = NOT_THINNED

    @property
    def sql(self) -> str:
        """All clauses as one expression."""
        return " AND ".join(f"({clause.sql})" for clause in self.clauses)

    def plus(self, *clauses: Clause) -> "Condition":
        """This condition with more clauses after its own."""
        return replace(self, clauses=self.clauses + clauses)


def where(sql: str) -> Condition:
    """A user's own condition."""
    return Condition("where", "A condition given on the command line.", "", (Clause("--where not met", sql),))
