"""`zoomtrail presets`: the named conditions, and what each one says."""

import sys

from rich.console import Console
from rich.table import Table

from jobs.presets import preset, preset_names, preset_text


def presets(name: str) -> None:
    """Prints the file of a preset, or without a name what there is. Raises UserError for a name that there is not."""
    if name:
        print(preset_text(name), end="")
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
    table = Table(box=None, pad_edge=False)
    table.add_column("preset", no_wrap=True)
    table.add_column("clauses", justify="right")
    table.add_column("keeps")
    table.add_column("recipe")
    for each in preset_names():
        found = preset(each)
        table.add_row(each, str(len(found.clauses)), found.description, found.source or "our own")
    console.print(table, markup=False)
