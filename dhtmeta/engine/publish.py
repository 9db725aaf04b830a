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
from dhtmeta.errors import Conflict
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
        carrier = self._carrier()
        v = self.encode(identity, record, wrapped=carrier.strings_only)
        target = ed25519.target(identity.public_key, salt)
        await self._refuse_to_fall(target, identity, salt, deadline)
        outcome = await carrier.put(identity, v, salt, deadline)
        await self._write_down(target, outcome.item, outcome.accepted)
        return Published(outcome.item, outcome.accepted)

    def encode(self, identity: Identity, record: "NodeRecord | Value", *, wrapped: bool) -> bytes:
        """Return the raw v, at most 1,000 bytes; `wrapped` puts whatever is no string into one."""
        if isinstance(record, NodeRecord):
            record = record.completed(identity.public_key, int(self._clock())).to_value()
        return encode_value(wrap(record) if wrapped else record)

    async def _refuse_to_fall(
        self, target: bytes, identity: Identity, salt: bytes, deadline: float
    ) -> None:
        entry = await self._ledger.newest(target)
        if entry is None:
            return
        on_network = await self._network_seq(identity.public_key, salt, entry.item.seq, deadline)
        if on_network is None or on_network < entry.item.seq:
            seen = "nothing" if on_network is None else f"seq {on_network}"
            raise Conflict(
                f"the ledger says seq {entry.item.seq} was published, the network holds {seen}: "
                f"libtorrent would restart below it and readers would refuse that. If this is "
                f"another network, use another --store; else try again when copies are found",
                entry.item.seq,
                on_network,
            )
        if on_network > entry.item.seq:
            log.warning(
                "seq %d on the network is above the ledger's %d: someone else publishes with this "
                "key, or the store is an old copy",
                on_network,
                entry.item.seq,
            )

    async def _network_seq(
        self, public_key: bytes, salt: bytes, wanted: int, deadline: float
    ) -> int | None:
        """Return the highest seq found, or at once one that is not below `wanted`."""
        enough: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def on_item(item: SignedItem) -> None:
            if item.seq >= wanted and not enough.done():
                enough.set_result(item.seq)

        lookup = asyncio.ensure_future(self._carrier().get(public_key, salt, on_item, deadline))
        both: list[asyncio.Future[Any]] = [enough, lookup]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if enough.done():
            lookup.cancel()
            return enough.result()
        item = (await lookup).item
        return None if item is None else item.seq

    async def _write_down(self, target: bytes, item: SignedItem, accepted: int) -> None:
        now = self._clock()
        self._cache.forget(target)
        self._cache.raise_floor(target, item.seq, now)
        await self._ledger.confirm(item, accepted, now + self._interval, now)
