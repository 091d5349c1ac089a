"""At the end of a run: its finished shards are rolled up, so that statistics and cuts read a few files."""

import os
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from rich.console import Console

from pipeline.store import RunStore
from schemas.errors import Fatal, UserError

_MOST_PROCESSES = 8


def roll_up_apart(store: RunStore, console: Console) -> None:
    """Rolls up what is due, in a process of its own, since the driver's memory must not grow with its run.

    Where that fails, it says so: nothing is lost, for whoever finds no part reads the shards.
    """
    from pipeline.shards import rendered, rollup

    rows, samples = rollup.due(store), rendered.due(store)
    if not rows and not samples:
        return
    processes = min(os.cpu_count() or 1, _MOST_PROCESSES, max(1, len(samples)))
    with console.status("rolling up finished shards"), ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        try:
            if rows:
                pool.submit(_roll_up, store.url, store.verifier).result()
            list(pool.map(partial(_render, store.url), samples))
        except (UserError, Fatal, OSError, BrokenExecutor) as error:
            console.print(f"not rolled up, so that statistics and cuts take longer: {error}", markup=False)


def _render(url: str, span: range) -> None:
    from pipeline.shards.rendered import render

    render(RunStore(url), span)


def _roll_up(url: str, verifier: str) -> None:
    from pipeline.shards.rolling import roll_up

    for _ in roll_up(RunStore(url, verifier)):
        pass
