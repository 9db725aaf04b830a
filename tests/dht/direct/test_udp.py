"""Our socket on real loopback: what comes in together, what is cut, and what cannot be sent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from dhtmeta.const import MAX_DATAGRAM_BYTES, RECEIVE_BATCH
from dhtmeta.dht.address import format_address
from dhtmeta.dht.direct import udp as module
from dhtmeta.dht.direct.udp import Datagrams, UdpSocket
from dhtmeta.errors import CallerError, MalformedMessage, PortError
from dhtmeta.krpc.codec import decode
from dhtmeta.krpc.compact import Endpoint

WAIT = 10.0  # s: far above what anything here takes


class Box:
    """What came in, batch by batch."""

    def __init__(self) -> None:
        self.batches: list[Datagrams] = []
        self._came = asyncio.Event()

    def take(self, datagrams: Datagrams) -> None:
        self.batches.append(datagrams)
        self._came.set()

    @property
    def all(self) -> Datagrams:
        return [one for batch in self.batches for one in batch]

    async def until(self, count: int) -> Datagrams:
        """Return all that came once so many did."""
        async with asyncio.timeout(WAIT):
            while len(self.all) < count:
                self._came.clear()
                await self._came.wait()
        return self.all


Pair = tuple[UdpSocket, Box]


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Callable[[], Awaitable[Pair]]]:
    """Open sockets on loopback, and close them when the test ends."""
    sockets: list[UdpSocket] = []

    async def one(listen: str = "127.0.0.1:0") -> Pair:
        udp, box = UdpSocket(listen), Box()
        udp.open(box.take)
        sockets.append(udp)
        return udp, box

    yield one
    for udp in sockets:
        udp.close()


Open = Callable[[], Awaitable[Pair]]


async def test_what_is_sent_comes_in_with_who_sent_it(opened: Open) -> None:
    (one, mine), (other, theirs) = await opened(), await opened()
    one.send([(b"hello", other.endpoint), (b"again", other.endpoint)])
    assert await theirs.until(2) == [(b"hello", one.endpoint), (b"again", one.endpoint)]
    other.send([(b"back", one.endpoint)])
    assert await mine.until(1) == [(b"back", other.endpoint)]


async def test_what_came_together_is_handed_over_together_up_to_a_batch(opened: Open) -> None:
    (one, _), (other, box) = await opened(), await opened()
    sent = [(b"%d" % i, other.endpoint) for i in range(RECEIVE_BATCH + 10)]
    one.send(sent)  # all before the loop can read any
    assert [data for data, _ in await box.until(len(sent))] == [data for data, _ in sent]
    assert [len(batch) for batch in box.batches] == [RECEIVE_BATCH, 10]


async def test_a_datagram_that_is_too_large_is_cut_and_then_malformed(opened: Open) -> None:
    (one, _), (other, box) = await opened(), await opened()
    largest = b"d1:rd2:id20:" + bytes(20) + b"1:x%d:%be1:t1:a1:y1:re"
    padding = MAX_DATAGRAM_BYTES - len(largest % (1000, b""))
    exact = largest % (padding, bytes(padding))
    longer = largest % (padding + 5000, bytes(padding + 5000))
    one.send([(exact, other.endpoint), (longer, other.endpoint)])
    (whole, _), (cut, _) = await box.until(2)
    assert whole == exact
    assert len(whole) == MAX_DATAGRAM_BYTES
    decode(whole)
    assert len(cut) == MAX_DATAGRAM_BYTES + 1
    with pytest.raises(MalformedMessage, match="4097 bytes"):
        decode(cut)


async def test_an_empty_datagram_is_one_too(opened: Open) -> None:
    (one, _), (other, box) = await opened(), await opened()
    one.send([(b"", other.endpoint), (b"x", other.endpoint)])
    assert await box.until(2) == [(b"", one.endpoint), (b"x", one.endpoint)]


@pytest.mark.parametrize(
    "to",
    [("255.255.255.255", 9), ("::1", 9), ("127.0.0.1", 0), ("127.0.0.1", 70_000)],
    ids=["broadcast", "other family", "port 0", "no port"],
)
async def test_what_cannot_be_sent_is_lost_alone(opened: Open, to: Endpoint) -> None:
    (one, _), (other, box) = await opened(), await opened()
    one.send([(b"1", other.endpoint), (b"lost", to), (b"2", other.endpoint)])
    assert [data for data, _ in await box.until(2)] == [b"1", b"2"]


async def test_an_error_between_datagrams_loses_none(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Erring(socket.socket):
        """A socket that tells an ICMP error of something sent before, as some systems do."""

        calls = 0

        def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, Endpoint]:
            Erring.calls += 1
            if Erring.calls == 2:
                raise ConnectionResetError
            return super().recvfrom(size, flags)

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Erring)
        one, mine = await opened()
    other, _ = await opened()
    other.send([(b"1", one.endpoint), (b"2", one.endpoint)])
    assert [data for data, _ in await mine.until(2)] == [b"1", b"2"]


async def test_a_full_buffer_lets_them_wait_in_order_up_to_a_cap(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(socket.socket):
        """A socket whose buffer takes one datagram, until it has been waited for."""

        room = 1

        def sendto(self, data: bytes, to: Endpoint) -> int:  # type: ignore[override]
            if Full.room == 0:
                raise BlockingIOError
            Full.room -= 1
            return super().sendto(data, to)

    monkeypatch.setattr(module, "SEND_BACKLOG", 5)
    other, box = await opened()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Full)
        one, _ = await opened()
    numbered = [(b"%d" % i, other.endpoint) for i in range(12)]
    one.send(numbered[:4])
    Full.room = 100
    one.send(numbered[4:])  # not before those that wait
    await box.until(6)
    one.send([(b"last", other.endpoint)])
    assert [data for data, _ in await box.until(7)] == [b"0", b"1", b"2", b"3", b"4", b"5", b"last"]


async def test_of_a_batch_larger_than_the_cap_the_rest_is_lost(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(socket.socket):
        room = 0

        def sendto(self, data: bytes, to: Endpoint) -> int:  # type: ignore[override]
            if Full.room == 0:
                raise BlockingIOError
            return super().sendto(data, to)

    monkeypatch.setattr(module, "SEND_BACKLOG", 5)
    other, box = await opened()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Full)
        one, _ = await opened()
    one.send([(b"%d" % i, other.endpoint) for i in range(20)])
    one.send([(b"more", other.endpoint)] * 20)
    Full.room = 1
    await box.until(5)
    one.send([(b"last", other.endpoint)])
    assert [data for data, _ in await box.until(6)] == [b"0", b"1", b"2", b"3", b"4", b"last"]


async def test_a_busy_port_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = format_address(taken.getsockname())
        with pytest.raises(PortError, match=f"cannot listen on {address}"):
            UdpSocket(address).open(lambda datagrams: None)


def test_a_name_is_no_address_to_listen_on() -> None:
    with pytest.raises(CallerError, match="IP:PORT"):
        UdpSocket("example.org:6881")


async def test_ipv6_works_where_the_machine_has_it() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    one, other = UdpSocket("[::1]:0"), UdpSocket("[::1]:0")
    box = Box()
    try:
        one.open(box.take)
    except PortError:
        pytest.skip("no IPv6 loopback")
    other.open(box.take)
    other.send([(b"six", one.endpoint)])
    assert await box.until(1) == [(b"six", other.endpoint)]
    assert one.endpoint[0] == "::1"
    one.close()
    other.close()


async def test_closing_twice_is_fine_and_frees_the_port(opened: Open) -> None:
    one, _ = await opened()
    address = format_address(one.endpoint)
    one.close()
    one.close()
    one.send([(b"x", ("127.0.0.1", 9))])
    again = UdpSocket(address)
    again.open(lambda datagrams: None)
    assert format_address(again.endpoint) == address
    again.close()


async def test_it_can_be_closed_by_whom_it_hands_datagrams(opened: Open) -> None:
    other, _ = await opened()
    closed = asyncio.Event()

    def close(datagrams: Datagrams) -> None:
        one.close()
        closed.set()

    one = UdpSocket("127.0.0.1:0")
    one.open(close)
    other.send([(b"x", one.endpoint)] * 3)
    async with asyncio.timeout(WAIT):
        await closed.wait()
