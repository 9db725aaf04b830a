"""What peers tell of others, liars among them: what is learnt, told on, kept, never believed."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from dhtmeta._fast import ed25519
from dhtmeta.config import Settings
from dhtmeta.const import (
    MAX_SEQ,
    MAX_SHARED,
    MAX_VALUE_BYTES,
    TOLD,
    UNSHOWN,
    WANT_TRIES,
    WANTED_EACH,
)
from dhtmeta.dht.carrier import Carrier
from dhtmeta.discovery import gossip as gossip_module
from dhtmeta.discovery.acquaintance import Acquaintance
from dhtmeta.discovery.around import Around
from dhtmeta.discovery.dialler import Dialler
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.gossip import Gossip
from dhtmeta.discovery.topic import topic_hash
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.connectability import Judge
from dhtmeta.engine.resolve import Resolver
from dhtmeta.errors import NetworkUnreachable
from dhtmeta.krpc import exchange as wire
from dhtmeta.store.store import MEMORY, Store
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NodeRecord
from tests.conftest import Clock
from tests.discovery.ends import Raw, end, met, raw, sent, signed_record, until

NOW = 1_800_000_000.0
HASH = topic_hash("liars")


@dataclass
class Peer:
    """A whole peer: an exchange, what it holds, and what it tells."""

    exchange: Exchange
    cache: RecordCache
    store: Store
    gossip: Gossip
    own: SignedItem
    unshown: list[bytes] = field(default_factory=list)

    @property
    def key(self) -> bytes:
        return self.own.public_key

    def seq_of(self, who: Identity) -> int | None:
        """Return the seq of the record that is held of somebody."""
        held = self.cache.usable(who.peer_id, NOW)
        return None if held is None else held.item.seq

    def entries(self) -> dict[str, int]:
        """Count what is kept in every map that a peer can make grow."""
        talks = self.gossip._talks.values()
        return {
            "wants": len(self.gossip._wants),
            "others": max((len(one.others) for one in self.gossip._wants.values()), default=0),
            "told": max((len(one.told) for one in talks), default=0),
            "news": max((len(one.news) for one in talks), default=0),
            "asked": max((one.asked for one in talks), default=0),
            "cached": self.cache.counters["entries"],
            "known": len(self.store.peers),
            "floors": len(self.cache._floors),
            "links": len(self.exchange._all),
        }


@asynccontextmanager
async def peer(
    identity: Identity | None = None, listen: str = "127.0.0.1:0"
) -> AsyncIterator[Peer]:
    who = identity or Identity.generate()
    store = await Store.open(MEMORY, lambda: NOW)
    cache = RecordCache(store, seed=1)
    own = signed_record(who)
    try:
        async with end(who, listen, HASH) as exchange:
            gossip = Gossip(
                exchange, cache, lambda: store.peers, lambda: own, lambda: NOW, random.Random(1)
            )
            made = Peer(exchange, cache, store, gossip, own)
            gossip.on_unshown = lambda link, key: made.unshown.append(key)
            cache.on_news = gossip.tell
            yield made
            gossip.close()
    finally:
        await store.close()


@asynccontextmanager
async def liar(at: Peer, identity: Identity | None = None) -> AsyncIterator[Raw]:
    """Be met as an honest client that says what the test says; its topics are ours."""
    who = identity or Identity.generate()
    async with raw(at.exchange.endpoint) as client:
        from dhtmeta.discovery.proof import CLIENT, Meeting

        client.send(wire.Hello(k=who.public_key, n=bytes(32), topics=[HASH]))
        welcome = await client.hear(wire.Welcome)
        meeting = Meeting(client.certificate(), bytes(32), welcome.n, who.public_key, welcome.k)
        client.send(wire.Proof(sig=meeting.prove(who, CLIENT)))
        await until(lambda: at.exchange.link_to(who.peer_id))
        yield client


def hints(*pairs: tuple[bytes, int]) -> list[wire.Message]:
    """Return messages with as many hints as fit in each."""
    told = [wire.Hint(key, seq) for key, seq in pairs]
    return [
        wire.Hints(peers=told[start : start + MAX_SHARED])
        for start in range(0, len(told), MAX_SHARED)
    ]


async def settled(client: Raw) -> None:
    """Wait until all that was sent before has been looked at."""
    client.send(wire.Ping(r=99))
    while (await client.hear(wire.Pong)).r != 99:
        pass


# among the honest


async def test_peers_show_each_other_their_own_items() -> None:
    async with peer() as a, peer() as b:
        await a.exchange.dial(b.exchange.endpoint)
        await until(lambda: a.seq_of(b.exchange.identity()) == b.seq_of(a.exchange.identity()) == 1)


async def test_a_hint_leads_to_a_request_and_a_verified_item_is_told_on() -> None:
    """Through a chain: the last hears of the first, whom it never met."""
    first = Identity.generate()
    async with peer() as a, peer() as b, peer() as c:
        await a.exchange.dial(b.exchange.endpoint)
        await b.exchange.dial(c.exchange.endpoint)
        a.gossip.take(signed_record(first, 5))
        await until(lambda: c.seq_of(first) == 5)
        assert b.gossip.counts.wanted >= 1
        a.gossip.take(signed_record(first, 6))
        await until(lambda: c.seq_of(first) == 6)
        assert not b.unshown
        assert not c.unshown


async def test_an_echo_of_what_is_old_does_not_keep_back_what_is_newer() -> None:
    """It crosses with the newer one, which waits to be told."""
    real = Identity.generate()
    async with peer() as a, liar(a) as client:
        a.gossip.take(signed_record(real, 1))
        assert (await client.hear(wire.Hints)).peers == [wire.Hint(real.public_key, 1)]
        a.gossip.take(signed_record(real, 2))
        client.send(*hints((real.public_key, 1)))
        assert (await client.hear(wire.Hints)).peers == [wire.Hint(real.public_key, 2)]


async def test_who_connects_later_hears_of_those_known() -> None:
    known = [Identity.generate() for _ in range(MAX_SHARED)]
    async with peer() as a, peer() as b:
        for one in known:
            a.gossip.take(signed_record(one))
        await a.exchange.dial(b.exchange.endpoint)
        await until(lambda: all(b.seq_of(one) == 1 for one in known))


async def test_what_was_told_is_not_told_again_and_more_is_told_when_asked_for() -> None:
    known = [Identity.generate() for _ in range(MAX_SHARED + 20)]
    async with peer() as a:
        for one in known:
            a.gossip.take(signed_record(one))
        async with liar(a) as client:
            client.send(wire.Ask())
            first = await client.hear(wire.Hints)
            assert len(first.peers) == MAX_SHARED
            client.send(wire.Ask())
            second = await client.hear(wire.Hints)
            told = {hint.k for hint in first.peers + second.peers}
            assert told == {one.public_key for one in known}
            client.send(wire.Ask())
            await settled(client)
            assert client.heard.empty()


async def test_what_the_peer_has_is_not_told() -> None:
    known = [Identity.generate() for _ in range(10)]
    async with peer() as a:
        for one in known:
            a.gossip.take(signed_record(one, 7))
        async with liar(a) as client:
            have = [wire.fingerprint(one.public_key, 7, 99) for one in known[:6]]
            older = wire.fingerprint(known[6].public_key, 6, 99)
            client.send(wire.Ask(salt=99, have=b"".join([*have, older])))
            told = await client.hear(wire.Hints)
            assert {hint.k for hint in told.peers} == {one.public_key for one in known[6:]}


async def test_who_asks_too_often_is_answered_now_and_then() -> None:
    async with peer() as a:
        async with liar(a) as client:
            for _ in range(40):
                a.gossip.take(signed_record(Identity.generate()))
                client.send(wire.Ask())
                await settled(client)
        assert 1 <= a.gossip.counts.told < 40


async def test_who_is_met_is_asked_for_what_we_lack() -> None:
    known = Identity.generate()
    async with peer() as a:
        a.gossip.take(signed_record(known, 5))
        async with liar(a) as client:
            question = await client.hear(wire.Ask)
            assert question.have == wire.fingerprint(known.public_key, 5, question.salt)


async def test_nothing_is_told_of_peers_of_another_topic_but_of_relays() -> None:
    relay, other = Identity.generate(), Identity.generate()
    info = {"is_relay": True, "relay_endpoint": "127.0.0.1:30906"}
    async with peer() as a:
        a.gossip.take(signed_record(relay, topic="elsewhere", info=info))
        a.gossip.take(signed_record(other, topic="elsewhere"))
        assert a.seq_of(other) is None
        async with liar(a) as client:
            client.send(wire.Ask())
            told = await client.hear(wire.Hints)
            assert [hint.k for hint in told.peers] == [relay.public_key]


async def test_who_shares_nothing_tells_nothing() -> None:
    async with peer() as a:
        a.gossip._share = 0
        a.gossip.take(signed_record(Identity.generate()))
        async with liar(a) as client:
            await settled(client)
            client.send(wire.Ask())
            await settled(client)
            assert a.gossip.counts.told == 0


async def test_a_want_is_answered_with_what_is_held_and_what_is_not() -> None:
    known, unknown = Identity.generate(), Identity.generate()
    async with peer() as a:
        a.gossip.take(signed_record(known, 3))
        async with liar(a) as client:
            await client.hear(wire.Items)  # its own
            keys = [known.public_key, unknown.public_key, a.key]
            client.send(wire.Want(keys=keys))
            answer = await client.hear(wire.Items)
            assert [(one.k, one.seq) for one in answer.items] == [
                (known.public_key, 3),
                (a.key, 1),
            ]
            assert answer.none == [unknown.public_key]


# never back


async def test_a_lower_seq_never_replaces_a_higher_one() -> None:
    """Old items are replayed, asked for and not; what is held stays, and nothing is told on."""
    real = Identity.generate()
    old, new = signed_record(real, 4), signed_record(real, 9)
    async with peer() as a, liar(a, real) as owner, liar(a) as client:
        a.gossip.take(new)
        taken = a.gossip.counts.taken
        owner.send(wire.Items(items=[sent(old)]))  # even by who signed it
        client.send(wire.Items(items=[sent(old)]))
        client.send(*hints((real.public_key, 10)))
        assert (await client.hear(wire.Want)).keys == [real.public_key]
        client.send(wire.Items(items=[sent(old)]))
        await settled(client)
        await settled(owner)
        assert a.seq_of(real) == 9
        assert a.gossip.counts.taken == taken
        assert not a.gossip._wants


async def test_an_old_hint_asks_for_nothing() -> None:
    real = Identity.generate()
    async with peer() as a, liar(a) as client:
        a.gossip.take(signed_record(real, 9))
        client.send(*hints((real.public_key, 9), (real.public_key, 3), (a.key, MAX_SEQ)))
        await settled(client)
        assert a.gossip.counts.wanted == 0


async def test_an_item_nobody_asked_for_is_left_alone() -> None:
    real = Identity.generate()
    async with peer() as a, liar(a) as client:
        client.send(wire.Items(items=[sent(signed_record(real))]))
        await settled(client)
        assert a.seq_of(real) is None
        assert a.gossip.counts.taken == 0


async def test_an_item_that_another_was_asked_for_is_left_alone() -> None:
    real = Identity.generate()
    async with peer() as a, liar(a) as asked, liar(a) as other:
        asked.send(*hints((real.public_key, 1)))
        await asked.hear(wire.Want)
        other.send(wire.Items(items=[sent(signed_record(real))], none=[real.public_key]))
        await settled(other)
        assert a.seq_of(real) is None
        assert list(a.gossip._wants) == [real.public_key]


# forgeries


REAL, FORGER = Identity.generate(), Identity.generate()
TRUE = sent(signed_record(REAL, 5))


def changed(**fields: Any) -> wire.Item:
    whole = {name: getattr(TRUE, name) for name in ("k", "seq", "v", "sig")} | fields
    return wire.Item(**whole)


def salted() -> wire.Item:
    item = SignedItem.sign(REAL, TRUE.v, 6, b"salt")
    return wire.Item(item.public_key, item.seq, item.v, item.sig)


FORGED = {
    "another's signature": changed(sig=FORGER.sign(ed25519.signable(5, TRUE.v, b""))),
    "no signature": changed(sig=bytes(64)),
    "a higher seq": changed(seq=6),
    "the highest seq": changed(seq=MAX_SEQ),
    "another value": changed(v=TRUE.v.replace(b"127.0.0.1", b"127.0.0.2")),
    "no bencode": changed(v=b"x", sig=REAL.sign(ed25519.signable(5, b"x", b""))),
    "signed with a salt": salted(),
    "a signature that is a proof": changed(sig=REAL.sign(b"dhtmeta exchange v1\0" + TRUE.v)),
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_item_is_never_learnt_and_who_shows_it_is_shunned(name: str) -> None:
    async with peer() as a, liar(a, FORGER) as client:
        client.send(*hints((REAL.public_key, 6)))
        await client.hear(wire.Want)
        client.send(wire.Items(items=[FORGED[name], TRUE]))
        await client.until_cut_off()
        assert a.seq_of(REAL) is None
        assert a.cache.counters["entries"] == 0
        async with met(a.exchange.endpoint, FORGER) as again:
            await again.until_cut_off()


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_item_does_not_replace_the_true_one(name: str) -> None:
    async with peer() as a, liar(a, FORGER) as client:
        a.gossip.take(signed_record(REAL, 5))
        client.send(*hints((REAL.public_key, 7)))
        await client.hear(wire.Want)
        client.send(wire.Items(items=[FORGED[name]]))
        await until(lambda: client.cut_off or not a.gossip._wants)
        held = a.cache.usable(REAL.peer_id, NOW)
        assert held is not None
        assert (held.item.seq, held.item.v, held.item.sig) == (TRUE.seq, TRUE.v, TRUE.sig)


@pytest.mark.parametrize(
    ("seq", "v"), [(-1, TRUE.v), (5, b"%d:" % MAX_VALUE_BYTES + bytes(MAX_VALUE_BYTES))]
)
async def test_what_no_item_can_be_ends_the_connection(seq: int, v: bytes) -> None:
    async with peer() as a, liar(a) as client:
        client.send(*hints((REAL.public_key, 6)))
        await client.hear(wire.Want)
        client.send(wire.Items(items=[changed(seq=seq, v=v)]))
        await client.until_cut_off()
        assert a.seq_of(REAL) is None


def plain(identity: Identity, value: Any) -> SignedItem:
    return SignedItem.sign(identity, encode_value(value), 1)


def foreign_id(identity: Identity) -> SignedItem:
    record = NodeRecord(peer_id=FORGER.peer_id.hex(), topic="liars", timestamp=int(NOW))
    return plain(identity, record.to_value())


@pytest.mark.parametrize(
    "make",
    [
        foreign_id,
        lambda one: plain(one, b"text"),
        lambda one: plain(one, {b"peer_id": 7}),
        lambda one: plain(one, [b"peer_id"]),
        lambda one: signed_record(one, topic="elsewhere"),
        lambda one: signed_record(one, topic=""),
    ],
    ids=["wrong peer_id", "plain", "no record", "a list", "other topic", "no topic"],
)
async def test_what_is_no_record_of_ours_is_not_learnt(make: Any) -> None:
    """It is truly signed, so that who shows it may be honest: it stays, and is not believed."""
    author = Identity.generate()
    async with peer() as a, liar(a) as client, liar(a, author) as owner:
        client.send(*hints((author.public_key, 1)))
        await client.hear(wire.Want)
        client.send(wire.Items(items=[sent(make(author))]))
        owner.send(wire.Items(items=[sent(make(author))]))
        await settled(client)
        await settled(owner)
        assert a.seq_of(author) is None
        assert not a.store.peers
        assert a.gossip.counts.refused == 2
        assert not a.gossip._wants


# in numbers


async def test_ten_thousand_made_up_peers_cost_little_and_are_never_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gossip_module, "WANT_TIMEOUT", 0.3)
    made_up = [(random.Random(number).randbytes(32), 1) for number in range(10_000)]
    real = Identity.generate()
    async with peer() as a, peer() as honest, liar(a) as client:
        most: dict[str, int] = {}
        messages = hints(*made_up)
        for _ in range(2):
            for message in messages:
                client.send(message)
                if len(client.heard._queue) % 20 == 0:  # type: ignore[attr-defined]
                    await asyncio.sleep(0)
        await until(lambda: a.gossip.counts.hints >= 10_000 or client.cut_off)
        most = a.entries()
        assert most["wants"] <= WANTED_EACH
        assert most["asked"] <= WANTED_EACH
        # what another tells meanwhile gets through
        honest.gossip.take(signed_record(real, 3))
        await honest.exchange.dial(a.exchange.endpoint)
        await until(lambda: a.seq_of(real) == 3)
        await until(lambda: not a.gossip._wants)
        now = a.entries()
        assert now["told"] <= TOLD
        assert now["others"] <= WANT_TRIES
        assert (now["cached"], now["known"], now["floors"]) == (2, 2, 2)
        assert len(a.unshown) <= WANTED_EACH
        assert not {one.hex() for one in a.store.peers} & {
            ed25519.target(key).hex() for key, _ in made_up
        }
        listed = [a.cache.usable(one, NOW) for one in a.store.peers]
        judge = Judge(allow_non_global=True)
        records = [one.record() for one in listed if one is not None]
        connectable = [
            one.peer_id for one in records if one and judge.judge(one, None, NOW).connectable
        ]
        assert sorted(connectable) == sorted(
            [real.peer_id.hex(), honest.exchange.identity().peer_id.hex()]
        )
        assert UNSHOWN < WANTED_EACH  # what of these is looked up is the finder's affair


async def test_of_what_nobody_shows_a_few_are_looked_up(clock: Clock) -> None:
    """Each lookup costs dozens of datagrams: UNSHOWN a minute, whatever liars make up."""
    asked: list[int] = []

    def carrier() -> Carrier:
        asked.append(1)
        raise NetworkUnreachable("no DHT here")

    async with peer() as a, liar(a):
        resolver = Resolver(a.cache, carrier, Judge(), clock)
        around = Around(
            settings=Settings(),
            identity=a.exchange.identity,
            store=a.store,
            resolver=resolver,
            carrier=carrier,
            dht_port=lambda: 0,
            outside=lambda: None,
            clock=clock,
            allow_non_global=True,
        )
        acquaintance = Acquaintance(around, Dialler(a.exchange, lambda endpoint: False))
        (link,) = a.gossip._talks
        for number in range(10_000):
            acquaintance.unshown(link, number.to_bytes(32, "big"))
        assert len(acquaintance._tasks) <= UNSHOWN + 1
        await until(lambda: not acquaintance._tasks)
        assert UNSHOWN <= len(asked) <= UNSHOWN + 1
        assert len(a.store.peers) == 0
        await acquaintance.close()


async def test_hints_of_the_highest_seq_do_not_stop_the_true_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Liars say first that they have something newer, again and again, and never show it."""
    monkeypatch.setattr(gossip_module, "WANT_TIMEOUT", 0.1)
    real = Identity.generate()
    async with peer() as a, peer() as honest, liar(a) as first, liar(a) as second:
        a.gossip.take(signed_record(real, 5))
        await honest.exchange.dial(a.exchange.endpoint)
        await until(lambda: honest.seq_of(real) == 5)
        for client in (first, second):
            client.send(*hints((real.public_key, MAX_SEQ)) * 200)
            await settled(client)
        assert list(a.gossip._wants) == [real.public_key]
        honest.gossip.take(signed_record(real, 6))
        await until(lambda: a.seq_of(real) == 6)


