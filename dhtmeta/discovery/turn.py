"""Whether a TURN server runs where the operator says: it is asked for a binding (STUN, RFC 8489).

Only one that answers is told of in our record. Nothing is relayed by us.
"""

import asyncio
import secrets
import struct
from collections.abc import Callable

from dhtmeta.const import TURN_CHECK, TURN_TIMEOUT, TURN_TRIES
from dhtmeta.discovery.datagrams import open_datagrams
from dhtmeta.krpc.compact import Endpoint

_HEADER = struct.Struct("!HHI12s")  # type, length of the attributes, cookie, transaction id
_REQUEST, _SUCCESS, _COOKIE = 0x0001, 0x0101, 0x2112A442


class TurnWatch:
    """Asks the TURN server at `port` of this machine (UDP) while `run` runs.

    `answers` is whether it did the last time; `on_change` hears when that has changed. `host` gives
    the address to ask at.
    """

    def __init__(self, port: int, host: Callable[[], str | None]) -> None:
        self.port, self.answers = port, False
        self.on_change: Callable[[], None] = lambda: None
        self._host = host

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            host = self._host()
            answers = host is not None and await answers_binding((host, self.port))
            if answers != self.answers:
                self.answers = answers
                self.on_change()
            await asyncio.sleep(TURN_CHECK)


async def answers_binding(endpoint: Endpoint) -> bool:
    """Whether a STUN or TURN server at (ip, UDP port) answers, within a second."""
    question = _Question(asyncio.get_running_loop().create_future())
    try:
        transport = await open_datagrams(question, remote=endpoint)
    except OSError:
        return False
    try:
        for _ in range(TURN_TRIES):
            transport.sendto(question.request)
            if (await asyncio.wait([question.answered], timeout=TURN_TIMEOUT))[0]:
                return True
        return False
    finally:
        transport.close()


class _Question(asyncio.DatagramProtocol):
    """A binding request, and whether its success came back."""

    def __init__(self, answered: "asyncio.Future[None]") -> None:
        self.answered = answered
        self._transaction = secrets.token_bytes(12)
        self.request = _HEADER.pack(_REQUEST, 0, _COOKIE, self._transaction)

    def datagram_received(self, data: bytes, addr: object) -> None:
        if len(data) < _HEADER.size or self.answered.done():
            return
        kind, _, cookie, transaction = _HEADER.unpack_from(data)
        if (kind, cookie, transaction) == (_SUCCESS, _COOKIE, self._transaction):
            self.answered.set_result(None)

    def error_received(self, exc: Exception) -> None:
        """Leave a closed port to the timeout."""
