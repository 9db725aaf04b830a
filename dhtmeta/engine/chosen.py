"""Which signed item a put stores, given what the network holds, where we choose the seq.

Whatever is chosen is in the ledger, on disk, before any node is sent it. Here lives what may be
published over what: never below a seq that anybody saw, never a second value under one.
"""

import logging
from collections.abc import Callable
from typing import Protocol

from dhtmeta.const import MAX_SEQ
from dhtmeta.errors import Conflict
from dhtmeta.store.ledger import Ledger, refusal
from dhtmeta.store.tables import Origin
from dhtmeta.values.item import SignedItem

log = logging.getLogger(__name__)


class Chosen(Protocol):
    """What is to be stored; `item` is None until it is known."""

    @property
    def item(self) -> SignedItem | None:
        """The item that was reserved last, or that was given."""

    async def prepare(self) -> None:
        """Do what can be done before anything is sent; Conflict if we know enough to refuse."""

    async def choose(self, newest: SignedItem | None) -> SignedItem:
        """Return what to store over `newest`, reserved; Conflict if that may not be."""


class Above:
    """A value that is signed above every seq known: those here, and that of the network.

    `sign` signs it under a seq, `ledger_seq` is the newest of ours, `floor` the highest ever seen.
    """

    def __init__(
        self,
        ledger: Ledger,
        sign: Callable[[int], SignedItem],
        ledger_seq: int | None,
        floor: int,
        cas: int | None = None,
    ) -> None:
        self.item: SignedItem | None = None
        self._ledger = ledger
        self._sign = sign
        self._ledger_seq = ledger_seq
        self._highest = max(ledger_seq or 0, floor)
        self._cas = cas

    async def prepare(self) -> None:
        """Have it reserved, unless `cas` makes that depend on what the network holds."""
        if self._cas is None:
            await self._reserved()

    async def _reserved(self) -> SignedItem:
        """Sign at the first seq that is free and have that on disk, or raise Conflict.

        The ledger refuses a seq where another process on this store was faster: then the next.
        """
        while self.item is None:
            item = self._sign(_next(self._highest))
            try:
                await self._ledger.reserve(item)
                self.item = item
            except Conflict as taken:
                self._highest = max(item.seq, taken.ledger_seq or 0)
        return self.item

    async def choose(self, newest: SignedItem | None) -> SignedItem:
        """Return what was reserved, or sign it anew above a network that is at or above it."""
        _refuse_unexpected(self._cas, newest)
        if newest is not None:
            self._overtake(newest.seq)
        return await self._reserved()

    def _overtake(self, seq: int) -> None:
        if self._ledger_seq is not None and seq > self._ledger_seq:
            log.warning(
                "seq %d on the network is above the ledger's %d: someone else publishes with this "
                "key, or the store is an old copy",
                seq,
                self._ledger_seq,
            )
        self._highest = max(self._highest, seq)
        if self.item is not None and self.item.seq <= seq:
            self.item = None


class Exact:
    """An item under the seq it has: stored as it is, or not at all.

    `floor` is the highest seq ever seen of its target.
    """

    def __init__(
        self,
        ledger: Ledger,
        item: SignedItem,
        floor: int,
        cas: int | None = None,
        origin: Origin = Origin.LOCAL,
    ) -> None:
        self.item = item
        self._ledger = ledger
        self._floor = floor
        self._origin = origin
        self._cas = cas

    async def prepare(self) -> None:
        """Raise Conflict if the ledger, or what was seen of the network, is above it."""
        entry = await self._ledger.newest(self.item.target)
        if entry is not None and not _may_follow(self.item, entry.item):
            raise refusal(self.item, entry.item)
        if self._floor > self.item.seq:
            raise Conflict(
                f"seq {self._floor} was seen on the network before, above {self.item.seq}: "
                f"readers who saw it, too, would refuse this one",
                entry.item.seq if entry else None,
                self._floor,
            )

    async def choose(self, newest: SignedItem | None) -> SignedItem:
        """Return the item, reserved, unless `newest` is above it or another value."""
        _refuse_unexpected(self._cas, newest)
        if newest is not None and not _may_follow(self.item, newest):
            what = "another value under" if newest.seq == self.item.seq else "the newer"
            raise Conflict(
                f"the network holds {what} seq {newest.seq}; nothing was sent", None, newest.seq
            )
        await self._ledger.reserve(self.item, origin=self._origin)
        return self.item


def _may_follow(item: SignedItem, held: SignedItem) -> bool:
    """Whether `item` may be stored where `held` is: above it, or once more the same value."""
    return item.seq > held.seq or (item.seq == held.seq and item.v == held.v)


def _refuse_unexpected(cas: int | None, newest: SignedItem | None) -> None:
    """Compare before we swap; where nothing is held, every `cas` is right (BEP 44)."""
    if cas is not None and newest is not None and newest.seq != cas:
        raise Conflict(
            f"the network holds seq {newest.seq}, not {cas} (cas); nothing was sent",
            None,
            newest.seq,
        )


def _next(seq: int) -> int:
    if seq >= MAX_SEQ:
        raise Conflict(
            "seq 2^63-1 is taken, and BEP 44 has none above it: use another salt or key", seq, seq
        )
    return seq + 1
