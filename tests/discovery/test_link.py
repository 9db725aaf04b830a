"""Connections with liars: what a peer may say, when, how often, how much it can make us keep."""

import asyncio
import gc
import socket
import time
import weakref
from typing import Any

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicFrameType

from dhtmeta.const import (
    EXCHANGE_BACKLOG,
    EXCHANGE_LINKS_EACH,
    EXCHANGE_MESSAGE_BYTES,
    EXCHANGE_WINDOW,
    LINKS_PER_PEER,
    MESSAGES_BURST,
)
from dhtmeta.discovery import exchange as exchange_module
from dhtmeta.discovery import link as link_module
from dhtmeta.discovery.exchange import Exchange, _configurations
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.proof import CLIENT
from dhtmeta.discovery.sources import ContactSource
from dhtmeta.errors import (
    DeadlineExceeded,
    DhtmetaError,
    NetworkUnreachable,
    NotProven,
    PortError,
    RemoteError,
)
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import pack_endpoint
from dhtmeta.values.keys import Identity
from tests.discovery.ends import TOPIC, Raw, end, met, only, raw, raw_server, rest, until

OURS = Identity.generate()


def faults(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Gather what the loop would log with a traceback."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
    return seen


# the handshake


async def test_another_alpn_is_refused() -> None:
    async with end() as theirs:
        for alpn in ("h3", "dhtmeta/2"):
            async with raw(theirs.endpoint, alpn=alpn, shake=False) as client:
                await client.until_cut_off()
        assert not theirs.links


async def test_a_client_without_an_alpn_is_refused() -> None:
    async with end() as theirs, raw(theirs.endpoint, alpn=None, shake=False) as client:
        await client.until_cut_off()
        assert not theirs.links


async def test_a_server_with_another_alpn_is_left() -> None:
    configuration, _ = _configurations()
    configuration.alpn_protocols = ["h3"]
    async with end() as ours, raw_server(configuration, lambda server: None) as endpoint:
        with pytest.raises(DhtmetaError):
            await ours.dial(endpoint)


async def test_a_server_that_takes_any_alpn_is_left() -> None:
    configuration, _ = _configurations()
    configuration.alpn_protocols = None
    async with end() as ours, raw_server(configuration, lambda server: None) as endpoint:
        with pytest.raises(DhtmetaError):
            await ours.dial(endpoint)


async def test_no_connection_is_resumed() -> None:
    """No ticket is given, and one that a server with our certificate gave is not taken."""
    tickets: list[Any] = []
    async with end() as theirs:
        async with raw(theirs.endpoint, ticket_handler=tickets.append) as client:
            await client.prove(OURS)
            await until(lambda: theirs.links)
        assert not tickets
        tickets += await tickets_of_a_server_that_gives_some(theirs)
        async with raw(theirs.endpoint, session_ticket=tickets[0]) as client:
            shaken = await client.shaken
            assert not shaken.session_resumed
            assert not shaken.early_data_accepted


async def tickets_of_a_server_that_gives_some(theirs: Exchange) -> list[Any]:
    from aioquic.asyncio.server import serve

    given: list[Any] = []
    kept: dict[bytes, Any] = {}
    server = await serve(
        "127.0.0.1",
        0,
        configuration=theirs._server,
        session_ticket_handler=lambda ticket: kept.update({ticket.ticket: ticket}),
        session_ticket_fetcher=kept.get,
    )
    assert server._transport is not None
    endpoint = server._transport.get_extra_info("sockname")[:2]
    async with raw(endpoint, ticket_handler=given.append) as client:
        await until(lambda: given)
        assert not client.cut_off
    async with raw(endpoint, session_ticket=given[0]) as client:
        assert (await client.shaken).session_resumed  # such a ticket would do
    server.close()
    return given


async def test_a_client_that_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "DIAL_DEADLINE", 0.2)
    async with end() as theirs, raw(theirs.endpoint) as client:
        assert len(theirs._all) == 1
        await client.until_cut_off()
        assert not theirs._all


async def test_a_client_that_never_proves_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "DIAL_DEADLINE", 0.3)
    async with end() as theirs, raw(theirs.endpoint) as client:
        await client.greet(OURS)
        await client.until_cut_off()
        assert not theirs._all


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "DIAL_DEADLINE", 0.3)
    configuration, _ = _configurations()
    async with end() as ours, raw_server(configuration, lambda server: None) as endpoint:
        with pytest.raises(DeadlineExceeded, match="no proof within"):
            await ours.dial(endpoint)
        assert not ours._all


