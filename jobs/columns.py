"""`zoomtrail columns`: what `--where` may name."""

from rich.console import Console
from rich.table import Table

from pipeline.shards.columns import COLUMNS


def columns() -> None:
    """Prints every column with its meaning; in full where the output is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    table = Table(box=None, pad_edge=False)
    table.add_column("column", no_wrap=True)
    table.add_column("meaning")
    for column in COLUMNS:
        table.add_row(column.name, column.meaning)
    console.print(table, markup=False)