async def test_an_old_item_shown_for_a_high_hint_does_not_stop_the_true_record() -> None:
    real = Identity.generate()
    old = signed_record(real, 5)
    async with peer() as a, peer() as honest, liar(a) as client:
        a.gossip.take(old)
        client.send(*hints((real.public_key, MAX_SEQ)))
        await client.hear(wire.Want)
        honest.gossip.take(signed_record(real, 6))
        await honest.exchange.dial(a.exchange.endpoint)
        await until(lambda: a.gossip._wants[real.public_key].others)
        client.send(wire.Items(items=[sent(old)]))
        await until(lambda: a.seq_of(real) == 6)


async def test_any_number_of_liars_cannot_drive_an_honest_peer_out_for_sure() -> None:
    real = Identity.generate()
    kept = 0
    async with peer() as a:
        links: list[Any] = [object() for _ in range(4 * WANT_TRIES)]
        for _ in range(200):
            want = gossip_module._Want(links[0], 0.0)
            for number, link in enumerate(links[1:]):
                a.gossip._note_other(want, link, number)
                assert len(want.others) <= WANT_TRIES
            kept += links[1] in want.others
        assert 0 < kept < 200
        assert a.seq_of(real) is None


async def test_who_never_answers_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_module, "WANT_TIMEOUT", 0.1)
    real = Identity.generate()
    item = signed_record(real, 2)
    async with peer() as a, liar(a) as silent, liar(a) as knows:
        silent.send(*hints((real.public_key, 2)))
        await silent.hear(wire.Want)
        knows.send(*hints((real.public_key, 2)))
        assert (await knows.hear(wire.Want)).keys == [real.public_key]
        silent.send(wire.Items(items=[sent(item)]))  # too late: it is asked no more
        await settled(silent)
        assert a.seq_of(real) is None
        knows.send(wire.Items(items=[sent(item)]))
        await until(lambda: a.seq_of(real) == 2)
        assert not a.unshown