async def test_nobody_there_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "DIAL_DEADLINE", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        async with end() as ours:
            with pytest.raises(DeadlineExceeded):
                await ours.dial(deaf.getsockname())
            with pytest.raises(DeadlineExceeded):
                await ours.dial(deaf.getsockname(), elsewhere=True)


async def test_what_was_dialled_from_elsewhere_goes_with_the_exchange() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        async with end() as ours:
            dialling = asyncio.create_task(ours.dial(deaf.getsockname(), elsewhere=True))
            await until(lambda: ours._elsewhere)
            (own,) = ours._elsewhere
            theirs = own.get_extra_info("sockname")
        with pytest.raises(NetworkUnreachable):
            await dialling
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(theirs)  # nobody has it any more


async def test_who_begins_to_dial_while_the_exchange_closes_leaves_no_socket() -> None:
    async with end() as ours:
        dialling = asyncio.create_task(ours.dial(("127.0.0.1", 9), elsewhere=True))
        await asyncio.sleep(0)
        (link,) = ours._all
        while link._transport is None:
            await asyncio.sleep(0)
        assert not ours._elsewhere  # it is not handed over yet
    with pytest.raises(NetworkUnreachable):
        await dialling
    assert link._transport.is_closing()


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("host", ["::1", "2001:db8::1"])
async def test_an_address_of_the_other_family_cannot_be_dialled(host: str, elsewhere: bool) -> None:
    """A liar's record may name any, and whoever dials expects one of our errors."""
    async with end() as ours:
        with pytest.raises(NetworkUnreachable, match="cannot be dialled"):
            await ours.dial((host, 30906), elsewhere=elsewhere)
        assert not rest(ours)


async def test_an_exchange_of_both_families_is_one_that_ipv4_meets_as_ipv4() -> None:
    async with end(listen="[::]:0") as both, end() as ours, end(listen="[::1]:0") as other:
        port = both.endpoint[1]
        link = await ours.dial(("127.0.0.1", port))
        assert link.seen_as == ours.endpoint
        await until(lambda: both.links)
        assert only(both).remote == ours.endpoint
        assert list(both._each) == ["127.0.0.0/24"]
        link.hang_up()
        for peer in (ours, other):
            assert (await both.dial(peer.endpoint)).remote == peer.endpoint
            back = await both.dial(peer.endpoint, elsewhere=True)
            assert back.peer_id == peer.identity().peer_id
            back.hang_up()


def test_a_mapped_address_that_a_peer_tells_is_the_one_it_stands_for() -> None:
    assert link_module._endpoint(pack_endpoint(("::ffff:8.8.4.4", 9))) == ("8.8.4.4", 9)
    assert link_module._endpoint(pack_endpoint(("2001:db8::1", 9))) == ("2001:db8::1", 9)


@pytest.mark.parametrize(
    ("listen", "host"), [("127.0.0.1:0", "81.1.0.1"), ("[::1]:0", "2001:db8::1")]
)
async def test_a_contact_is_dialled_over_the_family_of_our_socket(
    monkeypatch: pytest.MonkeyPatch, listen: str, host: str
) -> None:
    async def both(*_: object, **__: object) -> list[object]:
        found = [(socket.AF_INET6, "2001:db8::1"), (socket.AF_INET, "81.1.0.1")]
        return [(family, 2, 17, "", (one, 30906)) for family, one in found]

    async with end(listen=listen) as ours:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
        source = ContactSource(["seed.example:30906"], ours.family)
        assert [one.endpoint async for one in source.candidates()] == [(host, 30906)]


async def test_a_closed_exchange_dials_nobody() -> None:
    async with end() as theirs:
        async with end() as ours:
            pass
        with pytest.raises(NetworkUnreachable, match="closed"):
            await ours.dial(theirs.endpoint)
        assert not rest(ours)


# uvloop leaves the transport of a bind that fails to the garbage collector, which warns
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_port_that_is_taken_is_named() -> None:
    async with end() as theirs:
        host, port = theirs.endpoint
        other = Exchange(f"{host}:{port}", lambda: OURS, list, lambda: 0)
        with pytest.raises(PortError, match=str(port)):
            await other.start()


