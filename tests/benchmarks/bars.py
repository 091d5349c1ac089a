"""A figure of a benchmark beside what it must reach."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """A figure and what it must reach, at least or at most."""

    text: str
    figure: float
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.figure <= self.bound if self.at_most else self.figure >= self.bound

    def __str__(self) -> str:
        relation = "at most" if self.at_most else "at least"
        return f"{'met   ' if self.met else 'MISSED'} {self.text}: {self.figure:,.2f}, {relation} {self.bound:,g}"
