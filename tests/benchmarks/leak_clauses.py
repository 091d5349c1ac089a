"""Clauses for planted leaks that no rule for leaks was fitted to.

Every text with one of them is in words that the rules do not know. Twice before, such clauses were looked at when the
rules missed them, then put among the planted ones (`PARTS`), and written anew.
"""

import random

from pipeline.demo.leaking import PARTS, Parts, leak

UNSEEN: Parts = {
    "teller": ("The comment under the question", "My supervisor", "The help text"),
    "names": ("brings up", "brings me to", "leaves only"),
    "so": (" and so do I.", ". This makes it easy."),
    "i_was": ("Meanwhile I was", "As I have been"),
    "told": ("instructed to read", "offered the position,", "presented with the right segment,"),
    "failed": ("My attempt to answer was met with a no", "I know by now that my letter was off"),
    "by": ("With that piece of help,", "In line with the advice,"),
    "key": ("The model answer", "The sample solution", "The back of the book"),
    "says": ("goes with", "settles on"),
    "then": (", and I go from there.", ". I pick the clip accordingly."),
    "known": ("Since they gave away that it is", "I cannot unsee that the answer is"),
    "must": ("My conclusion was set beforehand:", "I have orders to say"),
    "is_given": ("was printed next to the question", "is the one they accept"),
}


def unseen_leak(dice: random.Random, patterns: tuple[str, ...], **known: str) -> str:
    """A text like those that are planted, with an unseen clause at least."""
    parts = {name: PARTS[name] + UNSEEN[name] for name in PARTS}
    while True:
        text = leak(dice, patterns, parts, **known)
        if any(clause in text for clauses in UNSEEN.values() for clause in clauses):
            return text
