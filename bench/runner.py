"""How benches are run: part by part, with a progress bar, each kept as soon as it is there."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.report import Part
from bench.results import keep, path_of, read, run_of
from bench.scenario import PROGRESS, Bench, Options

INCHES = (11.0, 4.5)
DOTS = 80  # an inch of a plot
Job = tuple[Bench, str]
OnRun = Callable[[Bench, str, dict[str, Any]], None]


def run_all(jobs: Sequence[Job], options: Options, on_run: OnRun) -> list[str]:
    """Run the parts in turn; `on_run` takes each run as soon as it is over.

    Returns what failed, and how: the other parts are run all the same.
    """
    failed: list[str] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    progress = Progress(*columns, TimeElapsedColumn(), console=PROGRESS, transient=True)
    task = progress.add_task("", total=len(jobs))
    for bench, part in jobs:
        progress.update(task, description=f"{bench.name}: {part}")
        try:
            with progress:  # away before anything is printed: both may share a terminal
                run = run_one(bench, part, options)
            on_run(bench, part, run)
        except Exception as error:  # noqa: BLE001 - whatever one part does, the next is run
            failed.append(f"{bench.name}/{part}: {type(error).__name__}: {error}")
        progress.advance(task)
    return failed


def run_one(bench: Bench, part: str, options: Options) -> dict[str, Any]:
    """Run one part of a bench and return what is kept of it."""
    start = monotonic()
    lacking = bench.why_not()
    found = Part(missing=[lacking]) if lacking else bench.parts[part](options)
    return run_of(found, options, monotonic() - start)


def keep_run(bench: Bench, part: str, run: dict[str, Any], directory: Path) -> None:
    """Keep a run in a directory of results, and draw them anew."""
    keep(bench.name, part, run, directory)
    draw(bench, path_of(bench.name, directory))


def draw(bench: Bench, path: Path) -> None:
    """Draw a plot beside results; without matplotlib there is none."""
    try:
        import matplotlib as mpl
    except ImportError:
        return
    mpl.rcParams["svg.hashsalt"] = bench.name  # the same figures make the same file
    if bench.draw is not None and path.exists():
        figure = bench.draw(read(path))
        figure.savefig(path.with_suffix(".png"), dpi=DOTS, metadata={"Software": None})
