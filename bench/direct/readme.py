"""The table of direct lookups in the README: made from the kept JSON, never typed."""

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "README.md"
START, END = "<!-- direct: python -m bench.direct --readme -->", "<!-- /direct -->"


def write(result: Path) -> None:
    """Write the rows that have a bar between the README's markers."""
    rows = [row for row in json.loads(result.read_text())["rows"] if row["bar"]]
    lines = ["| row | measured | bar | holds |", "|---|---|---|---|", *map(_line, rows)]
    head, start, rest = PAGE.read_text().partition(f"{START}\n")
    _, end, tail = rest.partition(END)
    PAGE.write_text(head + start + "\n".join(lines) + "\n" + end + tail)


def _line(row: dict[str, Any]) -> str:
    if row["figure"] is None:
        return f"| {row['what']} | not measured: {row['note']} | {row['bar']} | |"
    spread = "" if row["low"] is None else f" ({row['low']:g} … {row['high']:g})"
    holds = "yes" if row["holds"] else "**no**"
    return f"| {row['what']} | {row['figure']:g}{row['unit']}{spread} | {row['bar']} | {holds} |"