# out of turn

BEFORE = [
    wire.Ping(r=1),
    wire.Ask(),
    wire.Proof(sig=bytes(64)),
    wire.Welcome(k=bytes(32), n=bytes(32), sig=bytes(64), you=bytes(6)),
    wire.Want(keys=[]),
    wire.Attach(r=1),
]


@pytest.mark.parametrize("message", BEFORE, ids=lambda one: one.t)
async def test_who_speaks_before_a_hello_is_cut_off(message: wire.Message) -> None:
    async with end() as theirs, raw(theirs.endpoint) as client:
        client.send(message)
        await client.until_cut_off()
        assert not theirs._all
        assert client.heard.empty()


@pytest.mark.parametrize(
    "message", [wire.Ping(r=1), wire.Ask(), wire.Hello(k=bytes(32), n=bytes(32))]
)
async def test_who_speaks_before_it_has_proven_is_cut_off(message: wire.Message) -> None:
    heard: list[wire.Message] = []
    async with end() as theirs, raw(theirs.endpoint) as client:
        theirs.on(type(message), lambda link, one: heard.append(one))
        meeting = await client.greet(OURS)
        client.send(message, wire.Proof(sig=meeting.prove(OURS, CLIENT)))
        await client.until_cut_off()
        assert not theirs.links
        assert not heard


@pytest.mark.parametrize(
    "message",
    [wire.Proof(sig=bytes(64)), wire.Hello(k=bytes(32), n=bytes(32)), BEFORE[3]],
    ids=lambda one: one.t,
)
async def test_the_proofs_cannot_be_begun_anew(message: wire.Message) -> None:
    async with end() as theirs, met(theirs.endpoint) as client:
        client.send(message)
        await client.until_cut_off()
        assert not theirs.links


async def test_a_server_that_speaks_before_its_welcome_is_left() -> None:
    configuration, _ = _configurations()

    def rude(server: Raw) -> None:
        server.on_bytes = lambda data: server.send(wire.Ping(r=1))

    async with end() as ours, raw_server(configuration, rude) as endpoint:
        with pytest.raises(NotProven, match="ping is out of turn"):
            await ours.dial(endpoint)


# on the stream


@pytest.mark.parametrize("data", [b"\xff" * 4, b"\0\0\0\x02de", b"\0\0\0\0", b"GET / HTTP/1.1\r\n"])
async def test_garbage_ends_the_connection(data: bytes) -> None:
    async with end() as theirs, raw(theirs.endpoint) as stranger, met(theirs.endpoint) as known:
        for client in (stranger, known):
            client.send_bytes(data)
            await client.until_cut_off()
        assert not theirs._all


@pytest.mark.parametrize("proven", [False, True])
@pytest.mark.parametrize("stream", [4, 2])
async def test_a_second_stream_ends_the_connection(proven: bool, stream: int) -> None:
    async with end() as theirs, raw(theirs.endpoint) as client:
        if proven:
            await client.prove(OURS)
            await until(lambda: theirs.links)
        client._quic._remote_max_streams_bidi = client._quic._remote_max_streams_uni = 100
        client._quic._remote_max_stream_data_uni = 100
        client.send_bytes(b"\0", stream)
        await client.until_cut_off()
        await until(lambda: not theirs._all)


@pytest.mark.parametrize("proven", [False, True])
async def test_the_end_of_the_stream_ends_the_connection(proven: bool) -> None:
    async with end() as theirs, raw(theirs.endpoint) as client:
        if proven:
            await client.prove(OURS)
            await until(lambda: theirs.links)
        client.send_bytes(wire.encode(wire.Ping(r=1)), end_stream=True)
        await client.until_cut_off()
        assert not theirs._all


@pytest.mark.parametrize("how", ["stop_stream", "reset_stream"])
async def test_a_stream_that_is_stopped_ends_the_connection(how: str) -> None:
    async with end() as theirs, met(theirs.endpoint) as client:
        await until(lambda: theirs.links)
        getattr(client._quic, how)(0, 7)
        client.transmit()
        await client.until_cut_off()
        assert not theirs._all


