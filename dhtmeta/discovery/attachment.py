"""How we stay reachable behind a NAT: which relay we attach to, until when, and what comes then.

Relays are measured side by side: the best round trip wins, and of those that are as good the one
with the least load. When the session is lost, or its renewal fails, another one is taken at once.
Records can name any number of relays there are not: those that failed come last, and one of those
measured is any, so that nobody's ranking keeps us from the rest.
"""

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from dhtmeta.const import (
    RELAY_CANDIDATES,
    RELAY_FAILED_FOR,
    RELAY_FAILED_LAST,
    RELAY_GRACE,
    RELAY_RETRY,
    RELAY_RETRY_LAST,
    RELAY_TIE,
    RELAYS_FAILED,
    SESSION_RENEWAL,
)
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.proof import probe_bytes
from dhtmeta.errors import DhtmetaError, RemoteError
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.record import format_endpoint, split_endpoint

log = logging.getLogger(__name__)

Find = Callable[[], AsyncGenerator[Sequence[Endpoint], None]]
"""Yields where relays' exchanges may be, a few at a time, the cheapest to find first."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that we hold: at which relay, its id, and where others reach that relay."""

    link: Link
    id: bytes
    address: str


@dataclass(frozen=True, slots=True)
class _Measured:
    """A relay that answered: its round trip (s), and which share of its room is taken."""

    link: Link
    round_trip: float
    load: float

    def rank(self) -> tuple[int, float]:
        """Return what to sort by: best first."""
        return round(self.round_trip / RELAY_TIE), self.load


