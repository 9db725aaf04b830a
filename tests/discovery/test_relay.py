"""Relays and who uses them: sessions, probes, liars on both sides, and what is done about them."""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio

from dhtmeta._fast import ed25519
from dhtmeta.config import Settings
from dhtmeta.const import (
    PROBES_AT_ONCE,
    PROBES_PER_SECOND,
    RELAY_CANDIDATES,
    RELAY_FAILED_FOR,
    RELAY_WATCH,
    RELAY_WATCH_LAST,
    SESSION_LIFETIME,
)
from dhtmeta.discovery import attachment as attachment_module
from dhtmeta.discovery import finder as finder_module
from dhtmeta.discovery import link as link_module
from dhtmeta.discovery import relay as relay_module
from dhtmeta.discovery import relay_watch as relay_watch_module
from dhtmeta.discovery.attachment import Attachment, Session, _Measured
from dhtmeta.discovery.candidate import Candidate
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.finder import Finder
from dhtmeta.discovery.ladder import LAST_RESORT as REGISTRY
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.proof import probe_bytes
from dhtmeta.discovery.relay import RelayDesk
from dhtmeta.discovery.relay_finder import RelayFinder
from dhtmeta.discovery.relay_watch import RelayWatch
from dhtmeta.engine.cache import Cached, RecordCache
from dhtmeta.engine.evidence import Evidence
from dhtmeta.errors import NotProven, RemoteError
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.store.store import MEMORY, Store
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NodeRecord, format_endpoint
from tests.conftest import Clock, make_node
from tests.discovery.ends import end, met, only, signed_record, until

CAPACITY = 3
OLD = 1_800_000_000 - 10 * SESSION_LIFETIME  # when records were signed: that shows nothing any more


@asynccontextmanager
async def relay(
    capacity: int = CAPACITY, identity: Identity | None = None, desk: type[RelayDesk] = RelayDesk
) -> AsyncIterator[RelayDesk]:
    """Run a relay."""
    async with end(identity) as exchange:
        made = desk(exchange, lambda: format_endpoint(exchange.endpoint), capacity)
        exchange.on(wire.Probe, made.on_probe)
        yield made
        await made.close()


def endpoint(desk: RelayDesk) -> Endpoint:
    return desk._exchange.endpoint


@dataclass
class Client:
    """A peer who attaches to one of `relays`."""

    exchange: Exchange
    relays: list[Endpoint]
    attachment: Attachment = field(init=False)
    changes: list[Session | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.attachment = Attachment(self.exchange, self.find, random.Random(1))
        self.attachment.on_change = lambda: self.changes.append(self.attachment.session)
        self.exchange.on(wire.Probe, self.attachment.on_probe)

    async def find(self) -> AsyncGenerator[Sequence[Endpoint], None]:
        yield self.relays

    async def attached(self) -> None:
        """Wait until it is."""
        await until(lambda: self.attachment.session)

    @property
    def at(self) -> Endpoint | None:
        """Where the relay is that it is attached to."""
        session = self.attachment.session
        return session.link.remote if session else None


@asynccontextmanager
async def client(*relays: Endpoint, identity: Identity | None = None) -> AsyncIterator[Client]:
    """Run a peer that is attached to one of these."""
    async with end(identity) as exchange:
        made = Client(exchange, list(relays))
        task = asyncio.create_task(made.attachment.run())
        try:
            yield made
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def attach(link: Link, session: bytes = b"") -> wire.Attached:
    return await link.request(lambda r: wire.Attach(r=r, id=session), wire.Attached)


async def probe(link: Link, peer: bytes, nonce: bytes = bytes(32)) -> wire.Probed:
    return await link.request(lambda r: wire.Probe(r=r, p=peer, n=nonce), wire.Probed)


# sessions


async def test_a_session_is_granted_and_renewed_under_its_id() -> None:
    async with relay() as desk, end() as peer:
        link = await peer.dial(endpoint(desk))
        first = await attach(link)
        assert (first.lifetime, first.address) == (
            SESSION_LIFETIME,
            format_endpoint(endpoint(desk)).encode(),
        )
        session = desk.held(peer.identity().peer_id)
        assert session is not None
        session.until -= 30  # so much later
        until_then = session.until
        assert (await attach(link, first.id)).id == first.id
        session = desk.held(peer.identity().peer_id)
        assert session is not None
        assert session.until > until_then
        assert (await attach(link, b"another")).id not in (first.id, b"another")
        assert desk.load == 1


async def test_a_session_ends_with_its_lifetime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "SESSION_LIFETIME", 0)
    async with relay() as desk, end() as peer:
        link = await peer.dial(endpoint(desk))
        await attach(link)
        assert desk.held(peer.identity().peer_id) is None
        assert desk.load == 0
        asked = wire.Held(r=0, peers=[peer.identity().peer_id])
        holding = await link.request(lambda r: wire.Held(r=r, peers=asked.peers), wire.Holding)
        assert holding.peers == []


