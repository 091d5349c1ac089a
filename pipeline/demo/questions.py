"""The questions of a film, with answers and clue intervals that its seed fixes: rows of the `jsonl` source format."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from pipeline.demo import wording
from pipeline.demo.film import film_name
from pipeline.demo.world import COLOURS, COUNTS, FAMILIES, Film, Sign, pick
from schemas.question import LETTERS
from schemas.timeline import Interval

KINDS = ("sign", "pair", "flash", "overview", "blind", "open")
"""What a question needs: one zoom, two zooms, a high frame rate, a look at any frame, no video, one zoom and words."""

NEED_A_ZOOM = ("sign", "pair", "flash")
"""Kinds with choices whose answer no overview shows."""

N_CHOICES = 4


class Row(TypedDict):
    """A line of the questions' file. choices: empty for an open question, whose answer is a text and no letter."""

    qid: str
    video: str
    question: str
    choices: list[str]
    answer: str
    answer_text: str
    clue_intervals: list[Interval]
    kind: str


def questions(film: Film, n_signs: int = 2) -> list[Row]:
    """`n_signs` questions of the kind `sign`, and one of each other kind; no sign is asked about twice.

    film: with a lamp and at least n_signs + 3 signs, as `world.film` makes them.
    """
    rng = np.random.default_rng((film.seed, len(KINDS)))
    signs = [scene.sign for scene in film.scenes if scene.sign]
    shuffled = [signs[i] for i in rng.permutation(len(signs))]
    single, first, second, last = shuffled[:n_signs], *shuffled[n_signs : n_signs + 3]
    return [
        *(_sign(rng, film, sign) for sign in single),
        _pair(rng, film, first, second),
        _flash(rng, film),
        _overview(rng, film),
        _blind(rng, film),
        _open(film, last),
    ]


def _sign(rng: np.random.Generator, film: Film, sign: Sign) -> Row:
    choices = [sign.word, *near_misses(sign.word)]
    return _row(rng, film, f"sign-{sign.colour}", wording.sign_query(sign.colour), choices, [sign.shown])


def _pair(rng: np.random.Generator, film: Film, first: Sign, second: Sign) -> Row:
    words = [(sign.word, pick(rng, near_misses(sign.word))) for sign in (first, second)]
    pairs = [wording.pair_answer(one, two) for one in words[0] for two in words[1]]
    text = wording.pair_query(first.colour, second.colour)
    return _row(rng, film, f"pair-{first.colour}-{second.colour}", text, pairs, sorted([first.shown, second.shown]))


def _flash(rng: np.random.Generator, film: Film) -> Row:
    flashes = next(scene.lamp.flashes for scene in film.scenes if scene.lamp)
    count = COUNTS[len(flashes) - 2]
    clue = (flashes[0][0], round(flashes[-1][1], 1))
    return _row(rng, film, "flash", wording.FLASH_QUERY, [count, *(c for c in COUNTS if c != count)], [clue])


def _overview(rng: np.random.Generator, film: Film) -> Row:
    others = [str(colour) for colour in rng.permutation(COLOURS) if colour != film.floor]
    return _row(rng, film, "overview", wording.FLOOR_QUERY, [film.floor, *others[: N_CHOICES - 1]], [])


def _blind(rng: np.random.Generator, film: Film) -> Row:
    text, answer, wrong = pick(rng, wording.FACTS)
    return _row(rng, film, "blind", text, [answer, *wrong], [])


def _open(film: Film, sign: Sign) -> Row:
    return Row(
        qid=f"film-{film.seed}-open-{sign.colour}",
        video=film_name(film.seed),
        question=wording.sign_query(sign.colour),
        choices=[],
        answer=sign.word,
        answer_text=sign.word,
        clue_intervals=[sign.shown],
        kind="open",
    )


def _row(
    rng: np.random.Generator, film: Film, name: str, text: str, choices: Sequence[str], clues: list[Interval]
) -> Row:
    """A question whose answer is the first of its choices, with the choices in random order."""
    order = [int(i) for i in rng.permutation(len(choices))]
    return Row(
        qid=f"film-{film.seed}-{name}",
        video=film_name(film.seed),
        question=text,
        choices=[choices[i] for i in order],
        answer=LETTERS[order.index(0)],
        answer_text=choices[0],
        clue_intervals=clues,
        kind=name.split("-")[0],
    )


def near_misses(word: str) -> list[str]:
    """The other words of its family."""
    return [other for family in FAMILIES if word in family for other in family if other != word]
