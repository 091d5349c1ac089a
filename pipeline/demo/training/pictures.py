"""Training pictures of the rendered world, crowded or single scenes, with what every image token shows."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pipeline.demo import drawing, world
from pipeline.demo.world import CELL_H, CELL_W, HEIGHT, WIDTH, Lamp, Shape, Sign, pick

SIDE = 256
"""The model sees every picture as a square of this many pixels."""

GRID = 4
"""Image tokens along each side of a picture: 160x90 pixels of a frame each."""

ZOOM_WIDTHS = (384, 641)
OVERVIEW_WIDTHS = (72, 100)
"""Widths in pixels, [low, high), at which signs can and cannot be read."""

PATCHES = 16
"""Patches along each side of a picture."""

NONE = 0
IGNORED = -100
BLANK, ILLEGIBLE = len(world.WORDS) + 1, len(world.WORDS) + 2

LABELS = {
    "background": len(world.BACKGROUNDS),
    "floor": len(world.COLOURS),
    "board": 1 + len(world.COLOURS),
    "word": 3 + len(world.WORDS),
    "kind": 1 + len(world.KINDS),
    "colour": 1 + len(world.COLOURS),
    "size": 1 + len(world.SIZES),
    "direction": 1 + len(world.DIRECTIONS),
    "lamp": 3,
}
"""What is said of each image token: a name, and its number of classes (0 is `none` but for the first two)."""


SHAPED = ("kind", "colour", "size", "direction")
"""What is said of every patch of 16 pixels as well: a shape covers several of them."""


Place = tuple[float, float]
"""The middle of a shape in pixels."""


@dataclass(frozen=True)
class Labelled:
    """pixels: uint8 (256, 256, 3); labels: for each name int64 (16,), row by row; patches: (256,) for those SHAPED."""

    pixels: np.ndarray
    labels: dict[str, np.ndarray]
    patches: dict[str, np.ndarray]


def crowded(rng: np.random.Generator) -> Labelled:
    """A picture with some shapes, signs and lamps: many labels for the price of one."""
    background, floor = pick(rng, world.BACKGROUNDS), pick(rng, world.COLOURS)
    tint = tuple(int(v) for v in rng.integers(-8, 9, 3))
    picture = drawing.backdrop(background, int(rng.integers(4)), tint, floor).copy()
    pen = ImageDraw.Draw(picture)
    width = _width(rng)
    labels = _blank_labels(background, floor)
    patches = {name: np.zeros((PATCHES, PATCHES), dtype=np.int64) for name in SHAPED}
    shapes = _apart(rng, background)
    for shape, place in shapes:
        drawing.draw_shape(pen, shape, place)
        _label_shape(labels, patches, shape, place)
    taken: set[int] = set()
    for _ in range(int(rng.integers(0, 11))):
        column, row = world.random_cell(rng)
        x, y = world.cell_middle(column, row)
        token = _token(x, y)
        if taken & {token, token - 1, token + 1} or any(_covers(*item, x, y) for item in shapes):
            continue
        taken.add(token)
        if rng.random() < 0.15:
            lamp = Lamp(column, row, world.random_shift(rng), ())
            on = bool(rng.random() < 0.5)
            drawing.draw_lamp(pen, lamp, on)
            labels["lamp"][token] = 2 if on else 1
        else:
            sign = _any_sign(rng, column, row)
            with_word = bool(rng.random() < 0.85)
            drawing.draw_sign(pen, sign, with_word)
            _label_sign(labels, token, sign, with_word, legible=width >= ZOOM_WIDTHS[0])
    return Labelled(seen(picture, width, rng), labels, {name: grid.ravel() for name, grid in patches.items()})


def seen(picture: Image.Image, width: int, rng: np.random.Generator) -> np.ndarray:
    """A picture as the model gets it: scaled to a width in pixels, mostly through JPEG, squeezed into a square."""
    scaling = Image.Resampling.BILINEAR if rng.random() < 0.2 else Image.Resampling.BICUBIC
    small = picture.resize((width, round(width * HEIGHT / WIDTH)), scaling)
    if rng.random() < 0.7:
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
        small = Image.open(buffer).convert("RGB")
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _width(rng: np.random.Generator) -> int:
    return int(rng.integers(*(ZOOM_WIDTHS if rng.random() < 0.7 else OVERVIEW_WIDTHS)))


def _any_sign(rng: np.random.Generator, column: int, row: int) -> Sign:
    return Sign(pick(rng, world.WORDS), pick(rng, world.COLOURS), column, row, world.random_shift(rng), (0.0, 0.0))


def _apart(rng: np.random.Generator, background: str) -> list[tuple[Shape, Place]]:
    """One to five shapes with their places, clear of one another and of their trails."""
    placed: list[tuple[Shape, Place]] = []
    wanted = int(rng.integers(1, 6))
    for _ in range(12):
        shape = world.random_shape(rng, background)
        place = shape.at(rng.random())
        if len(placed) < wanted and all(_clear(shape, place, *other) for other in placed):
            placed.append((shape, place))
    return placed


def _clear(shape: Shape, place: Place, other: Shape, taken: Place) -> bool:
    (left, top, right, bottom), (a, b, c, d) = _box(shape, place), _box(other, taken)
    apart = left > c or a > right or top > d or b > bottom
    return apart and _token(*place) != _token(*taken)


def _box(shape: Shape, place: Place) -> tuple[float, float, float, float]:
    """Left, top, right and lower edge of a shape with its trail, in pixels."""
    (x, y), near, far = place, shape.radius + 4.0, world.TRAIL_RADII * shape.radius + 4.0
    left, right = (far if shape.direction == side else near for side in ("right", "left"))
    above, below = (far if shape.direction == side else near for side in ("down", "up"))
    return x - left, y - above, x + right, y + below


def _covers(shape: Shape, place: Place, x: float, y: float) -> bool:
    """Whether a board there would hide some of a shape."""
    return abs(place[0] - x) < 0.7 * shape.radius + CELL_W / 2 and abs(place[1] - y) < 0.7 * shape.radius + CELL_H / 2


def _blank_labels(background: str, floor: str) -> dict[str, np.ndarray]:
    labels = {name: np.zeros(GRID * GRID, dtype=np.int64) for name in LABELS}
    labels["background"][:] = world.BACKGROUNDS.index(background)
    labels["floor"][:] = world.COLOURS.index(floor)
    return labels


def _token(x: float, y: float) -> int:
    column, row = (min(GRID - 1, max(0, int(value * GRID / size))) for value, size in ((x, WIDTH), (y, HEIGHT)))
    return row * GRID + column


def _label_shape(
    labels: dict[str, np.ndarray], patches: dict[str, np.ndarray], shape: Shape, place: tuple[float, float]
) -> None:
    """The token with the shape's middle says what it is, near an edge its neighbours may, and the patches it covers."""
    own = _token(*place)
    near = {_token(place[0] + dx, place[1] + dy) for dx in (-14, 0, 14) for dy in (-14, 0, 14)} - {own}
    column, row = (np.arange(PATCHES) + 0.5) * WIDTH / PATCHES, (np.arange(PATCHES) + 0.5) * HEIGHT / PATCHES
    covered = np.maximum(abs(row[:, None] - place[1]), abs(column[None, :] - place[0])) < 0.9 * shape.radius
    values = (world.KINDS, shape.kind), (world.COLOURS, shape.colour), (world.SIZES, shape.size)
    for name, (known, value) in zip(SHAPED, (*values, (world.DIRECTIONS, shape.direction)), strict=True):
        labels[name][own] = 1 + known.index(value)
        labels[name][list(near)] = IGNORED
        patches[name][covered] = 1 + known.index(value)


def _label_sign(labels: dict[str, np.ndarray], token: int, sign: Sign, with_word: bool, legible: bool) -> None:
    labels["board"][token] = 1 + world.COLOURS.index(sign.colour)
    word = 1 + world.WORDS.index(sign.word)
    labels["word"][token] = ILLEGIBLE if not legible else word if with_word else BLANK
