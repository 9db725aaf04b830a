"""How results look as tables: on a screen, and in Markdown between two markers of a page."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.report import RATIO
from bench.results import kept
from dhtmeta.errors import CallerError

WIDTH = 170  # characters: notes are long
END = "<!-- /bench -->"  # of a table in a page
ROOT = Path(__file__).parent.parent
Rows = Sequence[Mapping[str, Any]]
MARKS = {None: "", True: "yes", False: "NO"}


def screen() -> Console:
    """Return stdout as what tables are printed on; what they say is never markup."""
    return Console(width=WIDTH, markup=False, emoji=False)


def show(run: Mapping[str, Any]) -> None:
    """Print the tables of one part on stdout."""
    console = screen()
    if run["rows"]:
        console.print(_rows(run["rows"]))
    if run["costs"]:
        console.print(_costs(run["costs"]))
    for one in run["missing"]:
        console.print(f"not measured: {one}")


def _rows(rows: Rows) -> Table:
    table = Table("row", "figure [lowest … highest]", "bar", "holds", "note")
    for one in rows:
        said = f"{figure(one)} [{spread(one)}]" if spread(one) else figure(one)
        table.add_row(one["what"], said, one["bar"] or "", MARKS[one["holds"]], one["note"])
    return table


def figure(row: Mapping[str, Any]) -> str:
    """Return a figure with its unit."""
    return "not measured" if row["figure"] is None else number(row["figure"], row["unit"])


def spread(row: Mapping[str, Any]) -> str:
    """Return the lowest and highest figure; nothing where there is no spread."""
    if row["low"] is None or row["high"] is None:
        return ""
    return f"{number(row['low'])} … {number(row['high'])}"


def number(value: float, unit: str = "") -> str:
    """Return a number of four digits as people write it, with its unit."""
    said = f"{value:,.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:g}"
    return f"{said}{unit}" if unit in ("", "x", "%") else f"{said} {unit.strip()}"


def _costs(costs: Rows) -> Table:
    table = Table("operation", "loss", "runs", "p50", "p95", "p99", "datagrams", "bytes", "found")
    for one in costs:
        times = (seconds(one[name]) for name in ("p50", "p95", "p99"))
        counts = (f"{one['datagrams']:.1f}", f"{one['bytes']:,.0f}", f"{one['found']:.3f}")
        table.add_row(one["what"], f"{one['loss']:.0%}", f"{one['count']:,}", *times, *counts)
    return table


def seconds(time: float) -> str:
    """Return a time in s, ms or us, whichever reads best."""
    if time >= 1:
        return f"{time:.2f} s"
    return f"{1e3 * time:.3g} ms" if time >= 1e-3 else f"{1e6 * time:.3g} us"


def put_tables(page: Path, names: Sequence[str]) -> None:
    """Write tables anew where `page` has the markers of a bench: rows with a bar, or to be told.

    These are `<!-- bench: NAME -->`, or `<!-- bench: NAME PART … -->` for some parts alone, and
    `<!-- /bench -->`, each in a line of its own. Of a part without such rows all ratios are shown.
    """
    old = text = page.read_text(encoding="utf-8")
    for name in names:
        text = _filled(page, text, name)
    if text != old:
        page.write_text(text, encoding="utf-8")


def _filled(page: Path, text: str, name: str) -> str:
    """Return the text with all tables of one bench in it."""
    done = ""
    while start := re.search(rf"<!-- bench: {name}((?: [\w-]+)*) -->\n", text):
        between, end, tail = text[start.end() :].partition(END)
        if not end or "<!-- bench: " in between:
            raise CallerError(f"{page} has no {END} after its {start[0].strip()}")
        done += text[: start.end()] + _markdown(name, start[1].split())
        text = end + tail
    return done + text


def _markdown(name: str, parts: Sequence[str]) -> str:
    runs = kept(name)
    rows = [row for part in parts or runs if part in runs for row in _told(runs[part]["rows"])]
    lines = ["| row | measured | bar | holds |", "|---|---|---|---|", *map(line, rows)]
    return "\n".join(lines) + "\n"


def _told(rows: Rows) -> Rows:
    told = [row for row in rows if row["bar"] or row.get("told")]
    return told or [row for row in rows if row["unit"] == RATIO]


def line(row: Mapping[str, Any]) -> str:
    """Return a row of a Markdown table."""
    said = f"{figure(row)} ({spread(row)})" if spread(row) else figure(row)
    holds = {None: "", True: "yes", False: "**no**"}[row["holds"]]
    cells = [row["what"], said, row["bar"] or "", holds]
    if row["figure"] is None:
        cells[1] = f"not measured: {row['note']}"
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
