"""Being a relay: sessions, probes, and how much of either anybody has."""

import asyncio

import pytest

from dhtmeta._fast import ed25519
from dhtmeta.const import (
    PROBES_PER_SECOND,
    SESSION_LIFETIME,
)
from dhtmeta.discovery import relay as relay_module
from dhtmeta.discovery.proof import probe_bytes
from dhtmeta.discovery.relay import RelayDesk
from dhtmeta.errors import RemoteError
from dhtmeta.krpc import exchange as wire
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import format_endpoint
from tests.discovery.ends import end, met, only, until
from tests.discovery.relays import attach, client, endpoint, probe, relay

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


async def test_a_stranger_cannot_probe_through_a_relay_without_limit() -> None:
    async with relay() as desk, met(endpoint(desk)) as liar:
        await until(lambda: desk._exchange.links)
        liar.send_bytes(wire.encode(wire.Probe(r=1, p=bytes(20), n=bytes(32))) * 1200)
        await liar.until_cut_off()
        assert not desk._tasks
