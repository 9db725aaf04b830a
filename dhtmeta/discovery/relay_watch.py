"""Which relays still hold the sessions that records name: asked before such a record is too old.

A relay is asked for all its peers at once. Its word is tested by probes: a nonce that the attached
peer signs, so that a relay which only pretends is found out. Who was probed in vain does not count
until a probe comes through; where most probes of a look are in vain, no unproven peer does. One
that does not answer is asked less and less often: it may be a victim's address.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import chain

from cachetools import TTLCache

from dhtmeta._fast import ed25519
from dhtmeta.const import (
    ATTACHED_AT_ONCE,
    ATTACHED_MESSAGES,
    PROBED,
    PROBED_FOR,
    PROBES_AT_ONCE,
    RELAY_SWEEP,
    RELAY_SWEPT,
    RELAY_WATCH,
    RELAY_WATCH_LAST,
    REQUEST_TIMEOUT,
    WATCH_DELAY,
)
from dhtmeta.discovery.around import record_of
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.proof import probe_bytes
from dhtmeta.discovery.relay import RelayDesk
from dhtmeta.engine.cache import Cached
from dhtmeta.engine.evidence import Evidence, WatchedRelay
from dhtmeta.errors import DhtmetaError, InvalidRecord, NotProven
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.record import NetworkInfo, split_endpoint

log = logging.getLogger(__name__)

Held = Callable[[bytes], Cached | None]
_Named = tuple[bytes, bytes]  # a peer (id) and the session that its record names


class RelayWatch:
    """Asks the relays that records name, and tells `evidence`.

    `known` gives the peers (ids) that may be attached to any, `held` what is held of one, `clock`
    Unix seconds; `own_id` is ours.
    """

    def __init__(
        self,
        exchange: Exchange,
        desk: RelayDesk,
        evidence: Evidence,
        known: Callable[[], Iterable[bytes]],
        held: Held,
        own_id: Callable[[], bytes],
        may_dial: Callable[[Endpoint], bool],
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._rng = rng
        self._exchange, self._desk = exchange, desk
        self._evidence, self._known, self._held = evidence, known, held
        self._own_id, self._may_dial, self._clock = own_id, may_dial, clock
        # relay -> who may be attached to it, who was asked about last at the end
        self._peers: dict[bytes, dict[bytes, None]] = {}
        self._due: dict[bytes, float] = {}  # relay -> when it is asked, loop time
        self._new = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._looking: dict[bytes, asyncio.Task[None]] = {}
        self._probed: TTLCache[_Named, bool] = TTLCache(PROBED, PROBED_FOR)

    def note(self, cached: Cached) -> None:
        """Note whom a record leads over; that relay is asked in time."""
        info, peer = _over_relay(cached), cached.item.target
        if info is None:
            return
        relay = bytes.fromhex(info.connected_relay)
        self._evidence.heard(peer, cached.item.seq, self._clock())
        if not self._may_be_relay(relay) or self._evidence.watch(relay) is None:
            return
        for let_go in self._peers.keys() - self._evidence.relays.keys():
            self._peers.pop(let_go)
            self._due.pop(let_go, None)
        self._peers.setdefault(relay, {}).setdefault(peer)
        wait = self._fresh_for(cached)
        if not wait and self._evidence.in_vain(relay):  # an old record says nothing new of it
            wait = self._pause(relay)
        due = self._loop.time() + wait
        self._due[relay] = min(due, self._due.get(relay, due))
        self._new.set()

    def _may_be_relay(self, relay: bytes) -> bool:
        """Whether its own record says that it is one, or is not known."""
        record = record_of(self._held(relay))
        return record is None or record.network_info.is_relay or relay == self._own_id()

    def _fresh_for(self, cached: Cached) -> float:
        """Return for how long (s) a record need not be doubted, less some, so that not all ask."""
        record = record_of(cached)
        fresh_for = self._evidence.fresh_for
        left = 0.0 if record is None else fresh_for(record, cached.item.seq, self._clock())
        return max(0.0, left * self._rng.uniform(0.3, 0.8) - REQUEST_TIMEOUT)

    def _pause(self, relay: bytes) -> float:
        """Return how long (s) to wait between looks: longer and longer while it does not answer."""
        times = min(self._evidence.in_vain(relay), 16)
        return min(RELAY_WATCH * 2.0**times, RELAY_WATCH_LAST) * self._rng.uniform(0.8, 1.0)

    async def run(self) -> None:
        """Watch, until cancelled."""
        sweeping = self._loop.create_task(self._sweep_again())
        try:
            await self._watch()
        finally:
            for task in (sweeping, *self._looking.values()):
                task.cancel()

    async def _sweep_again(self) -> None:
        """Note whom a restart, or a lack of room, has kept from us, again and again."""
        while True:
            try:
                await self._sweep()
            except Exception:
                log.exception("unexpected, while relays were looked for that are to be watched")
            await asyncio.sleep(RELAY_SWEEP)

    async def _sweep(self) -> None:
        for number, peer in enumerate(list(self._known())):
            if number % RELAY_SWEPT == 0:
                await asyncio.sleep(0)  # nobody waits for all of them
            held = self._held(peer)
            info = None if held is None else _over_relay(held)
            if held and info and peer not in self._named(bytes.fromhex(info.connected_relay)):
                self.note(held)
        for relay, at in self._due.items():  # it may have been our own network, and is forgiven
            self._due[relay] = min(at, self._loop.time() + self._pause(relay))
        self._new.set()

    def _named(self, relay: bytes) -> dict[bytes, None]:
        return self._peers.get(relay, {})

    async def _watch(self) -> None:
        while True:
            now = self._loop.time()
            due = [relay for relay, at in self._due.items() if now >= at]
            for relay in due:
                self._due[relay] = now + self._pause(relay)
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
        over = {peer: info for peer in self._named(relay) if (info := self._leads(peer, relay))}
        if not over:
            self._peers.pop(relay, None)
            self._due.pop(relay, None)
            self._evidence.relays.pop(relay, None)
            return
        asked = self._to_ask(relay, over)
        later = [peer for peer in over if peer not in asked]
        self._peers[relay] = dict.fromkeys([*later, *asked])
        try:
            await self._ask(relay, asked)
        except DhtmetaError as error:
            log.debug("relay %s: %s", relay.hex(), error)
        except Exception:
            log.exception("unexpected, while a relay was asked")
        else:
            return
        self._evidence.unanswered(relay, self._clock())

    def _to_ask(self, relay: bytes, over: dict[bytes, NetworkInfo]) -> dict[bytes, NetworkInfo]:
        """Return whom to ask about: first who was attached, then who has waited longest.

        One message is left for the others, however many are attached.
        """
        if relay == self._own_id():
            return over
        watched = self._evidence.relays.get(relay, WatchedRelay())
        watched.attached.intersection_update(over)
        there = [peer for peer in over if peer in watched.attached]
        others = [peer for peer in over if peer not in watched.attached]
        room = ATTACHED_AT_ONCE * ATTACHED_MESSAGES
        first = room - ATTACHED_AT_ONCE
        return {peer: over[peer] for peer in [*there[:first], *others, *there[first:]][:room]}

    def _leads(self, peer: bytes, relay: bytes) -> NetworkInfo | None:
        held = self._held(peer)
        info = None if held is None else _over_relay(held)
        return info if info is not None and info.connected_relay == relay.hex() else None

    async def _ask(self, relay: bytes, over: dict[bytes, NetworkInfo]) -> None:
        if relay == self._own_id():
            return self._ask_ourselves(relay, over)
        link = await self._link(relay, self._rng.choice(list(over.values())))
        attached = await self._attached(link, list(over))
        sessions = {(peer, over[peer].relay_session_id.encode()) for peer in attached}
        new = self._to_probe(sessions)
        answers = await asyncio.gather(*(self.probe(link, peer) for peer, _ in new))
        self._probed.update(zip(new, answers, strict=True))
        is_trusted = 2 * sum(answers) >= len(answers)
        there = {one[0] for one in sessions if self._probed.get(one, is_trusted)}
        self._evidence.attached(relay, set(over), there, self._clock())
        return None

    async def _attached(self, link: Link, asked: list[bytes]) -> set[bytes]:
        """Return who of those asked about is attached, as the relay says."""
        parts = [asked[i : i + ATTACHED_AT_ONCE] for i in range(0, len(asked), ATTACHED_AT_ONCE)]
        told = await asyncio.gather(*(self._holding(link, part) for part in parts))
        return set(chain(*told)).intersection(asked)

    async def _holding(self, link: Link, asked: list[bytes]) -> list[bytes]:
        holding = await link.request(lambda r: wire.Held(r=r, peers=asked), wire.Holding)
        return holding.peers

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
