"""The picture of a cut in its card: how far the attempts came, and how many zooms the kept ones made. Plain SVG."""

from collections.abc import Mapping

from jinja2 import Environment, StrictUndefined

from pipeline.shards.funnel import LEVELS, Funnel

PLOT = "cut.svg"
MOST_ZOOMS = 10
"""The last bar counts the trajectories with so many zooms or more."""

_WIDTH = 360
_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="880" height="250" viewBox="0 0 880 250" font-family="sans-serif"
 font-size="13" role="img" aria-label="{{ label }}">
<rect width="880" height="250" fill="#ffffff"/>
<text x="20" y="26" font-weight="bold" fill="#1b2733">Attempts that came to each stage</text>
{% for bar in stages %}
<text x="100" y="{{ bar.y + 18 }}" text-anchor="end" fill="#1b2733">{{ bar.name }}</text>
<rect x="110" y="{{ bar.y }}" width="{{ bar.width }}" height="26" fill="{{ bar.fill }}"/>
<text x="{{ 116 + bar.width }}" y="{{ bar.y + 18 }}" fill="#1b2733">{{ bar.count }}</text>
{% endfor %}
<text x="500" y="26" font-weight="bold" fill="#1b2733">Zooms of a kept attempt</text>
<line x1="500" y1="210.5" x2="860" y2="210.5" stroke="#8a97a3"/>
{% for bar in zooms %}
<rect x="{{ bar.x }}" y="{{ bar.y }}" width="{{ bar.width }}" height="{{ 210 - bar.y }}" fill="#2f7fb8"/>
<text x="{{ bar.middle }}" y="{{ bar.y - 5 }}" text-anchor="middle" font-size="11" fill="#1b2733">{{ bar.count }}</text>
<text x="{{ bar.middle }}" y="227" text-anchor="middle" fill="#1b2733">{{ bar.name }}</text>
{% else %}
<text x="500" y="120" fill="#5c6b78">no attempt was kept</text>
{% endfor %}
</svg>
"""


def plot(found: Funnel, zooms: Mapping[int, int]) -> bytes:
    """zooms: kept attempts by how many zooms they made. Numbers and words of ours alone stand in it."""
    reached = [("planned", found.planned), *((level, found.reached[level]) for level in LEVELS)]
    stages = [
        {
            "name": name,
            "count": f"{count:,}",
            "width": round(_WIDTH * 0.72 * count / max(found.planned, 1), 1),
            "y": 46 + 36 * row,
            "fill": "#2f7fb8" if name == "kept" else "#a9c6dc",
        }
        for row, (name, count) in enumerate(reached)
    ]
    label = ", ".join(f"{name} {count}" for name, count in reached)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    return environment.from_string(_SVG).render(stages=stages, zooms=_bars(zooms), label=label).encode()


def _bars(zooms: Mapping[int, int]) -> list[dict[str, object]]:
    """A bar for each number of zooms from none to the most."""
    if not zooms:
        return []
    counts = [0] * (min(max(zooms), MOST_ZOOMS) + 1)
    for number, count in zooms.items():
        counts[min(number, MOST_ZOOMS)] += count
    step = _WIDTH / len(counts)
    return [
        {
            "name": f"{number}+" if number == MOST_ZOOMS else str(number),
            "count": f"{count:,}",
            "x": round(500 + number * step + step * 0.15, 1),
            "middle": round(500 + (number + 0.5) * step, 1),
            "width": round(step * 0.7, 1),
            "y": round(210 - 150 * count / max(counts), 1),
        }
        for number, count in enumerate(counts)
    ]
