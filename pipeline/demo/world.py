"""The rendered world: what a film shows, and when. The truth of a seed; nothing here draws or asks.

A film is a row of scenes of some seconds. A scene has a background, one shape that moves, and perhaps a sign or a
lamp. A sign's board hangs there for the whole scene, its word is on it for some seconds; a lamp flashes some times.
Film seeds below `FIRST_TRAINING_SEED` are for films to watch and to measure on, those from it on for training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from schemas.timeline import Interval

T = TypeVar("T")

WIDTH, HEIGHT = 640, 360
"""Size of a film's frames in pixels."""

FPS = 10
FIRST_TRAINING_SEED = 1_000_000

BACKGROUNDS = ("gray", "brown", "pink", "teal", "navy", "tan")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
KINDS = ("circle", "ring", "cross", "triangle")
SIZES = ("small", "large")
DIRECTIONS = ("left", "right", "up", "down")
COUNTS = ("two", "three", "four", "five")

FAMILIES = (
    ("CAKE", "LAKE", "BAKE", "CAVE"),
    ("FISH", "DISH", "WISH", "FIST"),
    ("MOON", "MOOD", "NOON", "SOON"),
    ("GOLD", "COLD", "BOLD", "FOLD"),
    ("BEAR", "DEAR", "PEAR", "BEAT"),
    ("ROSE", "NOSE", "HOSE", "ROPE"),
    ("SAND", "HAND", "LAND", "BAND"),
    ("BALL", "CALL", "HALL", "BELL"),
    ("TENT", "RENT", "DENT", "TEST"),
    ("KING", "RING", "WING", "SING"),
    ("PARK", "DARK", "MARK", "PACK"),
    ("SHIP", "CHIP", "WHIP", "SHOP"),
    ("COAT", "GOAT", "BOAT", "COAL"),
    ("MILK", "SILK", "MINK", "MILL"),
    ("DOOR", "POOR", "MOOR", "DOOM"),
    ("RAIN", "MAIN", "PAIN", "RAIL"),
)
"""The words that signs show, by families of four that differ in a letter or two: the near misses of one another."""

WORDS = tuple(word for family in FAMILIES for word in family)

CELL_W, CELL_H = 80, 45
COLUMNS, ROWS = 8, 7
"""Signs and lamps hang on a grid of cells in pixels; the floor takes the place of an eighth row."""

FLOOR_Y = 316
TRAIL_RADII = 2.2
"""How far a shape's trail reaches behind its middle, in radii; no path lets it leave the picture."""

_UNLIKE = {
    "gray": (),
    "brown": ("orange", "red", "black"),
    "pink": ("white",),
    "teal": ("green", "blue"),
    "navy": ("blue", "black", "purple"),
    "tan": ("yellow", "white", "orange"),
}
"""Colours that are hard to tell from a background; no shape of that colour is put on it."""


@dataclass(frozen=True)
class Shape:
    """radius, start, end: pixels; it moves evenly from start to end, with two discs as a trail."""

    kind: str
    colour: str
    size: str
    direction: str
    radius: int
    start: tuple[float, float]
    end: tuple[float, float]

    def at(self, share: float) -> tuple[float, float]:
        """Its centre in pixels after a share of the scene, 0..1."""
        (x0, y0), (x1, y1) = self.start, self.end
        return x0 + (x1 - x0) * share, y0 + (y1 - y0) * share


@dataclass(frozen=True)
class Sign:
    """column, row: its cell. shift: pixels off the middle of the cell. shown: seconds at which its word is on it."""

    word: str
    colour: str
    column: int
    row: int
    shift: tuple[int, int]
    shown: Interval

    def on(self, time_s: float) -> bool:
        """Whether its word is on it."""
        return self.shown[0] <= time_s < self.shown[1]


@dataclass(frozen=True)
class Lamp:
    """flashes: seconds of each flash, in order."""

    column: int
    row: int
    shift: tuple[int, int]
    flashes: tuple[Interval, ...]

    def on(self, time_s: float) -> bool:
        return any(start <= time_s < end for start, end in self.flashes)


@dataclass(frozen=True)
class Scene:
    """start_s, end_s: seconds of the film. pattern: 0..3; tint: added to the background's three colour values."""

    start_s: float
    end_s: float
    background: str
    pattern: int
    tint: tuple[int, int, int]
    shape: Shape
    sign: Sign | None
    lamp: Lamp | None

    def share(self, time_s: float) -> float:
        """How much of the scene is over at a time, 0..1."""
        return min(1.0, max(0.0, (time_s - self.start_s) / (self.end_s - self.start_s)))


@dataclass(frozen=True)
class Film:
    """floor: colour of the strip along the lower edge, the same throughout."""

    seed: int
    floor: str
    scenes: tuple[Scene, ...]

    @property
    def duration_s(self) -> float:
        return self.scenes[-1].end_s

    def scene_at(self, time_s: float) -> Scene:
        """The scene on screen; the last one from its end on."""
        return next((scene for scene in self.scenes if time_s < scene.end_s), self.scenes[-1])

    def sign(self, colour: str) -> Sign:
        """The one sign of a colour. Raises StopIteration where there is none."""
        return next(scene.sign for scene in self.scenes if scene.sign and scene.sign.colour == colour)


def pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    return values[int(rng.integers(len(values)))]


