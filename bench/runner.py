"""How benches are run: part by part, each kept as soon as it is there; what is said meanwhile."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.report import Part
from bench.results import keep, path_of, read, run_of
from bench.scenario import PROGRESS, Bench, Options

INCHES = (11.0, 4.5)
DOTS = 80  # an inch of a plot
ENDING = (signal.SIGTERM, signal.SIGHUP)  # what ends a run as Ctrl-C does
Job = tuple[Bench, str]
OnRun = Callable[[Bench, str, dict[str, Any]], None]


def run_all(jobs: Sequence[Job], options: Options, on_run: OnRun) -> list[str]:
    """Run the parts in turn; `on_run` takes each run as soon as it is over.

    Returns what failed, and how: the other parts are run all the same.
    """
    failed: list[str] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    off = not PROGRESS.is_terminal
    progress = Progress(
        *columns, TimeElapsedColumn(), console=PROGRESS, transient=True, disable=off
    )
    task = progress.add_task("", total=len(jobs))
    with interrupted_by_all():
        for bench, part in jobs:
            name = f"{bench.name}/{part}"
            progress.update(task, description=name)
            try:
                with _told(name), progress:  # away before anything else is printed
                    run = run_one(bench, part, options)
                on_run(bench, part, run)
            except Exception as error:  # noqa: BLE001 - whatever one does, the next is run
                failed.append(f"{name}: {type(error).__name__}: {error}")
            progress.advance(task)
    return failed


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Say when a part begins and ends, where a bar would be nothing but empty lines."""
    if PROGRESS.is_terminal:
        yield
        return
    start, how = monotonic(), "broken off"
    _say(f"{name}: begun")
    try:
        yield
        how = "ended"
    finally:
        _say(f"{name}: {how} after {monotonic() - start:.1f} s")


def _say(line: str) -> None:
    PROGRESS.print(line, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def interrupted_by_all() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, unless they are ignored, as under nohup."""
    before = {number: signal.getsignal(number) for number in ENDING}
    heeded = [number for number in ENDING if before[number] is not signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C does now, even where that is ignored; another one does not end the ending."""
    for one in ENDING:
        signal.signal(one, signal.SIG_IGN)
    now = signal.getsignal(signal.SIGINT)
    (now if callable(now) else signal.default_int_handler)(number, frame)


def run_one(bench: Bench, part: str, options: Options) -> dict[str, Any]:
    """Run one part of a bench and return what is kept of it."""
    start = monotonic()
    taken = bench.options_of(part, options)
    lacking = bench.why_not()
    found = Part(missing=[lacking]) if lacking else bench.parts[part](taken)
    return run_of(found, taken, monotonic() - start)


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
