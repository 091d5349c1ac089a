"""Pages and the report as HTML: jinja2 escapes every text, since a model wrote most of them."""

import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.page.timeline import clock
from schemas.record import Record
from schemas.timeline import SegmentPath

STATIC = {
    "style.css": "text/css",
    "keys.js": "text/javascript",
    "list.js": "text/javascript",
    "player.js": "text/javascript",
    "frames.js": "text/javascript",
    "trajectory.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""The files that a page may ask for, each with its type: there is no other."""


def html(name: str, values: Mapping[str, object]) -> bytes:
    """A template filled in, as UTF-8. Raises jinja2.UndefinedError where a value is missing."""
    return _environment().get_template(f"{name}.html.jinja").render(values).encode("utf-8", "replace")


def static(name: str) -> bytes:
    """A file of `static/`; of those in STATIC only."""
    return (files(__package__) / "static" / name).read_bytes()


@cache
def _environment() -> Environment:
    loader = PackageLoader("pipeline.page")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"clock": clock, "minutes": minutes, "value": value, "path": path, "words": words}
    environment.filters |= {"count": count, "share": share, "zip": zip}
    environment.tests["numbers"] = numbers
    return environment


def value(of: Any) -> str:
    """A column's value for people: three decimals, yes and no, a dash for what is unknown, a record by its fields."""
    if of is None:
        return "–"
    if isinstance(of, bool):
        return "yes" if of else "no"
    if isinstance(of, float):
        return (f"{of:.3f}" if abs(of) < 100 else f"{of:,.1f}") if math.isfinite(of) else str(of)
    if isinstance(of, int):
        return f"{of:,}"
    if isinstance(of, (list, tuple)):
        return ", ".join(value(one) for one in of) or "–"
    if isinstance(of, Record):
        return ", ".join(f"{words(name)} {value(one)}" for name, one in of)
    return str(of)


def minutes(seconds: float) -> str:
    """Whole seconds as `1:05`, `1:01:05`."""
    of_minute, in_all = int(seconds) % 60, int(seconds) // 60
    return f"{in_all // 60}:{in_all % 60:02d}:{of_minute:02d}" if in_all >= 60 else f"{in_all}:{of_minute:02d}"


def numbers(of: Any) -> bool:
    """Whether it is a list of counts, to be drawn as bars."""
    return isinstance(of, (list, tuple)) and len(of) > 1 and all(type(one) is int and one >= 0 for one in of)


def path(ids: SegmentPath) -> str:
    """A segment's ids as protocols write them: `(1,2)`."""
    return f"({','.join(map(str, ids))})"


def words(name: str) -> str:
    """A column's or a kind's name with spaces."""
    return name.replace("_", " ")


def count(number: int, noun: str) -> str:
    """`1 turn`, `2 turns`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def share(part: float, whole: float) -> str:
    """A part in per cent of a whole; "" of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else ""
