"""How a record is published: checked, kept above the ledger's seq, stored, and written down.

With the libtorrent carrier libtorrent chooses the seq (network + 1), so a publish looks first
and refuses where the ledger is above the network: going on would lower the seq.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dhtmeta._fast import ed25519
from dhtmeta._fast.bencode import Value
from dhtmeta.const import PUT_DEADLINE, REPUBLISH_INTERVAL
from dhtmeta.dht.carrier import Carrier
from dhtmeta.engine.cache import RecordCache
from dhtmeta.errors import Conflict, DeadlineExceeded, StoreError
from dhtmeta.store.ledger import Ledger
from dhtmeta.values.item import SignedItem, check_salt, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NodeRecord
from dhtmeta.values.wrapping import wrap

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """The item as it is stored, and how many nodes accepted it."""

    item: SignedItem
    accepted: int


class Publisher:
    """Publishes under identities whose private key we hold. `clock` gives Unix seconds."""

    def __init__(
        self,
        cache: RecordCache,
        ledger: Ledger,
        carrier: Callable[[], Carrier],
        clock: Callable[[], float],
        republish_interval: float = REPUBLISH_INTERVAL,
    ) -> None:
        self._cache = cache
        self._ledger = ledger
        self._carrier = carrier
        self._clock = clock
        self._interval = republish_interval

    async def publish(
        self,
        identity: Identity,
        record: "NodeRecord | Value",
        salt: bytes = b"",
        deadline: float = PUT_DEADLINE,
    ) -> Published:
        """Publish a NodeRecord (peer_id and timestamp are filled in) or any bencodable value.

        Raises ValueTooLarge, InvalidRecord, InvalidSalt before anything is sent; Conflict where
        the ledger is above the network; NotStored, NetworkUnreachable, DeadlineExceeded.
        """
        check_salt(salt)
        end = asyncio.get_running_loop().time() + deadline
        carrier = self._carrier()
        v = self.encode(identity, record, wrapped=carrier.signs_itself)
        target = ed25519.target(identity.public_key, salt)
        published = await self._ledger.newest(target)
        if published is not None:
            await self._refuse_to_fall(published.item, deadline)
        left = max(0.0, end - asyncio.get_running_loop().time())
        outcome = await carrier.put(identity, v, salt, left)
        if published is not None and outcome.item.seq <= published.item.seq:
            raise Conflict(
                f"the last copies went away in between: libtorrent stored seq {outcome.item.seq}, "
                f"below seq {published.item.seq} of the ledger, so that readers will refuse it",
                published.item.seq,
                outcome.item.seq,
            )
        await self._write_down(target, outcome.item, outcome.accepted)
        return Published(outcome.item, outcome.accepted)

    def encode(self, identity: Identity, record: "NodeRecord | Value", *, wrapped: bool) -> bytes:
        """Return the raw v, at most 1,000 bytes; `wrapped` puts whatever is no string into one."""
        if isinstance(record, NodeRecord):
            record = record.completed(identity.public_key, int(self._clock())).to_value()
        return encode_value(wrap(record) if wrapped else record)

    async def _refuse_to_fall(self, published: SignedItem, deadline: float) -> None:
        """Raise Conflict if the network is below what we published before."""
        on_network = await self._network_seq(published, deadline)
        if on_network is None or on_network < published.seq:
            seen = "nothing" if on_network is None else f"seq {on_network}"
            raise Conflict(
                f"the ledger says seq {published.seq} was published, the network holds {seen}: "
                f"libtorrent would restart below it and readers would refuse that. If this is "
                f"another network, use another --store; else try again when copies are found",
                published.seq,
                on_network,
            )
        if on_network > published.seq:
            log.warning(
                "seq %d on the network is above the ledger's %d: someone else publishes with this "
                "key, or the store is an old copy",
                on_network,
                published.seq,
            )

    async def _network_seq(self, published: SignedItem, deadline: float) -> int | None:
        """Return the highest seq found, or at once one that is not below `published`."""
        enough: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def on_item(item: SignedItem) -> None:
            if item.seq >= published.seq and not enough.done():
                enough.set_result(item.seq)

        key, salt = published.public_key, published.salt
        lookup = asyncio.ensure_future(self._carrier().get(key, salt, on_item, deadline))
        both: list[asyncio.Future[Any]] = [enough, lookup]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lookup.cancel()
        if enough.done():
            return enough.result()
        outcome = lookup.result()
        if not outcome.converged:
            raise DeadlineExceeded(f"the look before the put took more than {deadline:g} s")
        return None if outcome.item is None else outcome.item.seq

    async def _write_down(self, target: bytes, item: SignedItem, accepted: int) -> None:
        now = self._clock()
        self._cache.forget(target)
        self._cache.raise_floor(target, item.seq, now)
        try:
            await self._ledger.confirm(item, accepted, now + self._interval, now)
        except StoreError as error:
            raise StoreError(
                f"seq {item.seq} is on {accepted} nodes, but could not be noted: {error}"
            ) from error
