"""At the end of a run: its finished shards are rolled up, so that statistics and cuts read a few files."""

from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import get_context

from rich.console import Console

from pipeline.store import RunStore
from schemas.errors import Fatal, UserError


def roll_up_apart(store: RunStore, console: Console) -> None:
    """Rolls up what is due, in a process of its own, since the driver's memory must not grow with its run.

    Where that fails, it says so: nothing is lost, for whoever finds no part reads the shards.
    """
    from pipeline.shards.rollup import due

    if not due(store):
        return
    with console.status("rolling up finished shards"), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            pool.submit(_roll_up, store.url, store.verifier).result()
        except (UserError, Fatal, OSError, BrokenExecutor) as error:
            console.print(f"not rolled up, so that statistics and cuts take longer: {error}", markup=False)


def _roll_up(url: str, verifier: str) -> None:
    from pipeline.shards.rolling import roll_up

    for _ in roll_up(RunStore(url, verifier)):
        pass
