"""The sentences of the rendered world: how scenes are described, asked about and stated. Also what models read of it.

World, questions, training and teacher share these, so that they cannot drift apart.
"""

from pipeline.demo.world import Scene

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
        article = "an" if scene.sign.colour == "orange" else "a"
        extra = f", with {article} {scene.sign.colour} sign"
    return f"A {shape.size} {shape.colour} {shape.kind} moves on a {scene.background} background{extra}."


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
