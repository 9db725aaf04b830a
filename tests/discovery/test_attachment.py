"""Which relay is chosen, how long it is kept, and when another is taken."""

import asyncio

import pytest

from dhtmeta.const import (
    RELAY_CANDIDATES,
    RELAY_FAILED_FOR,
)
from dhtmeta.discovery import attachment as attachment_module
from dhtmeta.discovery import link as link_module
from dhtmeta.discovery.attachment import _Measured
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.relay import RelayDesk
from dhtmeta.krpc import exchange as wire
from tests.discovery.ends import end, only, until
from tests.discovery.relays import attach, client, deafen, endpoint, relay


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
