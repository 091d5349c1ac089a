"""How values are spread: quantiles, and a histogram of a few bins."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.shards.table import Rows

QUANTILES = {"min": 0.0, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
BINS = 12

_ENDS = (0.01, 0.99)
"""Between these quantiles lie the bins of a histogram; the outermost hold all beyond, so that no outlier empties it."""


@dataclass(frozen=True)
class Distribution:
    """Of a measure over the rows where it is a finite number.

    rows: how many these are; not_finite: how many have another value that is not unknown. mean, quantiles: None where
    there are no rows. low, high: the middle of the first and of the last bin; bins: rows in each, of equal widths.
    """

    rows: int
    not_finite: int
    mean: float | None
    quantiles: dict[str, float | None]
    low: float | None
    high: float | None
    bins: tuple[int, ...]


def distributions(rows: Rows, table: str, measures: Mapping[str, str]) -> dict[str, Distribution]:
    """Of each measure: its name and an expression over the table's columns."""
    with ThreadPoolExecutor() as pool:  # quantiles are found by one thread each
        found = pool.map(lambda sql: _distribution(rows, table, sql), measures.values())
        return dict(zip(measures, found, strict=True))


def _distribution(rows: Rows, table: str, sql: str) -> Distribution:
    points = [*QUANTILES.values(), *_ENDS]
    values = f"(SELECT ({sql})::DOUBLE AS x FROM {table})"
    (found,) = rows.query(
        f"SELECT count(x) AS known, count(x) FILTER (isfinite(x)) AS n, avg(x) FILTER (isfinite(x)) AS mean, "
        f"quantile_cont(x, {points}) FILTER (isfinite(x)) AS points, bool_and(x = floor(x)) AS whole FROM {values}"
    )
    if not found["n"]:
        return Distribution(0, found["known"], None, dict.fromkeys(QUANTILES, None), None, None, ())
    *quantiles, first, last = found["points"]
    low, width, bins = _bins(first, last, found["whole"])
    place = f"least(greatest(round((x - ({low!r})) / {width!r}), 0), {bins - 1})::UTINYINT"
    counted = rows.query(f"SELECT {place} AS bin, count(*) AS n FROM {values} WHERE isfinite(x) GROUP BY 1")
    in_bin = {row["bin"]: row["n"] for row in counted}
    return Distribution(
        rows=found["n"],
        not_finite=found["known"] - found["n"],
        mean=found["mean"],
        quantiles=dict(zip(QUANTILES, quantiles, strict=True)),
        low=low,
        high=low + (bins - 1) * width,
        bins=tuple(in_bin.get(number, 0) for number in range(bins)),
    )


def _bins(first: float, last: float, whole: bool) -> tuple[float, float, int]:
    """The middle of the first bin, the bins' width, and how many there are; whole numbers are not cut between."""
    if first == last:
        return first, 1.0, 1
    if whole and last - first < BINS:
        return float(round(first)), 1.0, round(last) - round(first) + 1
    width = last / BINS - first / BINS  # in this order it cannot overflow
    return first + width / 2, width, BINS