async def test_a_session_is_held_only_while_its_peer_is_connected() -> None:
    async with relay() as desk:
        async with end() as peer:
            await attach(await peer.dial(endpoint(desk)))
            assert desk.held(peer.identity().peer_id) is not None
        await until(lambda: desk.load == 0)
        assert desk.held(peer.identity().peer_id) is None


async def test_nobody_takes_over_the_session_of_another() -> None:
    async with relay() as desk, end() as peer, end() as liar:
        session = await attach(await peer.dial(endpoint(desk)))
        theirs = await attach(await liar.dial(endpoint(desk)), session.id)
        assert theirs.id != session.id
        held = desk.held(peer.identity().peer_id)
        assert held is not None
        assert (held.id, held.link.peer_id) == (session.id, peer.identity().peer_id)


async def test_a_full_relay_refuses_and_has_room_again_once_somebody_leaves() -> None:
    async with relay(1) as desk, end() as late:
        link = await late.dial(endpoint(desk))
        async with end() as peer:
            await attach(await peer.dial(endpoint(desk)))
            with pytest.raises(RemoteError, match="full"):
                await attach(link)
            pong = await link.measure()
            assert (pong.sessions, pong.capacity) == (1, 1)
        await until(lambda: not desk._exchange.link_to(peer.identity().peer_id))
        await attach(link)
        assert list(desk.sessions) == [late.identity().peer_id]


async def test_who_is_no_relay_grants_nothing() -> None:
    async with end() as exchange, end() as peer:
        RelayDesk(exchange, lambda: None, 5)
        link = await peer.dial(exchange.endpoint)
        assert (await link.measure()).capacity == 0
        with pytest.raises(RemoteError, match="no relay"):
            await attach(link)


# probes


async def test_a_probe_is_answered_by_the_attached_peer() -> None:
    who, nonce = Identity.generate(), b"n" * 32
    async with relay() as desk, client(endpoint(desk), identity=who) as peer, end() as asks:
        await until(lambda: peer.attachment.session)
        link = await asks.dial(endpoint(desk))
        probed = await probe(link, who.peer_id, nonce)
        assert peer.attachment.session is not None
        assert probed.id == peer.attachment.session.id
        signed = probe_bytes(nonce, link.public_key, probed.id)
        assert ed25519.verify(who.public_key, probed.sig, signed)


async def test_a_probe_of_who_is_not_attached_is_refused() -> None:
    async with relay() as desk, end() as connected, end() as asks:
        await connected.dial(endpoint(desk))
        link = await asks.dial(endpoint(desk))
        for peer in (connected.identity().peer_id, bytes(20)):
            with pytest.raises(RemoteError, match="no such peer"):
                await probe(link, peer)


async def test_an_attached_peer_is_probed_only_so_often() -> None:
    """Whoever floods: what reaches the peer is bounded, by all who probe it together."""
    reached: list[wire.Message] = []
    async with relay() as desk, end() as peer, end() as first, end() as second:
        peer.on(wire.Probe, lambda link, one: reached.append(one))
        await attach(await peer.dial(endpoint(desk)))
        links = [await one.dial(endpoint(desk)) for one in (first, second)]
        began = asyncio.get_running_loop().time()
        for number in range(400):
            links[number % 2].say(wire.Probe(r=number, p=peer.identity().peer_id, n=bytes(32)))
        for link in links:
            await link.measure()
        await only(peer).measure()
        passed = asyncio.get_running_loop().time() - began
        assert 0 < len(reached) <= PROBES_PER_SECOND * (1 + passed) + 1
        assert len(desk._tasks) <= PROBES_PER_SECOND * (1 + passed) + 1


async def test_a_probe_is_refused_when_its_peer_leaves_in_the_middle() -> None:
    async with relay() as desk, end() as silent, end() as asks:
        link = await silent.dial(endpoint(desk))
        await attach(link)
        asked = await asks.dial(endpoint(desk))
        waiting = asyncio.create_task(probe(asked, silent.identity().peer_id))
        await until(lambda: desk._tasks)
        link.hang_up()  # in the middle
        with pytest.raises(RemoteError):
            await waiting
        await until(lambda: not desk._tasks)