async def test_who_asks_and_stops_the_stream_at_once_costs_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer would go to a stream that the very same datagram has ended."""
    seen = faults(monkeypatch)
    async with end() as theirs, met(theirs.endpoint) as client:
        await until(lambda: theirs.links)
        client._quic.send_stream_data(0, wire.encode(wire.Ping(r=1)))
        client._quic.stop_stream(0, 7)
        client.transmit()
        await client.until_cut_off()
        assert not theirs._all
    asyncio.get_running_loop().set_exception_handler(None)
    assert not seen


# floods


async def test_who_floods_is_cut_off() -> None:
    heard: list[wire.Message] = []
    async with end() as theirs, met(theirs.endpoint) as client:
        theirs.on(wire.Ask, lambda link, one: heard.append(one))
        client.send_bytes(wire.encode(wire.Ask()) * (MESSAGES_BURST - 10))
        await until(lambda: len(heard) == MESSAGES_BURST - 10)
        assert theirs.links
        client.send_bytes(wire.encode(wire.Ask()) * 2 * MESSAGES_BURST)
        await client.until_cut_off()
        assert not theirs._all
        assert len(heard) < 2 * MESSAGES_BURST


async def test_a_flood_of_answers_nobody_asked_for_is_one() -> None:
    async with end() as theirs, met(theirs.endpoint) as client:
        await until(lambda: theirs.links)
        link = only(theirs)
        client.send_bytes(wire.encode(wire.Pong(r=7)) * 2 * MESSAGES_BURST)
        await client.until_cut_off()
        assert not link._pending


async def test_who_never_reads_is_cut_off() -> None:
    """It asks for much and takes nothing in, which costs a backlog and no more."""
    longest = wire.Refused(r=0, why=bytes(200))
    async with end() as theirs, met(theirs.endpoint) as client:
        await until(lambda: theirs.links)
        link = only(theirs)
        client.deaf = True
        said = 0
        while link.is_open:
            link.say(longest)
            said += len(wire.encode(longest))
        # Of what was said before, something may wait, too.
        assert EXCHANGE_BACKLOG - 2000 < said <= EXCHANGE_BACKLOG + 2000
        assert not theirs._all


async def test_who_reads_slowly_is_not_cut_off() -> None:
    async with end() as theirs, met(theirs.endpoint) as client:
        await until(lambda: theirs.links)
        link, longest = only(theirs), wire.Refused(r=0, why=bytes(200))
        for _ in range(3 * EXCHANGE_BACKLOG // len(wire.encode(longest)) // 1000):
            for _ in range(1000):
                link.say(longest)
            await until(lambda: link_module._unread(link._quic) < EXCHANGE_BACKLOG // 2)
        assert link.is_open
        assert len(client.raw_heard) > EXCHANGE_BACKLOG


def kept(exchange: Exchange) -> int:
    """Return how many bytes are kept that came before those they follow."""
    streams = [stream for link in exchange._all for stream in link._quic._streams.values()]
    return sum(len(stream.receiver._buffer) for stream in streams)


def send_beyond(client: Raw, offset: int, data: bytes, stream: int = 0) -> None:
    """Send a piece of a stream whose begin is missing, past what flow control allows or not."""
    quic = client._quic

    def with_a_gap(builder: Any, path: Any, now: float) -> None:
        from aioquic import tls
        from aioquic.quic.packet import QuicPacketType

        builder.start_packet(QuicPacketType.ONE_RTT, quic._cryptos[tls.Epoch.ONE_RTT])
        buffer = builder.start_frame(QuicFrameType.STREAM_BASE | 4 | 2, capacity=1100)
        buffer.push_uint_var(stream)
        buffer.push_uint_var(offset)
        buffer.push_uint_var(len(data))
        buffer.push_bytes(data)
        del quic.__dict__["_write_application"]

    setattr(quic, "_write_application", with_a_gap)  # noqa: B010
    client.transmit()


@pytest.mark.parametrize("proven", [False, True])
async def test_a_gap_at_the_begin_makes_us_keep_no_more_than_the_window(proven: bool) -> None:
    """As much as flow control allows is sent past a byte that never comes."""
    async with end() as theirs, raw(theirs.endpoint) as client:
        if proven:
            await client.prove(OURS)
            await until(lambda: theirs.links)
        quic, most = client._quic, 0
        stream = quic._get_or_create_stream_for_send(0)
        offset = stream.sender._buffer_stop + 1
        before = offset
        async with asyncio.timeout(20):
            while not client.cut_off and offset + 1000 < before + 40 * EXCHANGE_WINDOW:
                allowed = min(stream.max_stream_data_remote, quic._remote_max_data)
                if offset + 1000 > allowed and most:
                    break  # it may send no more, as it should be
                send_beyond(client, offset, bytes(1000))
                offset += 1000
                if offset % 20_000 < 1000:
                    await asyncio.sleep(0.002)
                    most = max(most, kept(theirs))
        await asyncio.sleep(0.05)
        most = max(most, kept(theirs))
        assert 0.8 * EXCHANGE_WINDOW < most <= EXCHANGE_WINDOW
        send_beyond(client, before + 2 * EXCHANGE_WINDOW, bytes(1000))
        await client.until_cut_off()
        await until(lambda: not theirs._all)


async def test_the_window_slides_with_what_was_read() -> None:
    """However much has come, no more than the window is let in beyond it."""
    async with end() as theirs, met(theirs.endpoint) as client:
        await until(lambda: theirs.links)
        heard: list[wire.Message] = []
        theirs.on(wire.Items, lambda link, one: heard.append(one))
        item = wire.Item(bytes(32), 1, bytes(1000), bytes(64))
        long = wire.encode(wire.Items(items=[item] * 50))
        for _ in range(40):
            client.send_bytes(long)
        await until(lambda: len(heard) == 40)
        link = only(theirs)
        stream = link._quic._streams[0]
        read = stream.receiver.starting_offset()
        assert read > 10 * EXCHANGE_WINDOW
        assert stream.max_stream_data_local <= read + EXCHANGE_WINDOW
        assert link._quic._local_max_data.value <= read + EXCHANGE_WINDOW


async def test_a_message_is_kept_until_it_is_whole_and_no_more() -> None:
    async with end() as theirs, met(theirs.endpoint) as client:
        await until(lambda: theirs.links)
        link = only(theirs)
        body = b"d1:t3:ask1:z65514:" + bytes(65_514) + b"e"
        frame = len(body).to_bytes(4, "big") + body
        client.send_bytes(frame * 5 + frame[:-1])
        await until(lambda: len(link._frames._buffer) == len(frame) - 1)
        assert len(link._frames._buffer) < 4 + EXCHANGE_MESSAGE_BYTES
        assert link.is_open


# room


async def test_a_forged_initial_costs_nothing() -> None:
    """Whoever sends one from an address that is not its own never gets a link made."""
    made: list[Link] = []
    create = Link.__init__

    def counted(self: Link, *args: Any, **options: Any) -> None:
        made.append(self)
        create(self, *args, **options)

    async with end() as theirs:
        client = QuicConnection(configuration=theirs._client)
        client.connect(theirs.endpoint, now=0.0)
        ((initial, _),) = client.datagrams_to_send(now=0.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Link, "__init__", counted)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
                forger.bind(("127.0.0.1", 0))
                forger.setblocking(False)
                for _ in range(500):
                    forger.sendto(initial, theirs.endpoint)
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(5):
                    answer = await loop.sock_recv(forger, 2000)
            assert answer[0] & 0xF0 == 0xF0  # a retry, RFC 9000, 17.2.5
            assert len(answer) < len(initial)
            assert not made
        assert not rest(theirs)


async def test_a_retry_token_is_good_for_its_address_alone() -> None:
    async with end() as theirs:
        connection = QuicConnection(configuration=theirs._client)
        loop = asyncio.get_running_loop()
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as honest,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger,
        ):
            for one in (honest, forger):
                one.bind(("127.0.0.1", 0))
                one.setblocking(False)
            connection.connect(theirs.endpoint, now=0.0)
            ((initial, _),) = connection.datagrams_to_send(now=0.0)
            honest.sendto(initial, theirs.endpoint)
            async with asyncio.timeout(5):
                retry = await loop.sock_recv(honest, 2000)
            connection.receive_datagram(retry, theirs.endpoint, now=0.1)
            ((with_token, _),) = connection.datagrams_to_send(now=0.1)
            forger.sendto(with_token, theirs.endpoint)
            async with asyncio.timeout(5):
                await loop.sock_recv(forger, 2000)  # INVALID_TOKEN
            assert not rest(theirs)
            honest.sendto(with_token, theirs.endpoint)
            await until(lambda: theirs._all)


async def test_there_are_no_more_connections_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange_module, "EXCHANGE_LINKS", 3)
    async with end() as theirs:
        async with met(theirs.endpoint), met(theirs.endpoint), met(theirs.endpoint):
            await until(lambda: len(theirs.links) == 3)
            assert theirs.is_full
            assert theirs._door is not None
            before = len(theirs._door._protocols)
            async with raw(theirs.endpoint, shake=False) as client:
                for size in range(1, 60):  # whatever comes then, at any length
                    assert client._transport is not None
                    client._transport.sendto(b"\xc0" * size, theirs.endpoint)
                    client._transport.sendto(b"\x40" * size, theirs.endpoint)
                first = next(iter(theirs.links))
                await first.measure() if first.outbound else await asyncio.sleep(0.05)
                assert not client.shaken.done()
            assert len(theirs._all) == 3
            assert len(theirs._door._protocols) <= before
        await until(lambda: not theirs._all)
        async with met(theirs.endpoint):
            await until(lambda: theirs.links)


async def test_datagrams_of_any_length_cost_no_traceback_when_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange_module, "EXCHANGE_LINKS", 0)
    async with end() as theirs:
        assert theirs._door is not None
        for size in range(1, 40):
            for first in (0x00, 0x40, 0x80, 0xC0, 0xFF):
                theirs._door.datagram_received(bytes([first]) * size, ("127.0.0.1", 9))


async def test_one_network_cannot_take_all_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A /24 has EXCHANGE_LINKS_EACH; where that was not loopback, which has no such limit."""
    monkeypatch.setattr(exchange_module, "is_local", lambda host: host.startswith("127.0.9."))
    monkeypatch.setattr(exchange_module, "EXCHANGE_LINKS_EACH", 2)
    async with end() as theirs:
        async with (
            raw(theirs.endpoint, "127.0.1.1"),
            raw(theirs.endpoint, "127.0.1.2"),
            raw(theirs.endpoint, "127.0.1.3", shake=False) as third,
            raw(theirs.endpoint, "127.0.2.1"),
            raw(theirs.endpoint, "127.0.9.1"),
            raw(theirs.endpoint, "127.0.9.2"),
            raw(theirs.endpoint, "127.0.9.3"),
        ):
            assert not third.shaken.done()
            assert theirs._each["127.0.1.0/24"] == 2
            assert len(theirs._all) == 6
        await until(lambda: not theirs._all)
        assert not theirs._each
        async with raw(theirs.endpoint, "127.0.1.3"):
            assert len(theirs._all) == 1
    assert EXCHANGE_LINKS_EACH > 2


