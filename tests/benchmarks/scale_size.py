"""How much the benchmark of scale does."""

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