async def test_a_probe_is_signed_for_the_relay_that_passed_it_on_alone() -> None:
    """A liar who is no relay of theirs gets no signature, and one relay none for another."""
    who = Identity.generate()
    async with relay() as desk, client(endpoint(desk), identity=who) as peer, end() as liar:
        await until(lambda: peer.attachment.session)
        link = await liar.dial(peer.exchange.endpoint)
        with pytest.raises(RemoteError, match="not attached"):
            await probe(link, who.peer_id)


# who is believed


@dataclass
class Watch:
    """One who watches relays: what it holds of others, and what it was shown."""

    watch: RelayWatch
    evidence: Evidence
    cache: RecordCache
    store: Store
    clock: Clock

    def note(
        self, who: Identity, desk: RelayDesk, seq: int = 1, address: Endpoint | None = None
    ) -> NodeRecord:
        """Learn a record of somebody that leads over that relay."""
        cached = self.hold(who, desk, seq, address)
        self.watch.note(cached)
        record = cached.record()
        assert record is not None
        return record

    def hold(
        self, who: Identity, desk: RelayDesk, seq: int = 1, address: Endpoint | None = None
    ) -> Cached:
        """Hold such a record that the watch has not heard of."""
        link_info = {
            "node_type": "private",
            "using_relay": True,
            "connected_relay": desk._exchange.identity().peer_id.hex(),
            "relay_session_id": "s",
            "relay_address": format_endpoint(address or endpoint(desk)),
        }
        item = signed_record(who, seq, info=link_info, timestamp=OLD)
        cached = self.cache.learn(item.target, item, self.clock())
        assert cached is not None
        return cached

    async def look(self) -> None:
        """Ask all relays now."""
        await asyncio.gather(*(self.watch._look(one) for one in list(self.evidence.relays)))

    def objection(self, record: NodeRecord) -> str:
        return self.evidence.objection(record, 1, self.clock())


@asynccontextmanager
async def watching(clock: Clock) -> AsyncIterator[Watch]:
    store = await Store.open(MEMORY, clock)
    try:
        async with end() as exchange:
            cache, evidence = RecordCache(store, seed=1, ttl=10_000), Evidence()
            desk = RelayDesk(exchange, lambda: None, 1)
            own = exchange.identity().peer_id
            watch = RelayWatch(
                exchange,
                desk,
                evidence,
                lambda: store.peers,
                lambda one: cache.usable(one, clock()),
                lambda: own,
                lambda endpoint: True,
                clock,
                random.Random(1),
            )
            yield Watch(watch, evidence, cache, store, clock)
            await desk.close()
    finally:
        await store.close()


async def test_an_attached_peer_is_offered_and_one_that_is_not_is_not(clock: Clock) -> None:
    who, gone = Identity.generate(), Identity.generate()
    async with (
        relay() as desk,
        client(endpoint(desk), identity=who) as peer,
        watching(clock) as watch,
    ):
        await until(lambda: peer.attachment.session)
        attached, lost = watch.note(who, desk), watch.note(gone, desk)
        assert "has not answered yet" in watch.objection(attached)
        await watch.look()
        assert watch.objection(attached) == ""
        assert "has no session for it" in watch.objection(lost)


class Liar(RelayDesk):
    """A relay that says of everybody that it holds them."""

    def _on_held(self, link: Link, held: wire.Held) -> None:
        link.say(wire.Holding(r=held.r, peers=held.peers))


class Forger(Liar):
    """One that answers the probes by itself, too."""

    def on_probe(self, link: Link, probe: wire.Probe) -> None:
        identity = self._exchange.identity()
        sig = identity.sign(probe_bytes(probe.n, identity.public_key, b"x"))
        link.say(wire.Probed(r=probe.r, sig=sig, id=b"x"))


@pytest.mark.parametrize("kind", [Liar, Forger])
async def test_a_relay_that_lies_about_who_is_attached_is_found_out(
    clock: Clock, kind: type[RelayDesk]
) -> None:
    """Of more made-up sessions than are probed in one look, none is ever offered."""
    async with relay(desk=kind) as desk, watching(clock) as watch:
        records = [watch.note(Identity.generate(), desk) for _ in range(3 * PROBES_AT_ONCE)]
        for _ in range(5):
            await watch.look()
            assert all("no session" in watch.objection(one) for one in records)


