"""The table of direct lookups in the README: made from the kept JSON, never typed."""

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "README.md"
START, END = "<!-- direct: python -m bench.direct --readme -->", "<!-- /direct -->"


def write(result: Path) -> None:
    """Write the rows that have a bar between the README's markers."""
    put_table(json.loads(result.read_text())["rows"], START, END)


def put_table(all_rows: list[dict[str, Any]], begin: str, finish: str) -> None:
    """Write the rows that have a bar between two markers of the README."""
    rows = [row for row in all_rows if row["bar"]]
    lines = ["| row | measured | bar | holds |", "|---|---|---|---|", *map(line, rows)]
    head, start, rest = PAGE.read_text().partition(f"{begin}\n")
    _, end, tail = rest.partition(finish)
    PAGE.write_text(head + start + "\n".join(lines) + "\n" + end + tail)


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    if row["figure"] is None:
        return f"| {row['what']} | not measured: {row['note']} | {row['bar']} | |"
    spread = "" if row["low"] is None else f" ({row['low']:g} … {row['high']:g})"
    holds = "yes" if row["holds"] else "**no**"
    return f"| {row['what']} | {row['figure']:g}{row['unit']}{spread} | {row['bar']} | {holds} |"
