"""A frame's second, burnt into its picture as red digits (LOVE-R1, `add_frame_numbers_batch` in `sft_video.py`).

Upstream draws Arial of min(width, height) / 8 on the native frame and then scales. Here the digits are drawn on the
scaled picture, at the same share of its size, from the patterns below at a whole-numbered scale: no font file, and
the same pixels on every machine.
"""

from PIL import Image

_PATTERNS = (
    ("###", "#.#", "#.#", "#.#", "###"),
    (".#.", "##.", ".#.", ".#.", "###"),
    ("###", "..#", "###", "#..", "###"),
    ("###", "..#", "###", "..#", "###"),
    ("#.#", "#.#", "###", "..#", "..#"),
    ("###", "#..", "###", "..#", "###"),
    ("###", "#..", "###", "#.#", "###"),
    ("###", "..#", "..#", "..#", "..#"),
    ("###", "#.#", "###", "#.#", "###"),
    ("###", "#.#", "###", "..#", "###"),
)
"""The digits 0 to 9, each 3 dots wide and 5 high."""

_HEIGHT = 0.09
"""Height of a digit as a share of the picture's shorter side: that of Arial at an eighth of it."""

_RED = {"RGB": (255, 0, 0), "YCbCr": (76, 85, 255)}


def stamp(image: Image.Image, second: int) -> None:
    """Draws a whole second, without a sign, into the lower right corner. image: RGB or YCbCr, changed in place."""
    scale = dot(*image.size)
    mask = _mask(str(second))
    mask = mask.resize((mask.width * scale, mask.height * scale), Image.Resampling.NEAREST)
    corner = (image.width - mask.width - scale, image.height - mask.height - 2 * scale)
    image.paste(_RED[image.mode], corner, mask)


def dot(width: int, height: int) -> int:
    """Pixels of a digit's dot in a picture of this size; a digit has 3 x 5 dots, with one between two digits."""
    return max(1, round(_HEIGHT * min(width, height) / 5))


def _mask(text: str) -> Image.Image:
    """Black and white, one pixel a dot."""
    mask = Image.new("1", (4 * len(text) - 1, 5))
    for i, digit in enumerate(text):
        for y, row in enumerate(_PATTERNS[int(digit)]):
            for x, mark in enumerate(row):
                mask.putpixel((4 * i + x, y), int(mark == "#"))
    return mask