async def test_a_relay_that_lies_about_some_is_found_out_in_the_end(clock: Clock) -> None:
    """Its true sessions are offered; what was probed in vain is not, look after look."""
    true = [Identity.generate() for _ in range(6)]
    async with (
        relay(20, desk=Liar) as desk,
        AsyncExitStack() as stack,
        watching(clock) as watch,
    ):
        for one in true:
            peer = await stack.enter_async_context(client(endpoint(desk), identity=one))
            await peer.attached()
        real = [watch.note(one, desk) for one in true]
        made_up = [watch.note(Identity.generate(), desk) for _ in range(2 * PROBES_AT_ONCE)]
        for _ in range(3):
            await watch.look()
        for _ in range(2):
            await watch.look()
            assert all(watch.objection(one) == "" for one in real)
            assert all("no session" in watch.objection(one) for one in made_up)


async def test_one_attached_peer_that_answers_nothing_does_not_cost_the_others(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "REQUEST_TIMEOUT", 1.0)
    others = [Identity.generate() for _ in range(3)]
    async with (
        relay(20) as desk,
        end() as silent,
        AsyncExitStack() as stack,
        watching(clock) as watch,
    ):
        await attach(await silent.dial(endpoint(desk)))
        for one in others:
            peer = await stack.enter_async_context(client(endpoint(desk), identity=one))
            await peer.attached()
        records = [watch.note(one, desk) for one in others]
        refusing = watch.note(silent.identity(), desk)
        await watch.look()
        assert all(watch.objection(one) == "" for one in records)
        assert "no session" in watch.objection(refusing)


async def test_a_relay_with_another_identity_than_was_said_is_not_believed(clock: Clock) -> None:
    """At the address that a record names is a liar: it answers, and is not whom we ask."""
    async with relay() as desk, relay(desk=Forger) as liar, watching(clock) as watch:
        real = desk._exchange.identity().peer_id
        record = watch.note(Identity.generate(), desk, address=endpoint(liar))
        info = watch.watch._leads(bytes.fromhex(record.peer_id), real)
        assert info is not None
        with pytest.raises(NotProven, match="another"):
            await watch.watch._link(real, info)
        await watch.look()
        assert "has not answered yet" in watch.objection(record)
        assert not watch.watch._exchange.links


async def test_over_a_relay_that_answers_no_more_nobody_is_offered_after_a_session(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "REQUEST_TIMEOUT", 0.1)
    who = Identity.generate()
    async with (
        relay() as desk,
        client(endpoint(desk), identity=who) as peer,
        watching(clock) as watch,
    ):
        await until(lambda: peer.attachment.session)
        record = watch.note(who, desk)
        await watch.look()
        deafen(desk._exchange)
        clock.now += SESSION_LIFETIME
        await watch.look()
        assert watch.objection(record) == ""
        clock.now += 1
        assert "has not answered for 61 s" in watch.objection(record)


def deafen(exchange: Exchange) -> None:
    """Have it read nothing from its socket any more, and say no goodbye."""
    door = exchange._door
    assert door is not None
    door.datagram_received = lambda data, addr: None  # type: ignore[method-assign]
    for link in exchange._all:
        link._quic.datagrams_to_send = lambda now: []  # type: ignore[method-assign]


async def test_relays_that_nobody_leads_over_any_more_are_forgotten(clock: Clock) -> None:
    who = Identity.generate()
    async with relay() as desk, relay() as other, watching(clock) as watch:
        watch.note(who, desk)
        await watch.look()
        watch.note(who, other, seq=2)
        await watch.look()
        assert list(watch.evidence.relays) == [other._exchange.identity().peer_id]
        assert list(watch.watch._peers) == [other._exchange.identity().peer_id]


async def test_any_number_of_relays_that_are_none_costs_bounded_memory(clock: Clock) -> None:
    async with relay() as desk, watching(clock) as watch:
        for number in range(300):
            item = signed_record(
                Identity.generate(),
                timestamp=OLD,
                info={
                    "node_type": "private",
                    "using_relay": True,
                    "connected_relay": number.to_bytes(20, "big").hex(),
                    "relay_session_id": "s",
                    "relay_address": format_endpoint(endpoint(desk)),
                },
            )
            cached = watch.cache.learn(item.target, item, clock())
            assert cached is not None
            watch.watch.note(cached)
        assert len(watch.evidence.relays) <= 64
        assert len(watch.watch._peers) <= 64
        assert len(watch.watch._due) <= 64


