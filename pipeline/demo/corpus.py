"""The demo's films and questions as files: what a job reads."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pipeline.demo import world
from pipeline.demo.film import film_name, write_film
from pipeline.demo.questions import Row, questions
from schemas.errors import Fatal

CUT_AT = 0.6
"""How much is left of the file that is cut short on purpose."""


def write_films(folder: Path, seeds: Sequence[int], show: Callable[[int, int], None]) -> None:
    """Renders the films that are not in the folder yet, and a copy of the first one that is cut short.

    show: called with films done and in all; what it raises ends the rendering. Raises Fatal where they cannot be
    rendered or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [seed for seed in seeds if not (folder / film_name(seed)).exists()]
        there = len(seeds) - len(missing)
        show(there, len(seeds))
        if missing:
            _render_all(folder, missing, lambda done: show(there + done, len(seeds)))
        whole = (folder / film_name(seeds[0])).read_bytes()
        (folder / cut_short_name(seeds[0])).write_bytes(whole[: int(len(whole) * CUT_AT)])
    except OSError as error:
        raise Fatal(f"the films cannot be written to {folder}: {error.strerror or error}") from error


def _render_all(folder: Path, seeds: Sequence[int], show: Callable[[int], None]) -> None:
    """Side by side, as an encoder leaves the interpreter's lock to the others. None is begun after an error."""
    threads = ThreadPoolExecutor(min(len(seeds), os.cpu_count() or 1))
    try:
        for done, _ in enumerate(threads.map(partial(_render, folder), seeds), start=1):
            show(done)
    finally:
        threads.shutdown(cancel_futures=True)


def _render(folder: Path, seed: int) -> None:
    write_film(world.film(seed), folder / film_name(seed))


def cut_short_name(seed: int) -> str:
    """The name of a film's copy that is cut short."""
    return film_name(seed).replace(".mp4", "-cut-short.mp4")


def corpus_questions(seeds: Sequence[int]) -> list[Row]:
    """The questions of the films, and one about the copy that is cut short."""
    rows = [row for seed in seeds for row in questions(world.film(seed))]
    first = rows[0]
    broken: Row = {**first, "qid": f"{first['qid']}-cut-short", "video": cut_short_name(seeds[0])}
    return [*rows, broken]


def as_jsonl(rows: Sequence[Row]) -> str:
    """Rows as the `jsonl` source reads them."""
    return "".join(json.dumps(row) + "\n" for row in rows)