async def test_who_answers_nothing_for_long_is_asked_nothing_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gossip_module, "WANT_TIMEOUT", 0.05)
    monkeypatch.setattr(gossip_module, "WANTED_EACH", 10)
    real = Identity.generate()
    async with peer() as a, liar(a) as silent, liar(a) as knows:
        silent.send(*hints(*((bytes([number]) * 32, 1) for number in range(10))))
        await until(lambda: len(a.unshown) == 10)
        silent.send(*hints((real.public_key, 9)))
        await settled(silent)
        assert not a.gossip._wants
        knows.send(*hints((real.public_key, 2)))
        await knows.hear(wire.Want)


async def test_what_nobody_has_is_said_once_everybody_was_asked() -> None:
    key = bytes(range(32))
    async with peer() as a, liar(a) as first, liar(a) as second:
        first.send(*hints((key, 1)))
        await first.hear(wire.Want)
        second.send(*hints((key, 1)))
        await settled(second)
        first.send(wire.Items(none=[key]))
        await second.hear(wire.Want)
        assert not a.unshown
        second.send(wire.Items(none=[key]))
        await until(lambda: a.unshown == [key])
        assert not a.gossip._wants


async def test_who_leaves_in_the_middle_is_passed_over() -> None:
    real = Identity.generate()
    item = signed_record(real, 2)
    async with peer() as a, liar(a) as knows:
        async with liar(a) as leaves:
            leaves.send(*hints((real.public_key, 2), (bytes(32), 1)))
            await leaves.hear(wire.Want)
            knows.send(*hints((real.public_key, 2)))
            await settled(knows)
        await knows.hear(wire.Want)
        knows.send(wire.Items(items=[sent(item)]))
        await until(lambda: a.seq_of(real) == 2)
        await until(lambda: a.unshown == [bytes(32)])
        assert len(a.gossip._talks) == 1
        assert not a.gossip._wants


async def test_who_takes_nothing_in_does_not_stop_the_news_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its connection ends while news is told, and that goes on with the next."""
    from dhtmeta.discovery import link as link_module

    real = Identity.generate()
    async with peer() as a, liar(a) as deaf:
        (link,) = a.gossip._talks
        async with peer() as hears:
            await hears.exchange.dial(a.exchange.endpoint)
            await until(lambda: len(a.gossip._talks) == 2)
            await until(lambda: a.seq_of(hears.exchange.identity()))
            deaf.deaf = True
            monkeypatch.setattr(
                link_module, "_unread", lambda quic: 0 if quic is not link._quic else 10**9
            )
            a.gossip.take(signed_record(real, 1))
            await until(lambda: hears.seq_of(real) == 1)
            assert not link.is_open
            a.gossip.take(signed_record(real, 2))
            await until(lambda: hears.seq_of(real) == 2)
