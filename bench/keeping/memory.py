"""What 1,000,000 records cost: memory of whoever pages through them, and each question's time."""

from bench.ledger_rows import measure
from bench.report import Bar, Part, Row
from bench.scenario import Options

MOST = Bar("<=", 476.8)  # MiB: 500 MB
NAMES = {  # what `measure` says: what it is, its unit
    "peak_rss_mib": ("memory of who works through them, at most", " MiB"),
    "bare_rss_mib": ("memory of a process that has only opened it", " MiB"),
    "file_mib": ("file", " MiB"),
    "open_ms": ("opening it", " ms"),
    "totals_ms": ("how many are kept, due, late", " ms"),
    "next_due_ms": ("when the next is due", " ms"),
    "newest_ms": ("one record", " ms"),
    "page_of_1000_ms": ("the next 1,000, verified", " ms"),
    "slowest_page_ms": ("the slowest of these", " ms"),
    "note_of_1000_ms": ("noting what was found of 1,000", " ms"),
    "slowest_note_ms": ("the slowest of these notes", " ms"),
    "make_due_ms": ("having all be due now", " ms"),
}


def memory(options: Options) -> Part:
    """Fill a ledger, all of it due, and have another process work through it."""
    rows = 20_000 if options.quick else 1_000_000
    said = measure(rows)
    return Part([_row(name, said[name], rows) for name in NAMES])


def _row(name: str, figure: float, rows: int) -> Row:
    what, unit = NAMES[name]
    bar = MOST if name == "peak_rss_mib" else None
    return Row(f"ledger: {what}", figure, unit, bar=bar, note=f"{rows:,} due records")
