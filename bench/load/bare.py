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


class Heard(NamedTuple):
    """What was heard of a lookup: b"" and 0 where it found nothing; no more comes once it ended."""

    key: bytes
    value: bytes
    seq: int
    ended: bool


OnHeard = Callable[[Heard, float], None]
"""Takes what was heard, and how long after the lookup began (s)."""


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
        found: dict[bytes, bytes] = {}

        def on_heard(heard: Heard, seconds: float) -> None:
            if heard.ended:
                found[heard.key] = heard.value

        self.look_up(keys, on_heard)
        return found

    def look_up(
        self, keys: list[bytes], on_heard: OnHeard, window: int = WINDOW, limit: float = WAIT
    ) -> None:
        """Look all keys up, so many at once until they end; hand over what comes within `limit`."""
        asked: dict[bytes, float] = {}
        waiting, end, open_ = iter(keys), time.monotonic() + limit, len(keys)

        def ask(count: int) -> None:
            for key in islice(waiting, count):
                asked[key] = time.monotonic()
                self.session.dht_get_mutable_item(key, b"")

        ask(window)
        while open_ and (left := end - time.monotonic()) > 0:
            self.session.wait_for_alert(min(1000, 1 + int(1000 * left)))
            for heard in self._alerts():
                if heard.key in asked:  # else one of an earlier round
                    on_heard(heard, time.monotonic() - asked[heard.key])
                    open_ -= heard.ended
                    ask(heard.ended)

    def _alerts(self) -> Iterator[Heard]:
        """Yield what came of lookups since the last time."""
        for alert in self.session.pop_alerts():
            if isinstance(alert, lt.dht_mutable_item_alert):
                value: Any = alert.item
                yield Heard(alert.key, bytes(value), alert.seq, alert.authoritative)

    @contextlib.contextmanager
    def heard(self, on_heard: Callable[[Heard], None]) -> Iterator[Callable[[bytes], None]]:
        """Have the running loop hand over what comes; yields what begins a lookup."""
        loop = asyncio.get_running_loop()
        reading, writing = socket.socketpair()

        def on_alerts() -> None:
            reading.recv(4096)
            for heard in self._alerts():
                on_heard(heard)

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
