"""Which records are worked on, in which order, how fast, and what happens when that fails.

Due records come from the ledger page by page, in the order of their due times and, within a page,
of their targets. Our own NodeRecord is signed anew (`resign`), all else is looked at and topped up
(`keepalive`). Nothing about this is in memory alone: after a crash what was due is due still.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice

from cachetools import LRUCache

from dhtmeta.const import (
    BUSY_TIMEOUT,
    DUE_AHEAD,
    DUE_PAGE,
    FAILURES_KEPT,
    IDLE_POLL,
    KEPT_AT_ONCE,
    LOOK_DATAGRAMS,
    NOTE_INTERVAL,
    READY_DEADLINE,
    RETRY_FIRST,
    RETRY_LAST,
    STORE_RETRY,
    WRITE_BEHIND_BUSY,
)
from dhtmeta.dht.carrier import Carrier
from dhtmeta.engine.look import Keeper
from dhtmeta.engine.pace import Pace
from dhtmeta.errors import DhtmetaError, NetworkUnreachable, StoreError
from dhtmeta.store.due import Looked
from dhtmeta.store.entry import LedgerEntry
from dhtmeta.store.ledger import Ledger

log = logging.getLogger(__name__)

Resign = Callable[[LedgerEntry], Awaitable[bool]]
"""Publishes a record of ours anew and returns True, or returns False where it is not ours."""


class Republisher:
    """Keeps alive what the ledger says is to be kept. `clock` gives Unix seconds."""

    def __init__(
        self,
        ledger: Ledger,
        keeper: Keeper,
        resign: Resign,
        carrier: Callable[[], Carrier],
        clock: Callable[[], float],
        packets_per_second: float,
        ahead: float = DUE_AHEAD,
    ) -> None:
        """Take how early (s) a record may be worked on, so that several are at once."""
        self.pace = Pace(packets_per_second, LOOK_DATAGRAMS)
        self.done = 0  # records worked on since the start, well or not
        self._ledger = ledger
        self._keeper = keeper
        self._resign = resign
        self._carrier = carrier
        self._clock = clock
        self._ahead = ahead
        self._slots = asyncio.Semaphore(KEPT_AT_ONCE)
        self._tasks: dict[bytes, asyncio.Task[None]] = {}  # by target
        self._looked: dict[bytes, Looked] = {}  # by target; not written down yet
        self._failures: LRUCache[bytes, int] = LRUCache(FAILURES_KEPT)  # in a row, by target

    async def run(self) -> None:
        """Keep all records alive until cancelled."""
        try:
            while True:
                await self._sweep_well()
                await asyncio.sleep(await self._rest())
        finally:
            await self._stop()

    async def run_once(self) -> int:
        """Work on all that is due now, once; returns how many records that were.

        Raises NetworkUnreachable where no node answers, StoreError.
        """
        before = self.done
        try:
            await self._carrier().ready(READY_DEADLINE)
            await self._sweep(self._clock())
        finally:
            await self._stop()
        return self.done - before

    async def _sweep_well(self) -> None:
        """Sweep once; whatever goes wrong waits for the next time, and is never fatal."""
        try:
            if self._ledger.failure is not None:
                return  # the store says itself when it takes writes again
            due = await self._ledger.next_due()
            if due is not None and due <= self._clock() + self._ahead:
                await self._online()
                await self._sweep(self._clock() + self._ahead)
        except StoreError as error:
            log.warning("kept records wait for the store: %s", error)
            await asyncio.sleep(STORE_RETRY)
        except DhtmetaError as error:
            log.warning("kept records wait: %s", error)
        except Exception:
            log.exception("unexpected, while records were kept alive")

    async def _online(self) -> None:
        """Return once the network is there; the carrier goes on trying meanwhile."""
        told = False
        while True:
            try:
                return await self._carrier().ready(READY_DEADLINE)
            except NetworkUnreachable as error:
                if not told:
                    log.warning("kept records wait for the network: %s", error)
                told = True
                await asyncio.sleep(1.0)

    async def _sweep(self, before: float) -> None:
        """Work on all that is due by then (Unix s), and have written down how it went."""
        after: tuple[float, bytes] | None = None
        noting = asyncio.create_task(self._note_regularly())
        try:
            while True:
                page = await self._ledger.due(before, DUE_PAGE, after)
                for target, why in page.damaged:
                    await self._set_aside(target, why)
                for entry in sorted(page.entries, key=lambda one: one.item.target):
                    if self._is_to_do(entry, before):
                        await self._begin(entry)
                after = page.after
                if after is None or len(self._looked) >= DUE_PAGE:  # more than can be written
                    break
            await asyncio.gather(*self._tasks.values())
        finally:
            noting.cancel()
            with suppress(asyncio.CancelledError):
                await noting
        await self._note()

    async def _set_aside(self, target: bytes, why: str) -> None:
        log.error(
            "the ledger row of target %s is damaged, so it is not kept: %s", target.hex(), why
        )
        await self._ledger.set_aside(target, why)

    def _is_to_do(self, entry: LedgerEntry, before: float) -> bool:
        """Whether it is neither under way, nor done and only to be written down."""
        target = entry.item.target
        looked = self._looked.get(target)
        done = looked is not None and looked.seq == entry.item.seq and looked.next_due > before
        return not done and target not in self._tasks

    async def _begin(self, entry: LedgerEntry) -> None:
        """Start the work on one record when it is its turn.

        NetworkUnreachable ends the sweep: else all that is due would fail, one by one.
        """
        await self.pace.begin()
        await self._slots.acquire()
        try:
            await self._carrier().ready(READY_DEADLINE)
        except BaseException:
            self._slots.release()
            raise
        task = self._tasks[entry.item.target] = asyncio.create_task(self._work(entry))
        task.add_done_callback(lambda _: self._ended(entry.item.target))

    def _ended(self, target: bytes) -> None:
        del self._tasks[target]
        self._slots.release()

    async def _work(self, entry: LedgerEntry) -> None:
        """Sign anew or look, and keep in mind what to write down; fails only in the log."""
        try:
            if await self._resign(entry):
                self._failures.pop(entry.item.target, None)
            else:
                looked, sent = await self._keeper.look(entry)
                self.pace.end(sent)
                self._failures.pop(entry.item.target, None)
                if looked is not None:
                    self._looked[looked.target] = looked
        except (NetworkUnreachable, StoreError) as error:
            log.debug("target %s stays due: %s", entry.item.target.hex(), error)
        except DhtmetaError as error:
            self._retry(entry, error)
        except Exception as error:
            log.exception("unexpected, while target %s was kept", entry.item.target.hex())
            self._retry(entry, error)
        self.done += 1

    def _retry(self, entry: LedgerEntry, error: Exception) -> None:
        """Try again later, ever later; the copies that were there are probably there still.

        What is due is worked on so much ahead, and yet this shall not be before its time.
        """
        self._keeper.counts.looks_failed += 1
        target = entry.item.target
        failures = self._failures.get(target, 0)
        self._failures[target] = failures + 1
        wait = min(RETRY_FIRST * 2 ** min(failures, 10), RETRY_LAST)  # 2**1024 is no float
        log.info("target %s is tried again in %.0f s: %s", target.hex(), wait, error)
        self._looked[target] = Looked(
            target=target,
            seq=entry.item.seq,
            copies=entry.copies,
            holders=entry.holders,
            next_due=self._clock() + self._ahead + wait,
            last_ok=None,
            last_error=str(error) or repr(error),
        )

    async def _note_regularly(self) -> None:
        while True:
            await asyncio.sleep(NOTE_INTERVAL)
            with suppress(StoreError):
                await self._note()

    async def _note(self, busy: float = BUSY_TIMEOUT) -> None:
        """Write down how it went, in batches; what cannot be written stays in mind."""
        while batch := list(islice(self._looked.values(), DUE_PAGE)):
            await self._ledger.note(batch, busy)
            for one in batch:
                if self._looked.get(one.target) is one:
                    del self._looked[one.target]

    async def _rest(self) -> float:
        """Return for how long (s) nothing is due; what failed and stays due waits, too."""
        with suppress(StoreError):
            due = await self._ledger.next_due()
            if due is not None:
                return min(max(due - self._clock() - self._ahead / 2, STORE_RETRY), IDLE_POLL)
        return IDLE_POLL

    async def _stop(self) -> None:
        """Give up what is under way, and write down what is done."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(StoreError):
            await self._note(WRITE_BEHIND_BUSY)