async def test_the_watch_goes_on_by_itself(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_watch_module, "RELAY_WATCH", 0.05)
    monkeypatch.setattr(relay_watch_module, "WATCH_DELAY", 0.0)
    who = Identity.generate()
    async with relay() as desk, watching(clock) as watch:
        task = asyncio.create_task(watch.watch.run())
        try:
            record = watch.note(who, desk)
            await until(lambda: "no session" in watch.objection(record))
            async with client(endpoint(desk), identity=who):
                await until(lambda: watch.objection(record) == "")
            await until(lambda: "no session" in watch.objection(record))
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_peers_whom_a_restart_kept_are_watched_without_their_saying_anything(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_watch_module, "WATCH_DELAY", 0.0)
    async with relay() as desk, watching(clock) as watch:
        cached = watch.hold(Identity.generate(), desk)
        record = cached.record()
        assert record is not None
        assert watch.objection(record) == ""
        task = asyncio.create_task(watch.watch.run())
        try:
            await until(lambda: "no session" in watch.objection(record))
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_a_sweep_does_not_have_relays_asked_again_at_once(clock: Clock) -> None:
    async with relay() as desk, watching(clock) as watch:
        cached = watch.hold(Identity.generate(), desk)
        await watch.watch._sweep()
        (name,) = watch.watch._due
        watch.watch._due[name] = later = watch.watch._loop.time() + 5
        await watch.watch._sweep()
        assert watch.watch._due == {name: later}
        watch.watch.note(cached)  # as news does
        assert watch.watch._due[name] < later


async def test_a_record_is_not_believed_to_be_signed_after_it_was_first_heard(clock: Clock) -> None:
    async with relay() as desk, watching(clock) as watch:
        clock.now = OLD - 250.0  # the clock of whoever signs is so far ahead
        record = watch.note(Identity.generate(), desk)
        assert watch.objection(record) == ""
        clock.now = float(OLD)
        assert "has not answered yet" in watch.objection(record)


async def test_who_says_of_itself_that_it_is_no_relay_is_not_watched(clock: Clock) -> None:
    async with relay() as desk, watching(clock) as watch:
        who = desk._exchange.identity()
        item = signed_record(who, timestamp=OLD)
        watch.cache.learn(item.target, item, clock())
        watch.note(Identity.generate(), desk)
        assert not watch.evidence.relays
        item = signed_record(who, seq=2, timestamp=OLD, info={"is_relay": True})
        watch.cache.learn(item.target, item, clock())
        watch.note(Identity.generate(), desk)
        assert list(watch.evidence.relays) == [who.peer_id]