async def test_one_peer_has_two_connections_and_the_newest_stay() -> None:
    async with end() as ours, end() as theirs:
        dialled = [await ours.dial(theirs.endpoint) for _ in range(LINKS_PER_PEER + 3)]
        await until(lambda: len(theirs.links) == LINKS_PER_PEER)
        await until(lambda: len(ours.links) == LINKS_PER_PEER)
        assert {one for one in dialled if one.is_open} == set(dialled[-LINKS_PER_PEER:])
        assert ours.link_to(only_peer(theirs)) is dialled[-1]


def only_peer(exchange: Exchange) -> bytes:
    return exchange.identity().peer_id


async def test_who_is_shunned_is_not_met_again() -> None:
    liar = Identity.generate()
    async with end() as ours, end(liar) as theirs:
        link = await ours.dial(theirs.endpoint)
        ours.shun(link, "it lied")
        assert not ours.links
        with pytest.raises(NotProven, match="it lied"):
            await ours.dial(theirs.endpoint)
        await theirs.dial(ours.endpoint)  # it cannot know before it has proven who it is
        await until(lambda: not theirs.links)
        async with end(liar, "127.0.0.2:0") as moved:
            with pytest.raises(NotProven, match="it lied"):
                await ours.dial(moved.endpoint)
        assert not ours.links


