"""How much HTTP anybody gets: requests a minute, open connections, time to send and to take.

An address counts by itself (IPv4) or with its whole /64 (IPv6, where a /64 is one customer's). It
is that of the connection: what X-Forwarded-For says anybody can write.
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import cast

from cachetools import LRUCache

from dhtmeta.const import (
    HTTP_CONNECTIONS,
    HTTP_CONNECTIONS_EACH,
    QUOTA_NETWORKS,
    SLOW_CLIENT,
)

_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Retry-After: 10\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
)


def network_of(address: str) -> str:
    """Return what an IP address is counted as: itself, or its /64; IPv4 in IPv6 is IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


class Quota:
    """So many requests a minute for each network; who paused may send a minute's worth at once."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._left: LRUCache[str, tuple[float, float]] = LRUCache(QUOTA_NETWORKS)  # and since when

    def take(self, network: str, now: float) -> float:
        """Take one; returns 0, or the seconds until there will be one. `now` never goes back."""
        left, then = self._left.get(network, (float(self.per_minute), now))
        left = min(self.per_minute, left + (now - then) * self.per_minute / 60)
        taken = left >= 1
        self._left[network] = left - taken, now
        return 0.0 if taken else (1 - left) * 60 / self.per_minute


class Door:
    """Makes the protocols of connections that come in; the ones there are no room for are refused.

    `inside` makes the protocol that speaks HTTP, `now` gives monotonic seconds.
    """

    def __init__(
        self,
        inside: Callable[[], asyncio.Protocol],
        now: Callable[[], float],
        *,
        most: int = HTTP_CONNECTIONS,
        most_each: int = HTTP_CONNECTIONS_EACH,
    ) -> None:
        self.inside = inside
        self.now = now
        self.guests: set[_Guest] = set()
        self.refused = 0
        self._most, self._most_each = most, most_each
        self._each: Counter[str] = Counter()

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of one connection."""
        return _Guest(self)

    def enter(self, guest: "_Guest") -> bool:
        """Count a connection in, if there is room for it."""
        if len(self.guests) >= self._most or self._each[guest.network] >= self._most_each:
            self.refused += 1
            return False
        self.guests.add(guest)
        self._each[guest.network] += 1
        return True

    def leave(self, guest: "_Guest") -> None:
        """Count it out."""
        self.guests.discard(guest)
        self._each -= Counter([guest.network])  # and an address that has none is forgotten

    def drop_slow(self, now: float) -> None:
        """Cut off whoever has not taken what was sent for longer than a slow client would need."""
        for guest in list(self.guests):
            if guest.stuck_for(now) > SLOW_CLIENT:
                guest.cut_off()

    def close(self) -> None:
        """Cut off everybody."""
        for guest in list(self.guests):
            guest.cut_off()


class _Guest(asyncio.Protocol):
    """One connection: passes everything on, and knows since when the other side takes nothing."""

    network = ""
    _transport: asyncio.Transport
    _inside: asyncio.Protocol | None = None
    _stuck_since: float | None = None

    def __init__(self, door: Door) -> None:
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods
        peer = transport.get_extra_info("peername")
        self.network = network_of(peer[0]) if peer else ""  # none: it is gone already
        if not self._door.enter(self):
            self._transport.write(_REFUSAL)
            self._transport.close()
            return
        self._inside = self._door.inside()
        self._inside.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._inside is not None:
            self._door.leave(self)
            self._inside.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._inside is not None:
            self._inside.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._inside is None else self._inside.eof_received()

    def pause_writing(self) -> None:
        self._stuck_since = self._door.now()
        if self._inside is not None:
            self._inside.pause_writing()

    def resume_writing(self) -> None:
        self._stuck_since = None
        if self._inside is not None:
            self._inside.resume_writing()

    def stuck_for(self, now: float) -> float:
        """Return for how many seconds the buffer is full, or closed and not empty yet."""
        if self._stuck_since is None and self._transport.is_closing():
            self._stuck_since = now
        return 0.0 if self._stuck_since is None else now - self._stuck_since

    def cut_off(self) -> None:
        """End it, whatever is in its buffer."""
        self._transport.abort()
