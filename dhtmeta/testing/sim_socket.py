"""The in-memory stand-in for the UDP socket of the direct carrier: a SimNet seen from one endpoint.

It has the same methods, and runs in whatever loop is running; on a SimLoop time is virtual.
"""

import asyncio
from collections.abc import Callable

from dhtmeta.krpc.compact import Endpoint
from dhtmeta.testing.simnet import SimNet

OnDatagrams = Callable[[list[tuple[bytes, Endpoint]]], None]
"""Takes datagrams that came in, each with who sent it."""


class SimSocket:
    """A socket at `endpoint`, where the nodes of `net` answer to."""

    def __init__(self, net: SimNet, endpoint: Endpoint) -> None:
        """Take the network, and the address and port under which its nodes see us."""
        self._net = net
        self.endpoint = endpoint
        self._on_datagrams: OnDatagrams | None = None

    def open(self, on_datagrams: OnDatagrams) -> None:
        """Give what comes in from now on to `on_datagrams`."""
        self._on_datagrams = on_datagrams

    def send(self, datagrams: list[tuple[bytes, Endpoint]]) -> None:
        """Send each datagram to its endpoint; what comes back comes in when it arrives."""
        if self._on_datagrams is None:
            return
        loop = asyncio.get_running_loop()
        for data, to in datagrams:
            for arrival, reply in self._net.ask(data, self.endpoint, to, loop.time()):
                loop.call_at(arrival, self._receive, reply, to)

    def close(self) -> None:
        """Let nothing in or out any more."""
        self._on_datagrams = None

    def _receive(self, data: bytes, source: Endpoint) -> None:
        if self._on_datagrams is not None:
            self._on_datagrams([(data, source)])