# requests


async def test_a_request_is_answered_refused_or_given_up() -> None:
    def attach(r: int) -> wire.Message:
        return wire.Attach(r=r)

    async with end() as ours, end() as theirs:
        theirs.on(wire.Attach, lambda link, one: link.say(wire.Refused(r=one.r, why=b"no relay")))
        link = await ours.dial(theirs.endpoint)
        assert (await link.measure()).r == 1
        with pytest.raises(RemoteError, match="no relay"):
            await link.request(attach, wire.Attached)
        with pytest.raises(DeadlineExceeded, match=r"in 0\.05 s"):
            await link.request(lambda r: wire.Held(r=r, peers=[]), wire.Holding, within=0.05)
        theirs.on(wire.Attach, lambda link, one: link.say(wire.Pong(r=one.r)))
        with pytest.raises(NotProven, match="pong is no answer"):
            await link.request(attach, wire.Attached)
        theirs.on(wire.Attach, lambda link, one: link.hang_up())
        with pytest.raises(NetworkUnreachable):
            await link.request(attach, wire.Attached)
        with pytest.raises(NetworkUnreachable, match="closed"):
            await link.request(attach, wire.Attached)
        assert not link._pending


async def test_an_answer_with_another_number_is_none() -> None:
    async with end() as ours, end() as theirs:
        theirs.on(wire.Ping, lambda link, one: link.say(wire.Pong(r=one.r + 1)))
        link = await ours.dial(theirs.endpoint)
        with pytest.raises(DeadlineExceeded):
            await link.request(lambda r: wire.Ping(r=r), wire.Pong, within=0.1)


