"""Runs of parts as they are kept, made of the rows that a test is about."""

from typing import Any

from bench.report import Bar, Part, Row
from bench.results import run_of
from bench.scenario import Options

RATIO = Row("ours / theirs", 0.5, "x", bar=Bar("<=", 0.6))
SECONDS = Row("p50", 1.0, " s", better="lower")
SLOWER = Row("ours / theirs", 0.9, "x", bar=Bar("<=", 0.6))


def run(*rows: Row, missing: tuple[str, ...] = (), options: Options | None = None) -> Any:
    """Return the run of a part that found these rows."""
    return run_of(Part(rows=list(rows), missing=list(missing)), options or Options(), 1.0)
