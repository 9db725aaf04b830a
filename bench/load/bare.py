"""A bare libtorrent session, the peer of our carriers: how it is driven, and what is looked up."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import libtorrent as lt

from dhtmeta.dht.address import parse_address
from dhtmeta.dht.session import settings
from dhtmeta.values.keys import Identity

WINDOW = 32  # in flight
WAIT = 60.0  # s
VALUE = b"v" * 600  # bytes, about a NodeRecord


class Found(NamedTuple):
    """What the end of a lookup said: b"" and 0 where it found nothing."""

    key: bytes
    value: bytes
    seq: int


class Bare:
    """A libtorrent session driven as directly as the binding allows: a blocking alert loop.

    `serve` is False for a read-only node (BEP 43).
    """

    def __init__(self, bootstrap: list[str], *, serve: bool = True) -> None:
        """Start it and let it know the same nodes as the carrier."""
        listen = ("127.0.0.1", 0)
        params = lt.session_params()
        params.settings = settings(  # type: ignore[assignment]
            listen, [], local=True, serve=serve
        )
        self.session: Any = lt.session(params)
        for address in bootstrap:
            self.session.add_dht_node(parse_address(address))

    def get(self, keys: list[bytes]) -> dict[bytes, bytes]:
        """Look all keys up, WINDOW at a time; return what was found."""
        return {found.key: found.value for found, _ in self.look_up(keys)}

    def look_up(
        self, keys: list[bytes], window: int = WINDOW, limit: float = WAIT
    ) -> list[tuple[Found, float]]:
        """Look all keys up; return what came of it within `limit`, and how long each took (s)."""
        asked: dict[bytes, float] = {}
        done: list[tuple[Found, float]] = []
        waiting, end = iter(keys), time.monotonic() + limit

        def ask(count: int) -> None:
            for key in islice(waiting, count):
                asked[key] = time.monotonic()
                self.session.dht_get_mutable_item(key, b"")

        ask(window)
        while len(done) < len(keys) and (left := end - time.monotonic()) > 0:
            self.session.wait_for_alert(min(1000, 1 + int(1000 * left)))
            for found in self._ended():
                if found.key in asked:  # else one of an earlier round
                    done.append((found, time.monotonic() - asked[found.key]))
                    ask(1)
        return done

    def _ended(self) -> Iterator[Found]:
        """Yield the lookups that ended."""
        for alert in self.session.pop_alerts():
            if isinstance(alert, lt.dht_mutable_item_alert) and alert.authoritative:
                value: Any = alert.item
                yield Found(alert.key, bytes(value), alert.seq)

    @contextlib.contextmanager
    def heard(self, on_ended: Callable[[Found], None]) -> Iterator[Callable[[bytes], None]]:
        """Have the running loop hand over what ends; yields what begins a lookup."""
        loop = asyncio.get_running_loop()
        reading, writing = socket.socketpair()

        def on_alerts() -> None:
            reading.recv(4096)
            for found in self._ended():
                on_ended(found)

        with reading, writing:
            reading.setblocking(False)
            writing.setblocking(False)
            loop.add_reader(reading, on_alerts)
            self.session.set_alert_fd(writing.fileno())
            try:
                yield lambda key: self.session.dht_get_mutable_item(key, b"")
            finally:
                self.session.set_alert_fd(-1)
                loop.remove_reader(reading)

    def put(self, identities: list[Identity]) -> dict[bytes, int]:
        """Store VALUE under all identities, WINDOW at a time; return how many nodes accepted."""
        accepted: dict[bytes, int] = {}
        waiting = iter(identities)
        for one in islice(waiting, WINDOW):
            self._put(one)
        while len(accepted) < len(identities):
            self.session.wait_for_alert(1000)
            for alert in self.session.pop_alerts():
                if isinstance(alert, lt.dht_put_alert):
                    accepted[alert.public_key] = alert.num_success
                    if (one_more := next(waiting, None)) is not None:
                        self._put(one_more)
        return accepted

    def _put(self, identity: Identity) -> None:
        self.session.dht_put_mutable_item(identity.expanded(), identity.public_key, VALUE, b"")
