"""How a client is loaded: a closed loop, which waits for answers, and an open one, which does not.

Of each lookup two times are taken: to the first right value, and to its end, after which nothing
newer comes.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Self

from bench.load.bare import VALUE
from dhtmeta.errors import DhtmetaError

SEQ = 1  # of what is stored: the first of its key
Seconds = list[float | None]
OnFirst = Callable[[], None]
Query = Callable[[bytes, OnFirst], Awaitable[bool]]
"""Looks a key up, calls at the first right value, and says whether it was found to the end."""


@dataclass(slots=True)
class Times:
    """Seconds for each key in order, None where no right answer came in time."""

    first: Seconds
    end: Seconds

    @classmethod
    def of(cls, count: int) -> Self:
        """Return those of so many keys that nothing was heard of."""
        return cls([None] * count, [None] * count)

    def value(self, i: int, seconds: float) -> None:
        """Take a right value: the first counts."""
        if self.first[i] is None:
            self.first[i] = seconds


@dataclass(frozen=True, slots=True)
class Order:
    """One round: keys to look up, `window` in flight, until all are found or `limit` s are over.

    In an open loop lookups start at `at` (s) after `start` (monotonic s), a tick on stdin each,
    however many are in flight; the limit is counted from the last one's start.
    """

    keys: Sequence[bytes]
    window: int
    limit: float
    start: float = 0.0
    at: Sequence[float] = ()

    def said(self) -> dict[str, Any]:
        """Return what a client is told."""
        keys = [key.hex() for key in self.keys]
        rest = {"window": self.window, "limit": self.limit, "start": self.start}
        return {"keys": keys, "at": list(self.at), **rest}

    @classmethod
    def told(cls, said: dict[str, Any]) -> Self:
        """Return what was said."""
        return cls(**said | {"keys": [bytes.fromhex(key) for key in said["keys"]]})


def schedule(rate: float, count: int, seed: int) -> list[float]:
    """Return when so many lookups start, `rate` a second (Poisson): the same each time."""
    rng, at = Random(f"{seed} {rate}"), 0.0
    return [at := at + rng.expovariate(rate) for _ in range(count)]


def right(value: bytes, seq: int) -> bool:
    """Return whether it was found; a wrong answer ends everything."""
    assert (value, seq) in {(VALUE, SEQ), (b"", 0)}, f"a wrong answer: seq {seq}, {value!r}"
    return bool(value)


async def closed_loop(query: Query, order: Order) -> Times:
    """Keep `window` lookups in flight."""
    times = Times.of(len(order.keys))
    waiting = iter(enumerate(order.keys))

    async def work() -> None:
        for i, key in waiting:
            await _timed(query, key, times, i, time.monotonic())

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(order.limit):
            await asyncio.gather(*(work() for _ in range(order.window)))
    return times


async def open_loop(query: Query, order: Order, ticks: asyncio.StreamReader) -> Times:
    """Start a lookup at each tick; its time counts from when it should have started."""
    times = Times.of(len(order.keys))

    async def look_up(i: int) -> None:
        await _timed(query, order.keys[i], times, i, order.start + order.at[i])

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(left(order)), asyncio.TaskGroup() as group:
            for i in range(len(order.keys)):
                await ticks.readline()
                group.create_task(look_up(i))
    return times


def left(order: Order) -> float:
    """Return how long an open loop may still take."""
    return order.start + order.at[-1] + order.limit - time.monotonic()


async def _timed(query: Query, key: bytes, times: Times, i: int, since: float) -> None:
    with contextlib.suppress(DhtmetaError):
        if await query(key, lambda: times.value(i, time.monotonic() - since)):
            times.end[i] = time.monotonic() - since