class Attachment:
    """Attaches us to a relay while `run` runs.

    `session` is the one that is held, None while there is none; `on_change` hears of each change.
    """

    def __init__(self, exchange: Exchange, find: Find, rng: random.Random) -> None:
        self.session: Session | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._exchange, self._find, self._rng = exchange, find, rng
        # until when a relay is not chosen (loop time), and how long that is (s)
        self._failed: LRUCache[Endpoint, tuple[float, float]] = LRUCache(RELAYS_FAILED)
        self._lost = asyncio.Event()
        self._heard = asyncio.Event()  # of another relay
        self.without_since = math.inf  # loop time, while one is looked for and there is none
        exchange.on_close.append(self._on_close)

    async def run(self) -> None:
        """Be attached, until cancelled."""
        wait = RELAY_RETRY
        self.without_since = asyncio.get_running_loop().time()
        try:
            while True:
                self._heard.clear()
                if await self._search():
                    wait = RELAY_RETRY
                    await self._stay()
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait * self._rng.uniform(0.7, 1.0)):
                            await self._heard.wait()
                    wait = min(2 * wait, RELAY_RETRY_LAST)
        finally:
            self.without_since = math.inf
            self._hold(None)

    def heard(self) -> None:
        """Look again: another relay is known."""
        self._heard.set()

    def _hold(self, session: Session | None) -> None:
        before, self.session = self.session, session
        if (before and (before.id, before.address)) != (session and (session.id, session.address)):
            self.on_change()

    async def _search(self) -> bool:
        """Attach to a relay; a bug of ours, or of a source, does not end the search."""
        try:
            return await self._attach()
        except Exception:
            log.exception("unexpected, while a relay was looked for")
            return False

    async def _attach(self) -> bool:
        """Attach to the best relay that takes us; False where there is none."""
        async with contextlib.aclosing(self._find()) as finding:
            async for some in finding:
                if await self._attach_to(await self._measure(self._chosen(some))):
                    return True
        return False

    def _chosen(self, found: Sequence[Endpoint]) -> list[Endpoint]:
        """Return which to measure: the first that failed least, and any one of the others."""
        now = asyncio.get_running_loop().time()
        last = {one: self._failed.get(one, (0.0, 0.0)) for one in found}
        free = sorted((one for one in last if now >= last[one][0]), key=lambda one: last[one][1])
        best, others = free[: RELAY_CANDIDATES - 1], free[RELAY_CANDIDATES - 1 :]
        return best + ([self._rng.choice(others)] if others else [])

    def _count(self, endpoint: Endpoint) -> None:
        """Have a relay that failed wait: twice as long as before, unless it may be our network."""
        _, waited = self._failed.get(endpoint, (0.0, 0.0))
        longer = 2 * waited if self._exchange.links else waited
        wait = min(max(longer, RELAY_FAILED_FOR), RELAY_FAILED_LAST)
        self._failed[endpoint] = (asyncio.get_running_loop().time() + wait, wait)

    async def _attach_to(self, relays: Sequence[_Measured]) -> bool:
        for relay in sorted(relays, key=_Measured.rank):
            try:
                self._hold(await self._ask(relay.link, b""))
            except DhtmetaError as error:
                log.debug("relay %s does not take us: %s", relay.link.remote, error)
                self._count(relay.link.remote)
            else:
                self._failed.pop(relay.link.remote, None)
                log.info("attached to relay %s", relay.link.peer_id.hex())
                return True
        return False

    async def _measure(self, endpoints: Sequence[Endpoint]) -> list[_Measured]:
        """Ask them all at once; who is slower than the first by much is left out."""
        asking = {asyncio.create_task(self._try(one)) for one in endpoints}
        measured: list[_Measured] = []
        left: float | None = None
        try:
            while asking:
                done, asking = await asyncio.wait(
                    asking, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                measured += [one for task in done if (one := task.result()) is not None]
                if not done:
                    break
                left = RELAY_GRACE if measured else None
        finally:
            for task in asking:
                task.cancel()
        return measured

    async def _try(self, endpoint: Endpoint) -> _Measured | None:
        """Measure one; None where it does not answer, or is no relay with room for us."""
        try:
            link = self._linked(endpoint) or await self._exchange.dial(endpoint)
            pong = await link.measure()
        except DhtmetaError:
            self._count(endpoint)
            return None
        if pong.sessions >= pong.capacity:
            return None
        return _Measured(link, link.round_trip, pong.sessions / pong.capacity)

    def _linked(self, endpoint: Endpoint) -> Link | None:
        return next((one for one in self._exchange.links if one.remote == endpoint), None)

    async def _ask(self, link: Link, session: bytes) -> Session:
        """Ask for a session, or to renew that one; a DhtmetaError where there is none."""
        said = await link.request(lambda r: wire.Attach(r=r, id=session), wire.Attached)
        address = said.address.decode("ascii", "replace")
        try:
            address = format_endpoint(split_endpoint(address))  # it goes into our record
        except ValueError as error:
            raise RemoteError(f"the relay says it is at {address!r}") from error
        if not said.id.isascii() or not said.id.strip() or not said.id.decode().isprintable():
            raise RemoteError(f"the relay calls the session {said.id!r}")
        return Session(link, said.id, address)

    async def _stay(self) -> None:
        """Renew the session until it is lost."""
        while self.session is not None:
            self._lost.clear()
            if not self.session.link.is_open:  # it closed right after it had answered
                return self._fail(self.session)
            try:
                async with asyncio.timeout(SESSION_RENEWAL):
                    await self._lost.wait()
            except TimeoutError:
                await self._renew(self.session)
            else:
                self._fail(self.session)
        return None

    async def _renew(self, session: Session) -> None:
        try:
            self._hold(await self._ask(session.link, session.id))
        except DhtmetaError as error:
            log.warning("relay %s: %s", session.link.peer_id.hex(), error)
            self._fail(session)

    def _fail(self, session: Session) -> None:
        """Give a relay up; what others are told of it changes once there is another."""
        log.info("relay %s is lost", session.link.peer_id.hex())
        self._count(session.link.remote)
        self.without_since = asyncio.get_running_loop().time()
        self.session = None

    def _on_close(self, link: Link) -> None:
        if self.session is not None and self.session.link is link:
            self._lost.set()

    # probes

    def on_probe(self, link: Link, probe: wire.Probe) -> None:
        """Answer a probe that came through our relay."""
        session, own = self.session, self._exchange.identity()
        if session is None or session.link is not link:
            return link.say(wire.Refused(r=probe.r, why=b"not attached"))
        sig = own.sign(probe_bytes(probe.n, link.public_key, session.id))
        return link.say(wire.Probed(r=probe.r, sig=sig, id=session.id))
