"""Who is registered: how many there may be, until when, and who may change what.

One entry for each key, renewed by that key alone. Where there is no room for another, it is the new
one who is refused: whoever is there stays until the lifetime that was agreed is over.
"""

import ipaddress
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dhtmeta.const import (
    MIN_LIFETIME,
    REGISTRY_ENTRIES,
    REGISTRY_PER_48,
    REGISTRY_PER_NETWORK,
    REGISTRY_SWEEP,
)
from dhtmeta.daemon.responses import Refused
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.item import SignedItem, better
from dhtmeta.values.record import NodeRecord
from dhtmeta.values.registration import Registration

_BITS = {4: (24,), 6: (64, 48)}  # of an address that are its networks


@dataclass(frozen=True, slots=True)
class Entry:
    """A node that registered: where it is (None: it does not say), and until when (s) it is here.

    `made_at` is that of the last nonce it used.
    """

    public_key: bytes
    topic: bytes
    endpoint: Endpoint | None
    is_relay: bool
    item: SignedItem | None
    record: NodeRecord | None
    networks: tuple[str, ...]
    expires: float
    made_at: int


class Entries:
    """All of them, at most `most`, and `per_network` in an IPv4 /24 or an IPv6 /64.

    `now` is in monotonic seconds; `refused` counts why new ones were not taken.
    """

    def __init__(
        self, most: int = REGISTRY_ENTRIES, per_network: int = REGISTRY_PER_NETWORK
    ) -> None:
        self._most, self._per_network = most, per_network
        self._held: dict[bytes, Entry] = {}
        self._each: Counter[str] = Counter()
        self._swept = float("-inf")
        self.refused: Counter[str] = Counter()
        self.registered = self.renewed = self.expired = 0

    def register(self, said: Registration, address: str, made_at: int, now: float) -> Entry:
        """Take what a key says that comes from an IP address, with a nonce of that time.

        Raises Refused: 409 for a nonce that is not newer than the last, 503 where there is no room.
        """
        self._sweep(now)
        held = self._held.get(said.public_key)
        if held is not None and made_at <= held.made_at:
            self.refused["replay"] += 1
            raise Refused(409, "nonce: this key has used it, or a later one; GET /nonce makes one")
        new = _entry(said, address, made_at, now, held)
        self._refuse_too_many(new, held)
        if held is None:
            self.registered += 1
        else:
            self.renewed += 1
            self._count_out(held)
        self._each.update(new.networks)
        self._held[new.public_key] = new
        return new

    def live(self, now: float) -> Iterator[Entry]:
        """Yield those whose lifetime is not over."""
        return (one for one in self._held.values() if one.expires > now)

    def sample(
        self,
        wanted: Callable[[Entry], bool],
        most: int,
        now: float,
        randomness: random.Random,
    ) -> list[Entry]:
        """Return up to `most` live ones that are wanted, drawn at random.

        Those that say where they are come first: who asks knows nobody yet.
        """
        found = [one for one in self.live(now) if wanted(one)]
        placed = [one for one in found if one.endpoint is not None]
        others = [one for one in found if one.endpoint is None]
        drawn = randomness.sample(placed, min(most, len(placed)))
        return drawn + randomness.sample(others, min(most - len(drawn), len(others)))

    def is_full(self, now: float) -> bool:
        """Whether there is no room for another, wherever it is."""
        self._sweep(now)
        return len(self._held) >= self._most

    def _refuse_too_many(self, new: Entry, held: Entry | None) -> None:
        if held is None and len(self._held) >= self._most:
            self.refused["full"] += 1
            raise Refused(503, "this registry is full; try another", retry_after=MIN_LIFETIME)
        for network in new.networks:
            if held is not None and network in held.networks:
                continue  # it is counted there
            most = self._per_network * (REGISTRY_PER_48 if network.endswith("/48") else 1)
            if self._each[network] >= most:
                self.refused["network"] += 1
                raise Refused(
                    503,
                    f"{network} has its {most} registrations here; try another registry",
                    retry_after=MIN_LIFETIME,
                )

    def _sweep(self, now: float) -> None:
        """Forget those whose lifetime is over, once in a while."""
        if now - self._swept < REGISTRY_SWEEP:
            return
        self._swept = now
        for one in [one for one in self._held.values() if one.expires <= now]:
            del self._held[one.public_key]
            self._count_out(one)
            self.expired += 1

    def _count_out(self, entry: Entry) -> None:
        for network in entry.networks:
            self._each[network] -= 1
            if not self._each[network]:
                del self._each[network]


def _entry(said: Registration, address: str, made_at: int, now: float, held: Entry | None) -> Entry:
    item, record = said.item, said.record
    kept = None if held is None else held.item
    if held is not None and kept is not None and item is not None and not better(kept, item):
        item, record = kept, held.record  # what came is an old copy: a seq never goes back
    return Entry(
        public_key=said.public_key,
        topic=said.topic,
        endpoint=None if said.port is None else (address, said.port),
        is_relay=said.is_relay,
        item=item,
        record=record,
        networks=_networks(address),
        expires=now + said.lifetime,
        made_at=made_at,
    )


def _networks(address: str) -> tuple[str, ...]:
    """Return what an address counts as; loopback as nothing: it is this machine, however many."""
    parsed = ipaddress.ip_address(address)
    if parsed.is_loopback:
        return ()
    return tuple(
        str(ipaddress.ip_network((address, bits), strict=False)) for bits in _BITS[parsed.version]
    )