async def test_more_peers_of_a_relay_than_one_look_asks_about_are_asked_about_in_turn(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who are attached at each look, so that who leaves is missed soon."""
    monkeypatch.setattr(relay_watch_module, "ATTACHED_AT_ONCE", 1)
    monkeypatch.setattr(relay_watch_module, "ATTACHED_MESSAGES", 3)
    true = [Identity.generate() for _ in range(2)]
    async with relay() as desk, AsyncExitStack() as stack, watching(clock) as watch:
        for one in true:
            peer = await stack.enter_async_context(client(endpoint(desk), identity=one))
            await peer.attached()
        made_up = [watch.note(Identity.generate(), desk) for _ in range(4)]
        real = [watch.note(one, desk) for one in true]
        for _ in range(2):
            await watch.look()
        assert all(watch.objection(one) == "" for one in real)
        await stack.aclose()
        await until(lambda: desk.load == 0)
        await watch.look()
        assert all("no session" in watch.objection(one) for one in real)
        assert all("no session" in watch.objection(one) for one in made_up)
        assert len(watch.evidence._caught) == 6


async def test_a_relay_with_more_sessions_than_one_look_asks_about_leaves_none_out(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_watch_module, "ATTACHED_AT_ONCE", 1)
    monkeypatch.setattr(relay_watch_module, "ATTACHED_MESSAGES", 2)
    async with relay() as desk, watching(clock) as watch:
        over = [watch.note(Identity.generate(), desk).peer_id for _ in range(4)]
        (name,) = watch.evidence.relays
        watch.evidence.attached(name, set(), {bytes.fromhex(one) for one in over[:3]}, clock())
        await watch.look()
        assert bytes.fromhex(over[3]) in watch.evidence._caught  # the others have their turn
        for _ in range(2):  # nobody is there any more
            await watch.look()
        assert watch.evidence.relays[name].attached == set()
        assert len(watch.evidence._caught) == 4


async def test_a_relay_that_does_not_answer_is_asked_less_and_less_often(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "DIAL_DEADLINE", 0.01)
    async with relay() as desk, watching(clock) as watch:
        cached = watch.hold(Identity.generate(), desk, address=("127.0.0.1", 9))
        watch.watch.note(cached)
        (name,) = watch.evidence.relays
        pauses = [watch.watch._pause(name)]
        for _ in range(3):
            await watch.look()
            pauses.append(watch.watch._pause(name))
        assert all(1.6 <= later / pause <= 2.5 for pause, later in pairwise(pauses))
        for _ in range(5000):
            watch.evidence.unanswered(name, clock())
        assert 0.8 * RELAY_WATCH_LAST <= watch.watch._pause(name) <= RELAY_WATCH_LAST
        watch.watch._due.clear()
        watch.watch.note(cached)  # an old record shows nothing new
        now = watch.watch._loop.time()
        assert watch.watch._due[name] > now + RELAY_WATCH
        watch.evidence.forgive()
        watch.watch._new.clear()
        await watch.watch._sweep()
        assert watch.watch._new.is_set()
        assert watch.watch._due[name] <= now + RELAY_WATCH + 1
        monkeypatch.undo()
        watch.evidence.unanswered(name, clock())
        await watch.watch._exchange.dial(endpoint(desk))  # it answers again
        await watch.look()
        assert watch.evidence.in_vain(name) == 0
        assert watch.watch._pause(name) <= RELAY_WATCH


# where relays are found


@dataclass
class Named:
    """A source that names these, or fails; `asked` counts."""

    name: str
    endpoints: list[Endpoint] = field(default_factory=list)
    fails: Exception | None = None
    asked: int = 0

    async def candidates(self) -> AsyncIterator[Candidate]:
        self.asked += 1
        for one in self.endpoints:
            yield Candidate(self.name, endpoint=one)
        if self.fails is not None:
            raise self.fails


@pytest_asyncio.fixture
async def finder(swarm: Swarm, tmp_path: Path) -> AsyncIterator[Finder]:
    async with make_node(swarm, tmp_path, settings=Settings(), offline=True) as node:
        yield await node.open_discovery("liars", listen="127.0.0.1:0")


async def found(relays: RelayFinder) -> list[Endpoint]:
    return [one async for some in relays.find() for one in some]


async def test_addresses_that_strangers_may_not_name_are_no_relays(finder: Finder) -> None:
    sources = [
        Named(name, [("224.0.0.1", 4000), ("127.0.0.1", 22)]) for name in ("topic", REGISTRY)
    ]
    sources[1].endpoints.append(("127.0.0.1", 4000))
    relays = RelayFinder(finder._around, finder.ourselves, sources)
    finder.ourselves.stated_relays = [("127.0.0.1", 23)]  # by the operator
    assert await found(relays) == [("127.0.0.1", 23), ("127.0.0.1", 4000)]
    assert [one.asked for one in sources] == [1, 1]


async def test_a_registry_is_asked_for_relays_seldom_and_only_where_none_is_known(
    finder: Finder,
) -> None:
    registry, topic = Named(REGISTRY), Named("topic")
    relays = RelayFinder(finder._around, finder.ourselves, [topic, registry])
    interval = finder._around.settings.peer_discovery.discovery_interval
    for times, wait in enumerate([1, 2, 4, 8, 8], 1):
        for _ in range(3):
            await found(relays)
        assert (registry.asked, topic.asked, relays._wait) == (times, 3 * times, wait * interval)
        relays._again = 0.0
    item = signed_record(
        Identity.generate(), timestamp=int(finder._around.clock()), info={"is_relay": True}
    )
    finder._around.resolver.cache.learn(item.target, item, finder._around.clock())
    assert await found(relays) == [("127.0.0.1", 30906)]
    assert registry.asked == 5


@pytest.mark.parametrize("fails", [RuntimeError("a bug"), RemoteError("no")])
async def test_a_source_that_fails_does_not_end_the_search(
    finder: Finder, fails: Exception
) -> None:
    at, other = ("127.0.0.1", 4000), ("127.0.0.1", 4001)
    sources = [Named("topic", [at], fails), Named("more", [other])]
    assert await found(RelayFinder(finder._around, finder.ourselves, sources)) == [at, other]


async def test_a_search_that_has_ended_begins_anew(
    finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder_module, "RELAY_POLL", 0.0)
    finder.ourselves._stated_type = "private"
    began: list[None] = []

    async def end_at_once() -> None:
        began.append(None)

    monkeypatch.setattr(finder.attachment, "run", end_at_once)
    task = asyncio.create_task(finder._stay_attached())
    try:
        await until(lambda: len(began) > 2)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_one_that_was_public_waits_for_a_relay_once_it_is_private() -> None:
    async with client() as peer:
        assert peer.attachment.without_since == math.inf  # it does not look for one yet
        await until(lambda: peer.attachment.without_since < math.inf)
        assert peer.attachment.without_since <= asyncio.get_running_loop().time()
    assert peer.attachment.without_since == math.inf


async def test_the_search_survives_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment_module, "RELAY_RETRY", 0.0)
    async with relay() as desk, end() as exchange:
        bugs = [RuntimeError("once")]

        async def find() -> AsyncGenerator[Sequence[Endpoint], None]:
            if bugs:
                raise bugs.pop()
            yield [endpoint(desk)]

        attachment = Attachment(exchange, find, random.Random(1))
        task = asyncio.create_task(attachment.run())
        await until(lambda: attachment.session)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# which relay is chosen


async def test_relays_that_are_none_do_not_keep_us_from_the_one_that_is() -> None:
    """However well they rank: any one of the others is tried, and who failed comes last."""
    fakes, real = [("127.0.0.1", 1000 + number) for number in range(40)], ("127.0.0.1", 9000)
    async with client() as peer:
        attachment = peer.attachment
        chosen = [attachment._chosen([*fakes, real]) for _ in range(500)]
        assert all(len(set(some)) == RELAY_CANDIDATES for some in chosen)
        assert any(real in some for some in chosen)
        for one in fakes:
            attachment._count(one)
            until_, wait = attachment._failed[one]
            attachment._failed[one] = (until_ - wait, wait)  # that has passed
        assert attachment._chosen([*fakes, real])[0] == real


async def test_a_relay_that_fails_again_and_again_waits_longer_unless_it_may_be_our_network() -> (
    None
):
    at = ("127.0.0.1", 9)
    async with relay() as desk, client() as peer:
        waits = []
        for links in (False, False, True, True, *(True,) * 8):
            if links and not peer.exchange.links:
                await peer.exchange.dial(endpoint(desk))
            peer.attachment._count(at)
            waits.append(peer.attachment._failed[at][1] / RELAY_FAILED_FOR)
        assert waits == [1, 1, 2, 4, 8, 16, 32, *(60,) * 5]
        assert peer.attachment._chosen([at]) == []
        peer.attachment._failed[endpoint(desk)] = (0.0, 3600.0)
        peer.relays.append(endpoint(desk))
        assert await peer.attachment._attach()
        assert endpoint(desk) not in peer.attachment._failed


async def test_a_relays_address_goes_into_our_record_as_others_write_it() -> None:
    address = b"[2001:0db8:0000:0000:0000:0000:0000:0001]:" + b"0" * 150 + b"4000"
    kind = type("Odd_", (Odd,), {"id": b"x", "address": address})
    async with relay(desk=kind) as odd, client(endpoint(odd)) as peer:
        await peer.attached()
        assert peer.attachment.session is not None
        assert peer.attachment.session.address == "[2001:db8::1]:4000"


class Slow(RelayDesk):
    """A relay that answers pings late."""

    def _on_ping(self, link: Link, ping: wire.Ping) -> None:
        asyncio.get_running_loop().call_later(0.1, super()._on_ping, link, ping)


async def test_the_relay_with_the_best_round_trip_is_chosen() -> None:
    async with (
        relay(desk=Slow) as slow,
        relay() as fast,
        client(endpoint(slow), endpoint(fast)) as peer,
    ):
        await peer.attached()
        assert peer.at == endpoint(fast)
        assert peer.changes == [peer.attachment.session]


async def test_of_relays_as_near_the_one_with_the_least_load_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though the busy one answers first."""
    monkeypatch.setattr(attachment_module, "RELAY_TIE", 10.0)
    async with relay(10) as busy, relay(10, desk=Slow) as idle, end() as other:
        await attach(await other.dial(endpoint(busy)))
        async with client(endpoint(busy), endpoint(idle)) as peer:
            await peer.attached()
            assert peer.at == endpoint(idle)


async def test_relays_are_tried_by_round_trip_then_load_and_the_next_where_one_refuses() -> None:
    async with relay() as near, relay() as busy, relay() as far, client() as peer:
        dial = peer.exchange.dial
        measured = [
            _Measured(await dial(endpoint(far)), 0.2, 0.0),
            _Measured(await dial(endpoint(busy)), 0.011, 0.9),
            _Measured(await dial(endpoint(near)), 0.012, 0.1),
        ]
        for there in (near, busy, far):
            assert await peer.attachment._attach_to(measured)
            assert peer.at == endpoint(there)
            there._address = lambda: None
        assert not await peer.attachment._attach_to(measured)


async def test_relays_that_are_none_or_full_or_not_there_are_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "DIAL_DEADLINE", 1.0)  # of nobody; the others answer in time
    nobody = ("127.0.0.1", 9)
    other_family = ("::1", 9)
    async with relay(1) as full, relay() as free, end() as none, end() as other:
        RelayDesk(none, lambda: None, 5)
        await attach(await other.dial(endpoint(full)))
        found = [nobody, other_family, endpoint(full), none.endpoint, endpoint(free)]
        async with client(*found) as peer:
            await until(lambda: peer.at)
            assert peer.at == endpoint(free)


