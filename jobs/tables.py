"""Tables for a terminal, and as plain text elsewhere, whose cells are text and nothing else."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(console: Console, table: Table, plain: bool) -> None:
    """plain: without colours, lines and padding."""
    table.box = None if plain else box.SIMPLE_HEAD
    table.title_justify = "left"
    if not plain:
        console.print(table)
        return
    with console.capture() as text:
        console.print(table)
    print("\n".join(line.rstrip() for line in text.get().splitlines()))


def new_table(title: str, texts: tuple[str, ...], numbers: tuple[str, ...], last: str = "") -> Table:
    """A table with columns of text, of numbers, and one of text that takes the rest of the line."""
    table = Table(title=title, title_style="bold", pad_edge=False, expand=bool(last))
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    if last:
        table.add_column(last, overflow="ellipsis", no_wrap=True, ratio=1)
    return table


def add_row(table: Table, *cells: object) -> None:
    """Adds a row; no cell can steer a terminal."""
    table.add_row(*(Text(printable(str(cell))) for cell in cells))


def printable(text: str) -> str:
    """A text on one line without control characters: a model's words cannot steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