async def test_a_peer_that_answers_no_ping_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "EXCHANGE_PING", 0.05)
    monkeypatch.setattr(link_module, "REQUEST_TIMEOUT", 0.1)
    async with end() as theirs, met(theirs.endpoint):
        await until(lambda: theirs.links)
        await until(lambda: not theirs._all)


# the end


@pytest.mark.parametrize("state", ["open", "silent", "dialling", "elsewhere", "waiting"])
async def test_close_ends_everything_within_a_second(state: str) -> None:
    """Whatever is under way: nothing is left of it, neither a task nor a timer nor an entry."""
    before = asyncio.all_tasks()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        async with end() as theirs:
            ours = Exchange("127.0.0.1:0", lambda: OURS, lambda: [TOPIC], lambda: 0)
            await ours.start()
            begun: list[asyncio.Task[Any]] = []
            if state == "open":
                await ours.dial(theirs.endpoint)
            elif state == "elsewhere":
                await ours.dial(theirs.endpoint, elsewhere=True)
            elif state == "dialling":
                begun += [asyncio.create_task(ours.dial(deaf.getsockname()))]
                await until(lambda: ours._all)
            elif state == "waiting":
                theirs.on(wire.Ping, lambda link, one: None)
                link = await ours.dial(theirs.endpoint)
                begun += [asyncio.create_task(link.measure())]
                await asyncio.sleep(0)
            async with raw(ours.endpoint) if state == "silent" else raw(theirs.endpoint):
                links = list(ours._all)
                began = time.monotonic()
                await ours.close()
                for task in begun:
                    with pytest.raises(NetworkUnreachable):
                        await task
                assert time.monotonic() - began < 1
                assert not rest(ours)
                await until(lambda: all(one._timer is None for one in links))
            assert all(one._timer_open.cancelled() for one in links)
            assert all(one._pinging is None or one._pinging.cancelled() for one in links)
            assert not [task for one in links for task in one._tasks]
            ours_only = asyncio.all_tasks() - before
            assert not [task for task in ours_only if not task.done()]


async def gone(exchange: Exchange) -> None:
    await until(lambda: not rest(exchange))


async def test_many_connections_leave_nothing_behind() -> None:
    async with end() as ours, end() as theirs:
        begun = list[weakref.ref[Link]]()
        for _ in range(20):
            link = await ours.dial(theirs.endpoint)
            begun += [weakref.ref(one) for one in ours._all | theirs._all]
            link.hang_up()
        for exchange in (ours, theirs):
            await gone(exchange)
        del link
        gc.collect()
        assert len(begun) >= 40
        assert not [one for one in begun if one() is not None]


async def test_the_peer_is_told_of_the_end() -> None:
    gone: list[Link] = []
    async with end() as theirs:
        theirs.on_close.append(gone.append)
        async with end() as ours:
            await ours.dial(theirs.endpoint)
            await until(lambda: theirs.links)
        await until(lambda: gone)
        assert not theirs.links
