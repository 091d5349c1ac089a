"""`zoomtrail clean`: what a crash left in a run, and its removal."""

import json
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import track

from jobs.tables import printable
from pipeline.driver_lock import driving
from pipeline.leftovers import Leftover, leftovers, remove
from pipeline.store import RunStore

_SHOWN = 20


def clean(run: str, yes: bool, minutes: float, as_json: bool) -> None:
    """Lists what a crash left in a run and has not changed for some minutes, and removes it where `yes`.

    Raises UserError where the run is none, or with `yes` where a process works on it; Fatal.
    """
    store = RunStore(run).require()
    with driving(store.url) if yes else nullcontext():
        found = _found(store)
        old = [left for left in found if left.untouched(60 * minutes)]
        young = len(found) - len(old)
        if yes:
            remove(store, old)
    if as_json:
        print(json.dumps(_as_json(run, yes, old, young), indent=2))
        return
    for left in old[:_SHOWN]:
        print(printable(f"{left.kind}: {left.name} ({left.bytes:,} bytes)"))
    if len(old) > _SHOWN:
        print(f"and {len(old) - _SHOWN:,} more")
    what = f"{len(old):,} leftovers ({sum(left.bytes for left in old):,} bytes)"
    print(f"removed {what}" if yes else f"{what}; `--yes` removes them" if old else "no leftovers")
    if young:
        print(f"{young:,} more changed within {minutes:g} minutes: they may be being written, and stay (--minutes)")


def _found(store: RunStore) -> list[Leftover]:
    console = Console(stderr=True)
    shown: Iterable[Leftover] = track(
        leftovers(store), "looking", console=console, transient=True, disable=not console.is_terminal
    )
    return list(shown)


def _as_json(run: str, yes: bool, old: list[Leftover], young: int) -> dict[str, Any]:
    entries = [{name: value for name, value in asdict(left).items() if name != "upload"} for left in old]
    return {"run": run, "removed": yes, "leftovers": entries, "younger": young}
