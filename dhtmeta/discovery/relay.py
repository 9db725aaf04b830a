"""Our desk as a relay: who is attached, for how long, and how probes reach them.

Nothing but probes is passed on: no application traffic. A session belongs to the peer who proved
its key on the connection; it lasts SESSION_LIFETIME seconds unless it is renewed, and is held only
while that connection is open.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from dhtmeta.const import PROBES_PER_SECOND, SESSION_LIFETIME
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.link import Link
from dhtmeta.errors import DhtmetaError
from dhtmeta.krpc import exchange as wire


@dataclass(slots=True)
class Session:
    """A peer's session: its id, the connection it came over, and until when it lasts (loop s)."""

    id: bytes
    link: Link
    until: float
    probed_at: float = 0.0  # loop time from which on a probe is passed on again


class RelayDesk:
    """Grants sessions on `exchange` and passes probes on; `address` is where others reach us.

    `address` gives "ip:port", or None while we are no relay. At most `capacity` peers are attached.
    """

    def __init__(
        self, exchange: Exchange, address: Callable[[], str | None], capacity: int
    ) -> None:
        self.capacity = capacity
        self._address = address
        self.sessions: dict[bytes, Session] = {}  # by peer id
        self._tasks: set[asyncio.Task[None]] = set()
        exchange.on(wire.Ping, self._on_ping)
        exchange.on(wire.Attach, self._on_attach)
        exchange.on(wire.Held, self._on_held)
        self._exchange = exchange

    def held(self, peer_id: bytes) -> Session | None:
        """Return the session of a peer who can be probed now."""
        session = self.sessions.get(peer_id)
        now = asyncio.get_running_loop().time()
        return session if session and session.link.is_open and now < session.until else None

    @property
    def load(self) -> int:
        """How many peers are attached."""
        return sum(self.held(peer) is not None for peer in self.sessions)

    def _on_ping(self, link: Link, ping: wire.Ping) -> None:
        serving = self._address() is not None
        capacity = self.capacity if serving else 0
        link.say(wire.Pong(r=ping.r, sessions=self.load if serving else 0, capacity=capacity))

    def _on_attach(self, link: Link, attach: wire.Attach) -> None:
        address = self._address()
        if address is None:
            return link.say(wire.Refused(r=attach.r, why=b"this is no relay"))
        now = asyncio.get_running_loop().time()
        self._drop_over(now)
        held = self.sessions.get(link.peer_id)
        if held is None and len(self.sessions) >= self.capacity:
            return link.say(wire.Refused(r=attach.r, why=b"this relay is full"))
        same = held is not None and held.id == attach.id
        id_ = held.id if held is not None and same else secrets.token_hex(8).encode()
        self.sessions[link.peer_id] = Session(id_, link, now + SESSION_LIFETIME)
        return link.say(
            wire.Attached(r=attach.r, id=id_, lifetime=SESSION_LIFETIME, address=address.encode())
        )

    def _drop_over(self, now: float) -> None:
        """Forget sessions that are over, or whose connection is: they take no room."""
        for peer, one in list(self.sessions.items()):
            if now >= one.until or not one.link.is_open:
                del self.sessions[peer]

    def _on_held(self, link: Link, held: wire.Held) -> None:
        peers = [peer for peer in held.peers if self.held(peer) is not None]
        link.say(wire.Holding(r=held.r, peers=peers))

    # probes

    def on_probe(self, link: Link, probe: wire.Probe) -> None:
        """Pass a probe on to the attached peer it is for, and the answer back."""
        session = self.held(probe.p)
        now = asyncio.get_running_loop().time()
        if session is None:
            return link.say(wire.Refused(r=probe.r, why=b"no such peer is attached"))
        if now < session.probed_at:
            return link.say(wire.Refused(r=probe.r, why=b"this peer is probed too often"))
        session.probed_at = max(session.probed_at, now - 1) + 1 / PROBES_PER_SECOND
        task = asyncio.get_running_loop().create_task(self._pass_on(link, probe, session))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    async def _pass_on(self, link: Link, probe: wire.Probe, session: Session) -> None:
        try:
            probed = await session.link.request(
                lambda r: wire.Probe(r=r, p=probe.p, n=probe.n), wire.Probed, within=3.0
            )
        except DhtmetaError as error:
            link.say(wire.Refused(r=probe.r, why=str(error).encode()[:200]))
        else:
            link.say(wire.Probed(r=probe.r, sig=probed.sig, id=session.id))

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