class Odd(RelayDesk):
    """A relay that grants what nobody can use."""

    id, address = b"", b"127.0.0.1:1"

    def _on_attach(self, link: Link, attach: wire.Attach) -> None:
        said = wire.Attached(r=attach.r, id=self.id, lifetime=60, address=self.address)
        link.say(said)


@pytest.mark.parametrize(
    ("id_", "address"),
    [
        (b"", b"127.0.0.1:1"),
        (b"\xff\xfe", b"127.0.0.1:1"),
        (b"a\nb", b"127.0.0.1:1"),
        (b"good", b"nowhere"),
        (b"good", b"127.0.0.1:0"),
        (b"good", b"\xff"),
    ],
)
async def test_a_session_that_no_record_can_name_is_not_taken(id_: bytes, address: bytes) -> None:
    kind = type("Odd_", (Odd,), {"id": id_, "address": address})
    async with (
        relay(desk=kind) as odd,
        relay(desk=Slow) as good,
        client(endpoint(odd), endpoint(good)) as peer,
    ):
        await until(lambda: peer.at)
        assert peer.at == endpoint(good)
        assert endpoint(odd) in peer.attachment._failed


async def test_another_relay_is_taken_when_one_closes() -> None:
    async with (
        relay(desk=Slow) as second,
        relay() as first,
        client(endpoint(first), endpoint(second)) as peer,
    ):
        await until(lambda: peer.at == endpoint(first))
        for link in list(first._exchange.links):
            link.hang_up()
        await until(lambda: peer.at == endpoint(second))
        assert endpoint(first) in peer.attachment._failed
        assert [one.link.remote for one in peer.changes if one] == [
            endpoint(first),
            endpoint(second),
        ]


