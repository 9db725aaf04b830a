"""Which relays still hold the sessions that records name: asked before such a record is too old.

A relay is asked for all its peers at once. Its word is tested by probes: a nonce that the attached
peer signs, so that a relay which only pretends is found out. Who was probed in vain does not count
until a probe comes through; where most probes of a look are in vain, no unproven peer does.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from cachetools import TTLCache

from dhtmeta._fast import ed25519
from dhtmeta.const import (
    ATTACHED_AT_ONCE,
    PROBED,
    PROBED_FOR,
    PROBES_AT_ONCE,
    RELAY_WATCH,
    REQUEST_TIMEOUT,
    SESSION_LIFETIME,
    WATCH_DELAY,
)
from dhtmeta.discovery.around import record_of
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.proof import probe_bytes
from dhtmeta.discovery.relay import RelayDesk
from dhtmeta.engine.cache import Cached
from dhtmeta.engine.evidence import Evidence
from dhtmeta.errors import DhtmetaError, InvalidRecord, NotProven
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.record import NetworkInfo, split_endpoint

log = logging.getLogger(__name__)

Held = Callable[[bytes], Cached | None]
_Named = tuple[bytes, bytes]  # a peer (id) and the session that its record names


class RelayWatch:
    """Asks the relays that records name, and tells `evidence`.

    `held` gives what is held of a peer (id), `clock` Unix seconds; `own_id` is ours.
    """

    def __init__(
        self,
        exchange: Exchange,
        desk: RelayDesk,
        evidence: Evidence,
        held: Held,
        own_id: Callable[[], bytes],
        may_dial: Callable[[Endpoint], bool],
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._rng = rng
        self._exchange, self._desk = exchange, desk
        self._evidence, self._held = evidence, held
        self._own_id, self._may_dial, self._clock = own_id, may_dial, clock
        self._peers: dict[bytes, set[bytes]] = {}  # relay -> who may be attached to it
        self._due: dict[bytes, float] = {}  # relay -> when it is asked, loop time
        self._new = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._looking: dict[bytes, asyncio.Task[None]] = {}
        self._probed: TTLCache[_Named, bool] = TTLCache(PROBED, PROBED_FOR)

    def note(self, cached: Cached) -> None:
        """Note whom a record leads over; that relay is asked in time."""
        info = _over_relay(cached)
        if info is None:
            return
        relay = bytes.fromhex(info.connected_relay)
        if self._evidence.watch(relay) is None:
            return
        for let_go in self._peers.keys() - self._evidence.relays.keys():
            self._peers.pop(let_go)
            self._due.pop(let_go, None)
        self._peers.setdefault(relay, set()).add(cached.item.target)
        due = self._loop.time() + self._fresh_for(cached)
        self._due[relay] = min(due, self._due.get(relay, due))
        self._new.set()

    def _fresh_for(self, cached: Cached) -> float:
        """Return for how long (s) a record need not be doubted, less some, so that not all ask."""
        if self._evidence.is_caught(cached.item.target):
            return 0.0
        record = record_of(cached)
        age = abs(self._clock() - record.timestamp) if record is not None else SESSION_LIFETIME
        return max(0.0, (SESSION_LIFETIME - age) * self._rng.uniform(0.3, 0.8) - REQUEST_TIMEOUT)

    async def run(self) -> None:
        """Watch, until cancelled."""
        try:
            await self._watch()
        finally:
            for looking in self._looking.values():
                looking.cancel()

    async def _watch(self) -> None:
        while True:
            now = self._loop.time()
            due = [relay for relay, at in self._due.items() if now >= at]
            for relay in due:
                self._due[relay] = now + RELAY_WATCH * self._rng.uniform(0.8, 1.0)
                if relay not in self._looking:  # one that does not answer holds up no other
                    looking = self._looking[relay] = self._loop.create_task(self._look(relay))
                    looking.add_done_callback(partial(self._looked, relay))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next() - self._loop.time()):
                    await self._new.wait()
                    await asyncio.sleep(WATCH_DELAY)
            self._new.clear()

    def _looked(self, relay: bytes, looking: "asyncio.Task[None]") -> None:
        del self._looking[relay]

    def _next(self) -> float:
        return min(self._due.values(), default=self._loop.time() + RELAY_WATCH)

    async def _look(self, relay: bytes) -> None:
        """Ask one relay for all peers that name it; one that nobody names is let go."""
        over = {
            peer: info for peer in self._peers.get(relay, ()) if (info := self._leads(peer, relay))
        }
        if not over:
            self._peers.pop(relay, None)
            self._due.pop(relay, None)
            self._evidence.relays.pop(relay, None)
            return
        self._peers[relay] = set(over)
        try:
            await self._ask(relay, over)
        except DhtmetaError as error:
            log.debug("relay %s: %s", relay.hex(), error)
        except Exception:
            log.exception("unexpected, while a relay was asked")

    def _leads(self, peer: bytes, relay: bytes) -> NetworkInfo | None:
        held = self._held(peer)
        info = None if held is None else _over_relay(held)
        return info if info is not None and info.connected_relay == relay.hex() else None

    async def _ask(self, relay: bytes, over: dict[bytes, NetworkInfo]) -> None:
        if relay == self._own_id():
            return self._ask_ourselves(relay, over)
        link = await self._link(relay, next(iter(over.values())))
        asked = list(over)[:ATTACHED_AT_ONCE]
        holding = await link.request(lambda r: wire.Held(r=r, peers=asked), wire.Holding)
        attached = set(holding.peers).intersection(asked)
        sessions = {(peer, over[peer].relay_session_id.encode()) for peer in attached}
        new = self._to_probe(sessions)
        answers = await asyncio.gather(*(self.probe(link, peer) for peer, _ in new))
        self._probed.update(zip(new, answers, strict=True))
        is_trusted = 2 * sum(answers) >= len(answers)
        there = {one[0] for one in sessions if self._probed.get(one, is_trusted)}
        self._evidence.attached(relay, set(asked), there, self._clock())
        return None

    def _to_probe(self, sessions: set[_Named]) -> list[_Named]:
        """Return some sessions that are not proven; those never probed come first."""
        unproven = [one for one in sessions if not self._probed.get(one)]
        return sorted(unproven, key=lambda one: one in self._probed)[:PROBES_AT_ONCE]

    def _ask_ourselves(self, relay: bytes, over: dict[bytes, NetworkInfo]) -> None:
        there = {peer for peer in over if self._desk.held(peer) is not None}
        self._evidence.attached(relay, set(over), there, self._clock())

    async def _link(self, relay: bytes, info: NetworkInfo) -> Link:
        link = self._exchange.link_to(relay)
        if link is not None:
            return link
        endpoint = self._endpoint(relay, info)
        if not self._may_dial(endpoint):
            raise NotProven(f"{info.relay_address} is no address for a relay")
        link = await self._exchange.dial(endpoint)
        if link.peer_id != relay:
            link.hang_up()
            raise NotProven(f"at {info.relay_address} is {link.peer_id.hex()}, another")
        return link

    def _endpoint(self, relay: bytes, info: NetworkInfo) -> Endpoint:
        """Return where the relay's own record has its exchange, else where its peer's has it."""
        held = self._held(relay)
        with suppress(InvalidRecord):
            record = held and held.record()
            if record and record.exchange:
                return record.exchange
        return split_endpoint(info.relay_address)

    async def probe(self, link: Link, peer: bytes) -> bool:
        """Whether a peer signed our nonce through that relay."""
        nonce, held = secrets.token_bytes(32), self._held(peer)
        if held is None:
            return False
        try:
            probed = await link.request(lambda r: wire.Probe(r=r, p=peer, n=nonce), wire.Probed)
        except DhtmetaError as error:
            log.debug("no answer from %s through a relay: %s", peer.hex(), error)
            return False
        signed = probe_bytes(nonce, link.public_key, probed.id)
        return ed25519.verify(held.item.public_key, probed.sig, signed)


def _over_relay(cached: Cached) -> NetworkInfo | None:
    """Return how a peer is reached whose record leads over a relay; None for all others."""
    try:
        record = cached.record()
    except InvalidRecord:
        return None
    info = None if record is None else record.network_info
    whole = info and info.using_relay and info.connected_relay and info.relay_address
    return info if info is not None and whole and info.node_type == "private" else None
