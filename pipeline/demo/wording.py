"""The sentences of the rendered world: how scenes are described, asked about and stated. Also what models read of it.

World, questions, training and teacher share these, so that they cannot drift apart.
"""

from collections.abc import Sequence

from pipeline.demo.world import COLOURS, Scene

UNREADABLE = "unreadable"
"""What the model says of a sign whose word it cannot make out."""

NOTHING = "nothing"
"""What it says of a sign that has no word on it in the frames, or that is not in them."""

UNKNOWN = "unknown"
"""What it says where the frames do not show a lamp that flashes."""

FACTS = (
    ("How many days does a week have?", "seven", ("five", "six", "eight")),
    ("How many legs does a spider have?", "eight", ("four", "six", "ten")),
    ("How many corners does a triangle have?", "three", ("two", "four", "five")),
    ("Which colour do blue and yellow make?", "green", ("red", "purple", "orange")),
    ("Which colour do red and yellow make?", "orange", ("green", "purple", "blue")),
    ("Which colour do red and blue make?", "purple", ("green", "orange", "yellow")),
    ("How many months does a year have?", "twelve", ("seven", "ten", "eleven")),
    ("Which colour does fresh snow have?", "white", ("black", "red", "green")),
)
"""Questions that need no video: (question, answer, wrong answers)."""


def describe(scene: Scene) -> str:
    """One sentence: the shape's size, colour and kind, the background, and a sign's colour or a lamp.

    Not where the shape moves: the small model does not tell that reliably.
    """
    shape, extra = scene.shape, ", with a lamp" if scene.lamp else ""
    if scene.sign:
        extra = f", with {_a_sign(scene.sign.colour)}"
    return f"A {shape.size} {shape.colour} {shape.kind} moves on a {scene.background} background{extra}."


def summary(scenes: Sequence[Scene]) -> str:
    """What a caption says of consecutive scenes: the description of one; of several, which signs and lamps they hold.

    Signs by their colours in the order of `COLOURS`, then a lamp: the small model does not keep scenes in order.
    """
    if len(scenes) == 1:
        return describe(scenes[0])
    colours = {scene.sign.colour for scene in scenes if scene.sign}
    held = [_a_sign(colour) for colour in COLOURS if colour in colours]
    held += ["a lamp"] if any(scene.lamp for scene in scenes) else []
    return f"Several scenes: {', '.join(held)}." if held else "Several scenes."


def _a_sign(colour: str) -> str:
    return f"{'an' if colour == 'orange' else 'a'} {colour} sign"


def sign_query(colour: str) -> str:
    return f"What does the {colour} sign say?"


def pair_query(first: str, second: str) -> str:
    return f"What do the {first} sign and the {second} sign say?"


def pair_answer(first: str, second: str) -> str:
    return f"{first} and {second}"


FLASH_QUERY = "How many times does the lamp flash?"
FLOOR_QUERY = "What colour is the floor?"


def sign_statement(colour: str, word: str) -> str:
    return f"The {colour} sign says {word}."


def flash_statement(count: str) -> str:
    return f"The lamp flashes {count} times."


def floor_statement(colour: str) -> str:
    return f"The floor is {colour}."
