"""The loop of all tests, which ends, and a test that does not: where it stands is told.

pytest-timeout's own signal does nothing to a test that waits: uvloop logs what a signal's handler
raises, and waits on; its other way, a thread, shows no tasks, which is where such a test stands. So
the process is ended here, by its hooks: a test that failed, by its name, under xdist too.
"""

import asyncio
import faulthandler
import os
import sys
import threading
import warnings
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


class _Loop(uvloop.Loop):
    """A loop that can be closed while something is open, as one not yet told of its end may be.

    uvloop warns of it in a callback of libuv; where warnings are errors, what is open then stays
    so, and `close` waits for it for ever.
    """

    terminal: TextIO  # a way out that nothing captures

    def close(self) -> None:
        """End, and tell what was open."""
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always", ResourceWarning)
            super().close()
        for one in left:
            print(f"\nat the end of its loop: {one.message}", file=self.terminal, flush=True)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every asyncio test on the loop that the package runs on."""
    return {"uvloop": _watched_loop}


def _watched_loop() -> asyncio.AbstractEventLoop:
    loop = _Loop()
    _loops.add(loop)
    return loop


def pytest_configure() -> None:
    """Keep a way out to the terminal."""
    assert sys.__stderr__ is not None
    _Loop.terminal = os.fdopen(os.dup(sys.__stderr__.fileno()), "w")


def pytest_timeout_set_timer(item: pytest.Item, settings: Settings) -> bool:
    """Give the test, with its fixtures, `settings.timeout` seconds."""
    item.stash[_timer] = _start(settings.timeout, item.nodeid)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """Let the test be: it has ended."""
    if (timer := item.stash.get(_timer, None)) is not None:
        timer.cancel()
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Give the end of the session a time, too."""
    _start(SESSION_END, "the end of the session")


def _start(seconds: float, what: str) -> threading.Timer:
    timer = threading.Timer(seconds, _end, (f"{what} did not end within {seconds:g} s",))
    timer.daemon = True
    timer.start()
    return timer


def _end(why: str) -> None:
    """Show all threads and tasks, and end the process."""
    terminal = _Loop.terminal
    try:
        print(f"\n{why}", file=terminal, flush=True)
        faulthandler.dump_traceback(terminal)
        for loop in list(_loops):
            for task in [] if loop.is_closed() else asyncio.all_tasks(loop):
                task.print_stack(file=terminal)
        terminal.flush()
    finally:
        os._exit(1)
