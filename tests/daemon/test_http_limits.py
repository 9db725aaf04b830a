"""How much HTTP anybody gets: quotas, connections, and the patience with who takes nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from dhtmeta.const import QUOTA_NETWORKS, QUOTA_PER_48, SLOW_CLIENT
from dhtmeta.daemon import records
from dhtmeta.daemon.limits import Door
from dhtmeta.daemon.quotas import AddressQuota, CommonQuota, Quota, networks_of
from dhtmeta.daemon.responses import Refused
from dhtmeta.node import Node
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem
from dhtmeta.values.signed_file import to_signed_file
from tests.conftest import Clock, make_node
from tests.daemon.http_server import JSON, hung_up, path_of, serving, signed
from tests.daemon.test_http import ended, status_of, with_host


@pytest.mark.parametrize(
    ("address", "networks"),
    [
        ("192.0.2.1", ("192.0.2.1",)),
        ("::ffff:192.0.2.1", ("192.0.2.1",)),
        ("2001:db8:1:2:3:4:5:6", ("2001:db8:1:2::/64", "2001:db8:1::/48")),
        ("fe80::1%eth0", ("fe80::/64", "fe80::/48")),
        ("", ("",)),
    ],
)
def test_an_address_counts_as_its_networks(address: str, networks: tuple[str, ...]) -> None:
    assert networks_of(address) == networks


def taken(quota: Quota, network: str, now: float) -> float:
    """Take one if there is one; returns the wait if there is none."""
    wait = quota.wait(network, now)
    if not wait:
        quota.take(network, now)
    return wait


def test_a_quota_refills_with_time() -> None:
    quota = Quota(60)
    assert [taken(quota, "a", 100.0) for _ in range(60)] == [0.0] * 60
    assert taken(quota, "a", 100.0) == pytest.approx(1.0)
    assert taken(quota, "a", 100.75) == pytest.approx(0.25)
    assert taken(quota, "a", 101.0) == 0.0
    assert taken(quota, "a", 101.0) > 0
    assert [taken(quota, "a", 9999.0) for _ in range(61)].count(0.0) == 60


@pytest.mark.parametrize("per_minute", [1, 7, 600, 10_000])
def test_a_quota_is_exact_whatever_the_time(per_minute: int) -> None:
    quota = Quota(per_minute)
    waits = [taken(quota, "a", 1_234_567.891) for _ in range(per_minute + 5)]
    assert waits.count(0.0) == per_minute


def test_a_quota_is_of_one_network_and_of_so_many() -> None:
    quota = Quota(1)
    assert taken(quota, "a", 0.0) == 0.0
    assert taken(quota, "b", 0.0) == 0.0
    for i in range(2 * QUOTA_NETWORKS):
        taken(quota, str(i), 0.0)
    assert len(quota._whole) == QUOTA_NETWORKS
    assert taken(quota, "a", 0.0) > 0


def test_only_a_quota_that_is_whole_again_is_forgotten() -> None:
    quota = Quota(60, most=3)
    for network, count in (("used up", 60), ("half", 30), ("one", 1)):
        for _ in range(count):
            assert taken(quota, network, 0.0) == 0.0
    assert taken(quota, "another", 0.5) > 0
    assert taken(quota, "one", 0.5) == 0.0  # who is counted already does not wait for room
    assert taken(quota, "another", 2.5) == 0.0
    assert set(quota._whole) == {"used up", "half", "another"}
    assert taken(quota, "yet another", 2.5) > 0
    assert [taken(quota, "used up", 3.0) for _ in range(4)].count(0.0) == 3


def refused(quota: AddressQuota, address: str, now: float = 0.0) -> bool:
    """Whether one more is refused."""
    with contextlib.suppress(Refused):
        quota.take(address, now)
        return False
    return True


def test_a_whole_48_has_a_quota_too() -> None:
    quota = AddressQuota(30)
    let_in = [
        not refused(quota, f"2001:db8:1:{i:x}::1") for i in range(QUOTA_PER_48) for _ in range(31)
    ]
    assert sum(let_in) == 30 * QUOTA_PER_48
    assert refused(quota, "2001:db8:1:ffff::1")
    assert not refused(quota, "2001:db8:2::1")
    assert not refused(quota, "192.0.2.1")
    quota.apply(60)
    assert refused(quota, "2001:db8:1:ffff::1", 0.09)
    assert not refused(quota, "2001:db8:1:ffff::1", 0.11)


def test_what_one_quota_refuses_is_not_taken_from_the_other() -> None:
    quota = AddressQuota(1)
    assert [refused(quota, "2001:db8:1::1") for _ in range(1 + 2 * QUOTA_PER_48)].count(False) == 1
    assert not refused(quota, "2001:db8:1:1::1")


def test_a_common_quota_is_of_everybody() -> None:
    quota = CommonQuota(2)
    quota.take(0.0)
    quota.take(0.0)
    with pytest.raises(Refused, match="next in 30") as caught:
        quota.take(0.0)
    assert (caught.value.status, caught.value.retry_after) == (429, 30)
    quota.apply(6)
    quota.take(10.0)


async def test_who_has_a_record_renewed_ahead_of_his_next_query_asks_the_network(
    own_swarm: Swarm, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "GETS_IN_ALL", 2)
    held, start = signed(), clock.now
    codes: list[int] = []
    async with (
        make_node(own_swarm, tmp_path, clock=clock) as node,
        serving(node, gets_per_minute=1) as served,
    ):
        assert (await served.put(held)).status == 201
        for share in (0.0, 0.46, 0.92, 0.93):  # of its lifetime; the third counts as a lookup
            cached = node._resolver.cache.usable(held.target, start)
            clock.now = start + share * (cached.fresh_until - start if cached else 0.0)
            address = f"127.0.1.{len(codes) + 1}"
            codes.append(status_of(await served.raw(asking(path_of(held)), address)))
        assert list(node._resolver._ahead) == [held.target]
        codes.append(status_of(await served.raw(asking(path_of(signed())), "127.0.1.9")))
    assert codes == [200, 200, 200, 200, 429]


async def test_all_together_may_ask_the_network_so_often(
    writer: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "GETS_IN_ALL", 3)
    monkeypatch.setattr(records, "PUTS_IN_ALL", 2)
    held = signed()
    async with serving(writer, gets_per_minute=1, puts_per_minute=1) as served:
        bodies: tuple[SignedItem | bytes, ...] = (b"no signed file", held, signed(), signed())
        puts = [
            await put_from(f"127.0.0.{i}", body, *served.server.endpoint)
            for i, body in enumerate(bodies, 2)
        ]
        asked: list[tuple[int, int]] = []
        for path in (
            path_of(held),  # which is looked up
            path_of(held),  # and held now
            path_of(missing := signed()),
            path_of(missing),
            path_of(held, "?policy=cache-only"),
            path_of(held, "?policy=freshest"),
            path_of(held, "?policy=freshest"),
            path_of(signed()),
            path_of(held),
        ):
            before = writer.counters["lookups"]
            answer = await served.raw(asking(path), f"127.0.1.{len(asked) + 1}")
            asked.append((status_of(answer), writer.counters["lookups"] - before))
    assert puts == [422, 201, 201, 429]  # what is sent to nobody counts for nobody
    assert asked == [
        *((200, 1), (200, 0), (404, 1), (404, 0), (200, 0), (200, 1)),
        *((429, 0), (429, 0), (200, 0)),
    ]


async def test_all_together_get_no_less_than_one_address_does(
    writer: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PUTS_IN_ALL", 1)
    async with serving(writer, puts_per_minute=2) as served:
        assert [(await served.put(signed())).status for _ in range(3)] == [201, 201, 429]


def asking(path: str) -> bytes:
    """Return a GET of a path."""
    return with_host("localhost").replace(b"/ready", path.encode())


async def put_from(source: str, item: SignedItem | bytes, host: str, port: int) -> int:
    """Put an item, or something else, from an address of this machine; returns the status."""
    body = item if isinstance(item, bytes) else to_signed_file(item).encode()
    path = path_of(signed() if isinstance(item, bytes) else item)
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.put(f"http://{host}:{port}{path}", data=body, headers=JSON) as answer,
    ):
        return answer.status


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


class From(asyncio.Transport):
    """A connection from an address that this machine has not."""

    closed = False

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 40_000)})

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert b"too many connections" in data

    def close(self) -> None:
        self.closed = True


def connected(door: Door, address: str) -> bool:
    """Whether one more connection from there is let in."""
    transport = From(address)
    door().connection_made(transport)
    return not transport.closed


@pytest.mark.parametrize("home", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_some_connections_are_for_this_machine_alone(home: str) -> None:
    door = Door(asyncio.Protocol, lambda: 0.0, most=5, most_local=2, most_each=3)
    strangers = ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.3", "192.0.2.4", "fe80::1%eth0")
    assert [connected(door, one) for one in strangers] == [True, True, True, False, False]
    assert [connected(door, home) for _ in range(3)] == [True, True, False]


async def test_a_slow_reader_of_many_answers_delays_nobody(writer: Node) -> None:
    async with serving(writer, gets_per_minute=100_000) as served:
        _, out = await served.connect("127.0.0.2")
        request = f"GET {path_of(signed())} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        out.write(request.encode() + b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 999)
        async with asyncio.timeout(5):
            assert (await served.get("/health")).status == 200
        await hung_up(out)
