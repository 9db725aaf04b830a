"""An asyncio loop on virtual time: what time it is, when it jumps, and when it waits for threads.

Time starts at 0 and moves only when nothing is ready: then it jumps to the next timer. Where there
is no timer either, nothing can ever happen and the run ends with an error instead of hanging.
Threads live in real time, so the loop must know of work that one of them does for it: while there
is any, it waits for the thread and time stands still. run_in_executor and getaddrinfo say so
themselves; for other threads use `real_work`, or `in_real_time` for all calls of some methods:

    with in_real_time(aiosqlite.Connection, "_connect", "_execute", "close"): ...

Sockets do not work here; SimSocket stands in for the UDP socket.
"""

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack
from unittest import mock

T = TypeVar("T")
Args = TypeVarTuple("Args")


class NothingLeft(RuntimeError):
    """Everybody waits for something that nobody will do: a defect of what runs in the loop."""

    def __init__(self) -> None:
        super().__init__(
            "nothing is scheduled and everything waits: virtual time would stand still forever"
            " (if a thread is at work, wrap the wait in loop.real_work())"
        )


class _Selector(selectors.DefaultSelector):
    """A selector that never waits but for threads: it moves the time instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.outstanding = 0  # pieces of work that threads do

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; `timeout` says in how many seconds the next timer is due."""
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.outstanding:
            return list(super().select(None))
        if timeout is None:
            raise NothingLeft
        self.now += timeout
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` is virtual. One cannot be used by two threads."""

    def __init__(self) -> None:
        """Start at 0 seconds."""
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual.now

    @contextlib.contextmanager
    def real_work(self) -> Iterator[None]:
        """Let time stand still while a thread works for us: `with loop.real_work(): await ...`."""
        self._virtual.outstanding += 1
        try:
            yield
        finally:
            self._virtual.outstanding -= 1

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[Args]], T],
        *args: *Args,
    ) -> asyncio.Future[T]:
        """Run a function in a thread; time stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._virtual.outstanding += 1
        future.add_done_callback(self._done)
        return future

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - as asyncio has it since 3.12
    ) -> None:
        """Wait for the threads of run_in_executor to end, however long that takes."""
        with self.real_work():
            await super().shutdown_default_executor()

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._virtual.outstanding -= 1


@contextlib.contextmanager
def in_real_time(owner: type, *names: str) -> Iterator[None]:
    """Let time stand still in a SimLoop while one of these async methods of `owner` runs."""
    with contextlib.ExitStack() as patches:
        for name in names:
            held = _held(getattr(owner, name))
            patches.enter_context(mock.patch.object(owner, name, held))
        yield


def _held(method: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., Coroutine[Any, Any, T]]:
    async def held(*args: Any, **kwargs: Any) -> T:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, SimLoop):
            return await method(*args, **kwargs)
        with loop.real_work():
            return await method(*args, **kwargs)

    return held


def sim_run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a SimLoop of its own, as asyncio.run does."""
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(main)
