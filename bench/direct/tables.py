"""How a report looks on a screen: one table of rows with bars, one of what operations cost."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.direct.report import Cost, Report, Row

WIDTH = 170  # characters: notes are long


def show(report: Report) -> None:
    """Print both tables on stdout."""
    console = Console(width=WIDTH)
    console.print(table_of_rows(report.rows))
    console.print(_table_of_costs(report.costs))


def table_of_rows(rows: Sequence[Row]) -> Table:
    """Return rows as a table."""
    table = Table("row", "figure [lowest … highest]", "bar", "holds", "note")
    for one in rows:
        mark = {None: "", True: "yes", False: "NO"}[one.holds]
        table.add_row(
            one.what, _figure(one), "" if one.bar is None else str(one.bar), mark, one.note
        )
    return table


def _figure(one: Row) -> str:
    if one.figure is None:
        return "not measured"
    spread = "" if one.low is None else f" [{one.low:.4g} … {one.high:.4g}]"
    return f"{one.figure:.4g}{one.unit}{spread}"


def _table_of_costs(costs: Sequence[Cost]) -> Table:
    table = Table("operation", "loss", "runs", "p50", "p95", "p99", "datagrams", "bytes", "found")
    for one in costs:
        times = (f"{seconds:.2f} s" for seconds in (one.p50, one.p95, one.p99))
        counts = (f"{one.datagrams:.1f}", f"{one.bytes:,.0f}", f"{one.found:.3f}")
        table.add_row(one.what, f"{one.loss:.0%}", f"{one.count:,}", *times, *counts)
    return table
