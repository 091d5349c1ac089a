"""Pictures of the rendered world at a moment, drawn with Pillow and its own font."""

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from pipeline.demo.world import (
    CELL_H,
    CELL_W,
    FLOOR_Y,
    HEIGHT,
    WIDTH,
    Film,
    Lamp,
    Scene,
    Shape,
    Sign,
    cell_middle,
)

Rgb = tuple[int, int, int]

PAINT: dict[str, Rgb] = {
    "red": (214, 40, 40),
    "green": (40, 160, 60),
    "blue": (45, 85, 220),
    "yellow": (245, 215, 50),
    "purple": (140, 60, 180),
    "orange": (245, 135, 30),
    "white": (245, 245, 245),
    "black": (25, 25, 25),
    "gray": (128, 128, 128),
    "brown": (115, 75, 45),
    "pink": (240, 170, 190),
    "teal": (50, 140, 145),
    "navy": (28, 38, 95),
    "tan": (205, 180, 140),
}
_LIGHT = ("yellow", "orange", "white")
"""Boards with dark letters; the others have light ones."""

BOARD_W, BOARD_H = 96, 40
LETTER_PITCH = 20
LETTER_SIZE = 27
"""Of a sign, in pixels: a letter has 20 at a frame's 640, and 2.5 at an overview's 80, which nobody can read."""

LAMP_RADIUS = 17
_TRAIL = ((1.4, 0.34), (1.95, 0.24))
"""The discs behind a moving shape: how far they are from its middle and how large, in its radii."""


def draw(film: Film, time_s: float) -> Image.Image:
    """What a film shows at a time in seconds: 640x360, RGB."""
    scene = film.scene_at(time_s)
    picture = backdrop(scene.background, scene.pattern, scene.tint, film.floor).copy()
    add_scene(picture, scene, time_s)
    return picture


def add_scene(picture: Image.Image, scene: Scene, time_s: float) -> None:
    """Draws what stands before the background."""
    pen = ImageDraw.Draw(picture)
    draw_shape(pen, scene.shape, scene.shape.at(scene.share(time_s)))
    if scene.lamp:
        draw_lamp(pen, scene.lamp, scene.lamp.on(time_s))
    if scene.sign:
        draw_sign(pen, scene.sign, with_word=scene.sign.on(time_s))


def backdrop_colour(name: str, tint: tuple[int, int, int]) -> Rgb:
    red, green, blue = (max(0, min(255, value + shift)) for value, shift in zip(PAINT[name], tint, strict=True))
    return red, green, blue


@lru_cache(maxsize=16)
def backdrop(background: str, pattern: int, tint: tuple[int, int, int], floor: str) -> Image.Image:
    """Plain, upright or level stripes, or a slope of light, over a floor."""
    ground = backdrop_colour(background, tint)
    other = tuple(min(255, value + 16) for value in ground)
    picture = Image.new("RGB", (WIDTH, HEIGHT), ground)
    pen = ImageDraw.Draw(picture)
    if pattern == 1:
        for x in range(0, WIDTH, 64):
            pen.rectangle([x, 0, x + 31, HEIGHT], fill=other)
    elif pattern == 2:
        for y in range(0, HEIGHT, 48):
            pen.rectangle([0, y, WIDTH, y + 23], fill=other)
    elif pattern == 3:
        slope = Image.linear_gradient("L").resize((WIDTH, HEIGHT))
        picture = Image.composite(picture, Image.new("RGB", (WIDTH, HEIGHT), other), slope)
        pen = ImageDraw.Draw(picture)
    pen.rectangle([0, FLOOR_Y, WIDTH, HEIGHT], fill=PAINT[floor])
    return picture


def draw_shape(pen: ImageDraw.ImageDraw, shape: Shape, at: tuple[float, float]) -> None:
    """A shape at a place in pixels, and the discs behind it."""
    dx, dy = {"left": (1, 0), "right": (-1, 0), "up": (0, 1), "down": (0, -1)}[shape.direction]
    paint, r, (x, y) = PAINT[shape.colour], shape.radius, at
    for radii, size in _TRAIL:
        _disc(pen, x + dx * radii * r, y + dy * radii * r, size * r, paint)
    if shape.kind == "circle":
        _disc(pen, x, y, r, paint)
    elif shape.kind == "ring":
        pen.ellipse([x - r, y - r, x + r, y + r], outline=paint, width=round(0.36 * r))
    elif shape.kind == "cross":
        pen.rectangle([x - r, y - 0.3 * r, x + r, y + 0.3 * r], fill=paint)
        pen.rectangle([x - 0.3 * r, y - r, x + 0.3 * r, y + r], fill=paint)
    else:
        pen.polygon([(x, y - r), (x + r, y + 0.85 * r), (x - r, y + 0.85 * r)], fill=paint)


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, r: float, paint: Rgb) -> None:
    pen.ellipse([x - r, y - r, x + r, y + r], fill=paint)


def draw_sign(pen: ImageDraw.ImageDraw, sign: Sign, with_word: bool) -> None:
    """A board on its cell, with its word where it is shown."""
    x, y = cell_middle(sign.column, sign.row)
    x, y = x + sign.shift[0], y + sign.shift[1]
    ink = (15, 15, 15) if sign.colour in _LIGHT else (250, 250, 250)
    edges = [x - BOARD_W / 2, y - BOARD_H / 2, x + BOARD_W / 2, y + BOARD_H / 2]
    pen.rectangle(edges, fill=PAINT[sign.colour], outline=ink, width=2)
    if not with_word:
        return
    for number, letter in enumerate(sign.word):
        middle = x + (number - (len(sign.word) - 1) / 2) * LETTER_PITCH
        pen.text((middle, y), letter, font=_font(), fill=ink, anchor="mm", stroke_width=1, stroke_fill=ink)


def draw_lamp(pen: ImageDraw.ImageDraw, lamp: Lamp, on: bool) -> None:
    """A dark disc with a light rim; bright, with a wide halo, while it flashes."""
    x, y = cell_middle(lamp.column, lamp.row)
    x, y, r = x + lamp.shift[0], y + lamp.shift[1], LAMP_RADIUS
    if on:
        pen.ellipse([x - 1.6 * r, y - 1.6 * r, x + 1.6 * r, y + 1.6 * r], fill=(255, 200, 60))
    rim, core = ((255, 255, 210), (255, 255, 210)) if on else ((200, 200, 200), (45, 45, 45))
    pen.ellipse([x - r, y - r, x + r, y + r], fill=core, outline=rim, width=3)


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=LETTER_SIZE)


assert BOARD_W <= 1.25 * CELL_W and BOARD_H <= CELL_H
