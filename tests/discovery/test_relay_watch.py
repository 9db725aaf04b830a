"""Whom a relay is believed to hold: liars on both sides, and what is done about them."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise

import pytest

from dhtmeta.const import (
    PROBES_AT_ONCE,
    RELAY_WATCH,
    RELAY_WATCH_LAST,
    SESSION_LIFETIME,
)
from dhtmeta.discovery import link as link_module
from dhtmeta.discovery import relay_watch as relay_watch_module
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.proof import probe_bytes
from dhtmeta.discovery.relay import RelayDesk
from dhtmeta.discovery.relay_watch import RelayWatch
from dhtmeta.engine.cache import Cached, RecordCache
from dhtmeta.engine.evidence import Evidence
from dhtmeta.errors import NotProven
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.store.store import MEMORY, Store
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NodeRecord, format_endpoint
from tests.conftest import Clock
from tests.discovery.ends import end, signed_record, until
from tests.discovery.relays import OLD, attach, client, deafen, endpoint, relay


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
