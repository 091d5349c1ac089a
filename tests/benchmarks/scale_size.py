"""How much the benchmark of scale does, and what must be reached."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """nodes: numbers of them; latency_s: of calls; in_flight: calls of a node; window_s: measured.

    attempts: in the overhead part. million: attempts planned. store: attempts of the run on the S3 server.
    """

    nodes: tuple[int, ...]
    latency_s: float
    in_flight: int
    window_s: float
    attempts: int
    million: int
    store: int


FULL = Size((1, 2, 4, 8), 4.0, 8, 60.0, 2000, 1_000_000, 2000)
QUICK = Size((1, 2), 2.0, 4, 10.0, 400, 10_000, 200)


@dataclass
class Bar:
    """What must be reached. at_most: the bound is an upper one."""

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
