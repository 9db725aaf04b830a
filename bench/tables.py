"""How results look as tables: on a screen, and in Markdown between two markers of a page."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from bench.report import RATIO
from bench.results import kept
from bench.scenario import Results
from dhtmeta.errors import CallerError

WIDTH = 170  # characters, where no terminal says how many it has: notes are long
END = "<!-- /bench -->"  # of a table in a page
ROOT = Path(__file__).parent.parent
Rows = Sequence[Mapping[str, Any]]
MARKS = {None: "", True: "yes", False: "NO"}


def screen() -> Console:
    """Return stdout as what tables are printed on; what they say is never markup."""
    width = None if sys.stdout.isatty() else WIDTH
    return Console(width=width, markup=False, emoji=False)


def columns(*heads: str) -> Table:
    """Return a table that folds what is too wide for the screen."""
    return Table(*(Column(head, overflow="fold") for head in heads))


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
    table = columns("row", "figure [lowest … highest]", "bar", "holds", "note")
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
    table = columns("operation", "loss", "runs", "p50", "p95", "p99", "datagrams", "bytes", "found")
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
    Parts stand as the marker names them, else as the bench does.
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
    """Return the table of some parts, and below it who was not measured, and at which commits."""
    kept_runs = kept(name)
    known = parts or ordered(_parts_of(name), kept_runs)
    runs = {part: kept_runs[part] for part in known if part in kept_runs}
    below = [*_missing(runs), *_commits(runs)]
    return "\n".join([*_lines(runs), *([""] if below else []), *below]) + "\n"


def _parts_of(name: str) -> Iterable[str]:
    from bench.catalogue import BENCHES  # whose benches need this file

    return BENCHES[name].parts if name in BENCHES else ()


def ordered(parts: Iterable[str], results: Results) -> list[str]:
    """Return the parts there are results of, those that a bench has in its order."""
    return [part for part in dict.fromkeys([*parts, *results]) if part in results]


def _lines(runs: Results) -> list[str]:
    """Return the table; with the names of the parts if rows are of several."""
    rows = [(part, line(row)) for part, run in runs.items() for row in _told(run["rows"])]
    heads = ["| row | measured | bar | holds |", "|---|---|---|---|"]
    if len({part for part, _ in rows}) < 2:
        return [*heads, *(row for _, row in rows)]
    return [f"| part {heads[0]}", f"|---{heads[1]}", *(f"| {part} {row}" for part, row in rows)]


def _missing(runs: Results) -> list[str]:
    """Say who was not measured, and why."""
    missing = dict.fromkeys(one for run in runs.values() for one in run["missing"])
    return [f"Not measured: {'; '.join(missing)}."] if missing else []


def _commits(runs: Results) -> list[str]:
    """Say at which commits parts were run, if not all at one; or that this was not kept."""
    parts: dict[str, list[str]] = {}
    for part, run in runs.items():
        parts.setdefault(run["versions"].get("commit", ""), []).append(part)
    if [*parts] == [""]:
        return ["Run before versions were kept."]
    said = [f"{at or 'versions not kept'} ({', '.join(names)})" for at, names in parts.items()]
    return [f"Run at: {'; '.join(said)}."] if len(said) > 1 else []


def _told(rows: Rows) -> Rows:
    told = [row for row in rows if row["bar"] or row["told"]]
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
