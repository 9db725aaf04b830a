"""How much HTTP anybody gets: quotas, connections, and the patience with who takes nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from dhtmeta.const import QUOTA_NETWORKS, SLOW_CLIENT
from dhtmeta.daemon.limits import Door, Quota, network_of
from dhtmeta.node import Node
from tests.daemon.http_server import hung_up, path_of, serving, signed
from tests.daemon.test_http import ended, status_of, with_host


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_address_counts_as_its_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_quota_refills_with_time() -> None:
    quota = Quota(60)
    assert [quota.take("a", 100.0) for _ in range(60)] == [0.0] * 60
    assert quota.take("a", 100.0) == pytest.approx(1.0)
    assert quota.take("a", 100.75) == pytest.approx(0.25)
    assert quota.take("a", 101.0) == 0.0
    assert quota.take("a", 101.0) > 0
    assert [quota.take("a", 9999.0) for _ in range(61)].count(0.0) == 60


def test_a_quota_is_of_one_network_and_of_so_many() -> None:
    quota = Quota(1)
    assert quota.take("a", 0.0) == 0.0
    assert quota.take("b", 0.0) == 0.0
    assert quota.take("a", 0.0) > 0
    for i in range(2 * QUOTA_NETWORKS):
        quota.take(str(i), 0.0)
    assert len(quota._left) == QUOTA_NETWORKS


async def test_who_asks_too_often_is_told_when_to_come_back(writer: Node) -> None:
    async with serving(writer, gets_per_minute=2, puts_per_minute=1) as served:
        gets = [await served.get("/stats") for _ in range(3)]
        forged = await served.get("/stats", headers={"X-Forwarded-For": "192.0.2.1"})
        health = [await served.get("/health") for _ in range(2)]  # a quota of its own
        puts = [await served.put(signed()) for _ in range(2)]
        other = await served.raw(with_host("localhost"), "127.0.0.2")
    assert [one.status for one in gets] == [200, 200, 429]
    assert forged.status == 429
    assert [one.status for one in health] == [200, 200]
    assert [one.status for one in puts] == [201, 429]
    assert 1 <= int(gets[-1].headers["Retry-After"]) <= 31
    assert status_of(other) == 200


async def test_what_is_refused_counts_too(writer: Node) -> None:
    async with serving(writer, gets_per_minute=2) as served:
        statuses = [(await served.get(path)).status for path in ("/no", "/peers?x=1", "/stats")]
    assert statuses == [404, 400, 429]


async def test_one_address_has_so_many_connections(writer: Node) -> None:
    async with serving(writer) as served:
        kept = [await served.connect("127.0.0.2") for _ in range(64)]
        refused = await served.raw(b"", "127.0.0.2")
        assert status_of(refused) == 503
        assert b"too many connections" in refused
        assert status_of(await served.raw(with_host("localhost"), "127.0.0.3")) == 200
        await hung_up(kept.pop()[1])
        async with asyncio.timeout(5):  # the server sees it in its own time
            while status_of(answer := await served.raw(with_host("localhost"), "127.0.0.2")) != 200:
                assert b"too many connections" in answer
        for _, out in kept:
            await hung_up(out)


class Flood(asyncio.Protocol):
    """A protocol that sends more than anybody's buffers hold, as soon as it is connected.

    One that closes has a buffer of its own that is never full.
    """

    def __init__(self, *, closes: bool = False) -> None:
        self._closes = closes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert hasattr(transport, "write")
        assert hasattr(transport, "set_write_buffer_limits")
        if self._closes:
            transport.set_write_buffer_limits(2**27)
        transport.write(b"x" * 2**26)
        if self._closes:
            transport.close()


@contextlib.asynccontextmanager
async def behind(door: Door) -> AsyncIterator[tuple[str, int]]:
    """Listen behind a door, until the end."""
    listening = await asyncio.get_running_loop().create_server(door, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[:2]
    finally:
        listening.close()
        door.close()
        await asyncio.sleep(0)


async def guests(door: Door, count: int) -> None:
    """Wait until so many are inside."""
    async with asyncio.timeout(10):
        while len(door.guests) != count:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("closing", [False, True])
async def test_who_takes_nothing_is_cut_off(closing: bool) -> None:
    now = [100.0]
    door = Door(lambda: Flood(closes=closing), lambda: now[0])
    async with behind(door) as endpoint:
        reader, out = await asyncio.open_connection(*endpoint, limit=1000)
        await guests(door, 1)
        (guest,) = door.guests
        assert guest.stuck_for(now[0]) == 0
        now[0] += SLOW_CLIENT
        assert guest.stuck_for(now[0]) == SLOW_CLIENT
        now[0] += 0.1
        door.drop_slow(now[0])
        await guests(door, 0)
        assert await ended(reader)
        await hung_up(out)


async def test_who_takes_it_late_stays() -> None:
    now = [100.0]
    door = Door(Flood, lambda: now[0])
    async with behind(door) as endpoint:
        reader, out = await asyncio.open_connection(*endpoint)
        await guests(door, 1)
        (guest,) = door.guests
        now[0] += SLOW_CLIENT
        assert guest.stuck_for(now[0]) == SLOW_CLIENT
        await reader.readexactly(2**26)
        async with asyncio.timeout(10):
            while guest.stuck_for(now[0]):
                await asyncio.sleep(0)
        await hung_up(out)


async def test_there_is_room_for_so_many_in_all_and_each() -> None:
    door = Door(asyncio.Protocol, asyncio.get_running_loop().time, most=3, most_each=2)
    async with behind(door) as endpoint:
        opened = [
            await asyncio.open_connection(*endpoint, local_addr=(source, 0))
            for source in ("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3")
        ]
        await guests(door, 3)
        answers = [await opened[i][0].read() for i in (2, 4)]
        assert all(b"too many connections" in answer for answer in answers)
        assert door.refused == 2
        for _, out in opened:
            await hung_up(out)
        await guests(door, 0)
        assert not door._each


async def test_a_slow_reader_of_many_answers_delays_nobody(writer: Node) -> None:
    async with serving(writer, gets_per_minute=100_000) as served:
        _, out = await served.connect("127.0.0.2")
        request = f"GET {path_of(signed())} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        out.write(request.encode() + b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 999)
        async with asyncio.timeout(5):
            assert (await served.get("/health")).status == 200
        await hung_up(out)