async def test_another_relay_is_taken_when_one_dies_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "EXCHANGE_PING", 0.1)
    monkeypatch.setattr(link_module, "REQUEST_TIMEOUT", 0.5)
    async with (
        relay(desk=Slow) as second,
        relay() as first,
        client(endpoint(first), endpoint(second)) as peer,
    ):
        await until(lambda: peer.at == endpoint(first))
        deafen(first._exchange)
        await until(lambda: peer.at == endpoint(second))
        assert endpoint(first) in peer.attachment._failed


async def test_a_relay_that_failed_is_not_chosen_again_for_a_while() -> None:
    async with relay() as desk, client(endpoint(desk)) as peer:
        await until(lambda: peer.at)
        only(desk._exchange).hang_up()
        await until(lambda: peer.attachment.session is None)
        assert await peer.attachment._attach() is False
        peer.attachment._failed.clear()  # RELAY_FAILED_FOR has passed
        assert await peer.attachment._attach() is True


async def test_a_session_is_renewed_and_keeps_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment_module, "SESSION_RENEWAL", 0.02)
    async with relay() as desk, client(endpoint(desk)) as peer:
        await until(lambda: peer.at)
        (session,) = desk.sessions.values()
        first, granted = session.until, session.id
        await until(lambda: next(iter(desk.sessions.values())).until > first)
        assert next(iter(desk.sessions.values())).id == granted
        assert len(peer.changes) == 1


async def test_a_relay_that_renews_no_more_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment_module, "SESSION_RENEWAL", 0.02)
    async with (
        relay() as first,
        relay(desk=Slow) as second,
        client(endpoint(first), endpoint(second)) as peer,
    ):
        await until(lambda: peer.at == endpoint(first))
        first._address = lambda: None
        await until(lambda: peer.at == endpoint(second))


async def test_who_stops_is_attached_no_more_and_says_so() -> None:
    async with relay() as desk:
        async with client(endpoint(desk)) as peer:
            await until(lambda: peer.at)
        assert peer.attachment.session is None
        assert peer.changes[-1] is None
        await until(lambda: desk.load == 0)


async def test_a_stranger_cannot_probe_through_a_relay_without_limit() -> None:
    async with relay() as desk, met(endpoint(desk)) as liar:
        await until(lambda: desk._exchange.links)
        liar.send_bytes(wire.encode(wire.Probe(r=1, p=bytes(20), n=bytes(32))) * 1200)
        await liar.until_cut_off()
        assert not desk._tasks
