"""What 1,000,000 records cost: memory of whoever pages through them, and each question's time."""

from bench.ledger_rows import measure
from bench.report import Bar, Part, Row
from bench.scenario import Options


def memory(options: Options) -> Part:
    """Fill a ledger, all of it due, and have another process work through it."""
    rows = 20_000 if options.quick else 1_000_000
    said = measure(rows)
    what = f"{rows:,} due records"
    return Part(
        [
            Row(f"{what}: peak memory", said["peak_rss_mib"], " MiB", bar=Bar("<=", 476.8)),
            *(Row(f"{what}: {name}", value) for name, value in said.items() if _is_figure(name)),
        ]
    )


def _is_figure(name: str) -> bool:
    return name not in ("rows", "paged", "peak_rss_mib")