def film(seed: int, at_least_s: float = 120.0, n_signs: int = 6) -> Film:
    """The film of a seed: scenes of 5 to 9 seconds until it is long enough, `n_signs` signs of different colours and
    families of words, and one lamp."""
    rng = np.random.default_rng(seed)
    ends = [0.0]
    while ends[-1] < at_least_s:
        ends.append(ends[-1] + int(rng.integers(50, 91)) / FPS)
    places = list(rng.permutation(len(ends) - 1)[: n_signs + 1])
    colours = list(rng.permutation(COLOURS)[:n_signs])
    families = list(rng.permutation(len(FAMILIES))[:n_signs])
    scenes: list[Scene] = []
    for number, (start, end) in enumerate(pairwise(ends)):
        role = places.index(number) if number in places else None
        word = pick(rng, FAMILIES[families[role]]) if role is not None and role < n_signs else ""
        colour = str(colours[role]) if role is not None and role < n_signs else ""
        before = scenes[-1].background if scenes else ""
        background = pick(rng, [name for name in BACKGROUNDS if name != before])
        scenes.append(scene(rng, start, end, background, word, colour, with_lamp=role == n_signs))
    return Film(seed, floor=pick(rng, COLOURS), scenes=tuple(scenes))


def scene(
    rng: np.random.Generator, start_s: float, end_s: float, background: str, word: str, colour: str, with_lamp: bool
) -> Scene:
    """A scene of the given seconds; with a sign where a word is given."""
    shape = random_shape(rng, background)
    sign = _sign(rng, word, colour, shape, start_s, end_s) if word else None
    lamp = _lamp(rng, shape, start_s, end_s) if with_lamp else None
    tint = tuple(int(v) for v in rng.integers(-8, 9, 3))
    return Scene(start_s, end_s, background, int(rng.integers(4)), tint, shape, sign, lamp)  # type: ignore[arg-type]


def random_shape(rng: np.random.Generator, background: str) -> Shape:
    """A shape whose colour stands out from the background, on a path inside the picture."""
    size = pick(rng, SIZES)
    radius = int(rng.integers(54, 63) if size == "large" else rng.integers(34, 41))
    direction = pick(rng, DIRECTIONS)
    ahead, behind = radius + 6, round(TRAIL_RADII * radius)
    x_side, y_side = (ahead, WIDTH - ahead), (ahead, FLOOR_Y - ahead)
    along_x, forward = direction in ("left", "right"), direction in ("right", "down")
    length = WIDTH if along_x else FLOOR_Y
    low, high = (behind, length - ahead) if forward else (ahead, length - behind)
    reach = rng.uniform(0.55, 0.95) * (high - low)
    first = rng.uniform(low, high - reach)
    across = rng.uniform(*(y_side if along_x else x_side))
    near, far = ((first, across), (first + reach, across)) if along_x else ((across, first), (across, first + reach))
    start, end = (near, far) if forward else (far, near)
    colour = pick(rng, [name for name in COLOURS if name not in _UNLIKE[background]])
    return Shape(pick(rng, KINDS), colour, size, direction, radius, start, end)


def _free_cell(rng: np.random.Generator, shape: Shape) -> tuple[int, int]:
    """A random cell well off the shape's path; the farthest of a dozen where none is."""

    def distance(cell: tuple[int, int]) -> float:
        x, y = cell_middle(*cell)
        points = [shape.at(share) for share in np.linspace(0, 1, 9)]
        return min(max(abs(x - px) / 1.3, abs(y - py)) for px, py in points) - shape.radius

    cells = [random_cell(rng) for _ in range(12)]
    roomy = [cell for cell in cells if distance(cell) > 60]
    return roomy[0] if roomy else max(cells, key=distance)


def random_cell(rng: np.random.Generator) -> tuple[int, int]:
    """A column and a row; the outermost columns stay free, since a board is wider than a cell."""
    return int(rng.integers(1, COLUMNS - 1)), int(rng.integers(ROWS))


def cell_middle(column: int, row: int) -> tuple[float, float]:
    """The middle of a cell in pixels."""
    return (column + 0.5) * CELL_W, (row + 0.5) * CELL_H


def random_shift(rng: np.random.Generator) -> tuple[int, int]:
    """A few pixels off the middle of a cell."""
    return int(rng.integers(-4, 5)), int(rng.integers(-3, 4))


def _sign(rng: np.random.Generator, word: str, colour: str, shape: Shape, start_s: float, end_s: float) -> Sign:
    length = rng.uniform(0.5, 0.8) * (end_s - start_s)
    begin = rng.uniform(start_s + 0.3, end_s - 0.3 - length)
    shown = (round(begin * FPS) / FPS, round((begin + length) * FPS) / FPS)
    column, row = _free_cell(rng, shape)
    return Sign(word, colour, column, row, random_shift(rng), shown)


def _lamp(rng: np.random.Generator, shape: Shape, start_s: float, end_s: float) -> Lamp:
    """Two to five flashes of 0.4 s, at least 0.5 s apart."""
    count = int(rng.integers(2, 6))
    gap = min(0.6, (end_s - start_s - 0.6 - 0.4 * count) / max(1, count - 1))
    length = 0.4 * count + gap * (count - 1)
    begin = rng.uniform(start_s + 0.3, max(start_s + 0.31, end_s - 0.3 - length))
    starts = [round((begin + i * (0.4 + gap)) * FPS) / FPS for i in range(count)]
    column, row = _free_cell(rng, shape)
    return Lamp(column, row, random_shift(rng), tuple((start, start + 0.4) for start in starts))
