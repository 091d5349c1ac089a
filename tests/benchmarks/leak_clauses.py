"""Clauses for planted leaks that no rule for leaks was fitted to.

Every text with one of them is in words that the rules do not know. Twice before, such clauses were looked at when the
rules missed them, then put among the planted ones (`PARTS`), and written anew.
"""

from collections.abc import Iterator
from itertools import product
from string import Formatter

from pipeline.demo.leaking import PARTS, Parts

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


def unseen_wordings(patterns: tuple[str, ...], **known: str) -> Iterator[str]:
    """Every text by the patterns that has an unseen clause; the others are planted ones."""
    for pattern in patterns:
        names = [name for _, name, _, _ in Formatter().parse(pattern) if name in PARTS]
        for clauses in product(*(PARTS[name] + UNSEEN[name] for name in names)):
            if any(clause in UNSEEN[name] for name, clause in zip(names, clauses, strict=True)):
                yield pattern.format(**dict(zip(names, clauses, strict=True)), **known)
