"""The loop of all tests, and a test that does not end: where it stands is told, its process ends.

pytest-timeout's own signal does nothing to a test that waits: uvloop logs what a signal's handler
raises, and waits on. A process that ends is a test that failed, by its name, under xdist too.
"""

import asyncio
import faulthandler
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Protocol, TextIO

import pytest
import uvloop

SESSION_END = 120.0  # s for what is left to do after the last test


class Settings(Protocol):
    """What pytest-timeout was told for one test."""

    timeout: float  # s


_loops: "weakref.WeakSet[asyncio.AbstractEventLoop]" = weakref.WeakSet()
_timer = pytest.StashKey[threading.Timer]()
_stderr = pytest.StashKey[TextIO]()


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every asyncio test on the loop that the package runs on."""
    return {"uvloop": _watched_loop}


def _watched_loop() -> asyncio.AbstractEventLoop:
    loop = uvloop.new_event_loop()
    _loops.add(loop)
    return loop


def pytest_configure(config: pytest.Config) -> None:
    """Keep a way out to the terminal, which nothing captures."""
    assert sys.__stderr__ is not None
    config.stash[_stderr] = os.fdopen(os.dup(sys.__stderr__.fileno()), "w")


def pytest_timeout_set_timer(item: pytest.Item, settings: Settings) -> bool:
    """Give the test, with its fixtures, `settings.timeout` seconds."""
    item.stash[_timer] = _start(item.config, settings.timeout, item.nodeid)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """Let the test be: it has ended."""
    if (timer := item.stash.get(_timer, None)) is not None:
        timer.cancel()
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give the end of the session a time, too."""
    _start(session.config, SESSION_END, "the end of the session")


def _start(config: pytest.Config, seconds: float, what: str) -> threading.Timer:
    out = config.stash[_stderr]
    timer = threading.Timer(seconds, _end, (out, f"{what} did not end within {seconds:g} s"))
    timer.daemon = True
    timer.start()
    return timer


def _end(out: TextIO, why: str) -> None:
    """Show all threads and tasks, and end the process."""
    try:
        print(f"\n{why}", file=out, flush=True)
        faulthandler.dump_traceback(out)
        for loop in list(_loops):
            for task in [] if loop.is_closed() else asyncio.all_tasks(loop):
                task.print_stack(file=out)
        out.flush()
    finally:
        os._exit(1)
