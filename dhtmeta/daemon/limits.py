"""Who may connect: how many connections there are, and how long they may take what was sent."""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import cast

from dhtmeta.const import (
    HTTP_CONNECTIONS,
    HTTP_CONNECTIONS_EACH,
    HTTP_CONNECTIONS_LOCAL,
    SLOW_CLIENT,
)
from dhtmeta.daemon.quotas import networks_of

_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Retry-After: 10\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
)


class Door:
    """Makes the protocols of connections that come in; the ones there are no room for are refused.

    `inside` makes the protocol that speaks HTTP, `now` gives monotonic seconds. Of the `most`
    there may be in all, `most_local` are for clients on this machine alone.
    """

    def __init__(
        self,
        inside: Callable[[], asyncio.Protocol],
        now: Callable[[], float],
        *,
        most: int = HTTP_CONNECTIONS,
        most_each: int = HTTP_CONNECTIONS_EACH,
        most_local: int = HTTP_CONNECTIONS_LOCAL,
    ) -> None:
        self.inside = inside
        self.now = now
        self.guests: set[_Guest] = set()
        self.refused = 0
        self._most, self._most_each, self._most_local = most, most_each, most_local
        self._each: Counter[str] = Counter()

    def __call__(self) -> "_Guest":
        """Return the protocol of one connection."""
        return _Guest(self)

    def enter(self, guest: "_Guest") -> bool:
        """Count a connection in, if there is room for it."""
        most = self._most if guest.is_local else self._most - self._most_local
        if len(self.guests) >= most or self._each[guest.network] >= self._most_each:
            self.refused += 1
            return False
        self.guests.add(guest)
        self._each[guest.network] += 1
        return True

    def leave(self, guest: "_Guest") -> None:
        """Count it out, if it was counted in."""
        if guest not in self.guests:
            return
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
    is_local = False
    _transport: asyncio.Transport | None = None
    _inside: asyncio.Protocol | None = None
    _stuck_since: float | None = None

    def __init__(self, door: Door) -> None:
        self._door = door

    def admit(self, address: str) -> bool:
        """Count in a connection from an IP address ("": it is gone already), if there is room."""
        if address:
            self.network = networks_of(address)[0]
            self.is_local = _is_loopback(address)
        return self._door.enter(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods
        peer = transport.get_extra_info("peername") or ("",)
        if self not in self._door.guests and not self.admit(peer[0]):
            self._transport.write(_REFUSAL)
            self._transport.close()
            return
        self._inside = self._door.inside()
        self._inside.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.leave(self)
        if self._inside is not None:
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
        if self._stuck_since is None and self._transport and self._transport.is_closing():
            self._stuck_since = now
        return 0.0 if self._stuck_since is None else now - self._stuck_since

    def cut_off(self) -> None:
        """End it, whatever is in its buffer."""
        if self._transport is not None:
            self._transport.abort()


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback
