"""How one part's rows look on a screen."""

from rich.console import Console

from bench.direct.tables import WIDTH, table_of_rows
from bench.keeping.results import Part


def show(part: Part) -> None:
    """Print them on stdout."""
    Console(width=WIDTH).print(table_of_rows(part.rows))
