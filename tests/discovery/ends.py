"""Both ends of an exchange for tests: honest ones, and raw QUIC that says whatever it is told."""

import asyncio
import hashlib
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography.hazmat.primitives.serialization import Encoding

from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.link import ALPN, Link
from dhtmeta.discovery.proof import CLIENT, SERVER, Meeting
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NetworkInfo, NodeRecord

WITHIN = 10.0  # s: far above what anything here takes
TOPIC = hashlib.sha1(b"liars").digest()


async def until(true: Callable[[], object]) -> None:
    """Wait until that is true."""
    async with asyncio.timeout(WITHIN):
        while not true():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def end(
    identity: Identity | None = None, listen: str = "127.0.0.1:0", topic: bytes = TOPIC
) -> AsyncIterator[Exchange]:
    """Run an honest end, which answers pings."""
    who = identity or Identity.generate()
    exchange = Exchange(listen, lambda: who, lambda: [topic], lambda: 0)
    exchange.on(wire.Ping, lambda link, ping: link.say(wire.Pong(r=ping.r)))
    await exchange.start()
    try:
        yield exchange
    finally:
        await exchange.close()
        await until(lambda: not rest(exchange))


def rest(exchange: Exchange) -> list[object]:
    """Return what is left of connections."""
    assert exchange._door is not None
    return [*exchange._all, *exchange.links, *exchange._each, *exchange._door._protocols]


def only(exchange: Exchange) -> Link:
    """Return the one open connection."""
    (link,) = exchange.links
    return link


def signed_record(
    identity: Identity, seq: int = 1, topic: str = "liars", **fields: Any
) -> SignedItem:
    """Sign a NodeRecord of `topic`; `info` are fields of its network_info."""
    info = {"node_type": "public", "public_ip": "127.0.0.1", "public_port": 30906}
    info |= fields.pop("info", {})
    record = NodeRecord(
        peer_id=identity.peer_id.hex(),
        topic=topic,
        timestamp=fields.pop("timestamp", 1_800_000_000),
        network_info=NetworkInfo(**info),  # type: ignore[arg-type]
        **fields,
    )
    return SignedItem.sign(identity, encode_value(record.to_value()), seq)


def sent(item: SignedItem) -> wire.Item:
    """Return an item as it travels."""
    return wire.Item(item.public_key, item.seq, item.v, item.sig)


class Raw(QuicConnectionProtocol):
    """A side of a connection that keeps to no rule; `heard` are the messages that came in."""

    def __init__(self, quic: QuicConnection, stream_handler: object = None) -> None:
        super().__init__(quic)
        self.heard: asyncio.Queue[wire.Message] = asyncio.Queue()
        self.raw_heard = bytearray()
        self.shaken: asyncio.Future[events.HandshakeCompleted] = self._loop.create_future()
        self.tickets: list[Any] = []
        self.on_bytes: Callable[[bytes], None] = lambda data: None
        self.on_shaken: Callable[[], None] = lambda: None
        self.gone = asyncio.Event()
        self.deaf = False  # whether datagrams are left unread
        self._frames = wire.Frames()

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        if not self.deaf:
            super().datagram_received(data, addr)

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.HandshakeCompleted):
            if not self.shaken.done():
                self.shaken.set_result(event)
            self.on_shaken()
        elif isinstance(event, events.StreamDataReceived):
            self.raw_heard += event.data
            self.on_bytes(event.data)
            for message in self._frames.feed(event.data):
                self.heard.put_nowait(message)
        elif isinstance(event, events.ConnectionTerminated):
            self.gone.set()
            if not self.shaken.done():
                self.shaken.cancel()

    @property
    def cut_off(self) -> bool:
        """Whether the other side has closed it (or it is over)."""
        return self._quic._close_event is not None

    async def until_cut_off(self) -> None:
        """Wait until the other side closes it."""
        await until(lambda: self.cut_off)

    def send(self, *messages: wire.Message) -> None:
        """Send messages at once, in order or not."""
        self.send_bytes(b"".join(map(wire.encode, messages)))

    def send_bytes(self, data: bytes, stream: int = 0, *, end_stream: bool = False) -> None:
        """Send bytes on a stream."""
        self._quic.send_stream_data(stream, data, end_stream)
        self.transmit()

    def certificate(self) -> bytes:
        """Return SHA-256 of the server's certificate."""
        peer = self._quic.tls._peer_certificate
        assert peer is not None
        return hashlib.sha256(peer.public_bytes(Encoding.DER)).digest()

    async def hear(self, kind: type[Any]) -> Any:
        """Return the next message of that kind; others are passed by."""
        async with asyncio.timeout(WITHIN):
            while not isinstance(message := await self.heard.get(), kind):
                pass
        return message

    async def greet(self, identity: Identity, nonce: bytes = b"") -> Meeting:
        """Say hello as `identity`, check the welcome, and return what is to be signed."""
        nonce = nonce or secrets.token_bytes(32)
        self.send(wire.Hello(k=identity.public_key, n=nonce, topics=[TOPIC]))
        welcome = await self.hear(wire.Welcome)
        meeting = Meeting(self.certificate(), nonce, welcome.n, identity.public_key, welcome.k)
        meeting.check(SERVER, welcome.sig)
        return meeting

    async def prove(self, identity: Identity) -> None:
        """Do as an honest client does."""
        meeting = await self.greet(identity)
        self.send(wire.Proof(sig=meeting.prove(identity, CLIENT)))


@asynccontextmanager
async def raw(
    endpoint: Endpoint, local: str = "127.0.0.1", alpn: str | None = ALPN, **options: Any
) -> AsyncIterator[Raw]:
    """Shake hands with `endpoint` as a client, and no more than that."""
    shake = options.pop("shake", True)
    ticket_handler = options.pop("ticket_handler", None)
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=[alpn] if alpn else None,
        verify_mode=ssl.CERT_NONE,
        **options,
    )
    connection = QuicConnection(configuration=configuration, session_ticket_handler=ticket_handler)
    transport, client = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Raw(connection), local_addr=(local, 0)
    )
    client.connect(endpoint)
    try:
        if shake:
            async with asyncio.timeout(WITHIN):
                await client.shaken
        yield client
    finally:
        client.close()
        transport.close()


@asynccontextmanager
async def met(endpoint: Endpoint, identity: Identity | None = None) -> AsyncIterator[Raw]:
    """Be met by `endpoint` as an honest client is, then do as the test says."""
    async with raw(endpoint) as client:
        await client.prove(identity or Identity.generate())
        yield client


@asynccontextmanager
async def raw_server(
    configuration: QuicConfiguration, serve: Callable[[Raw], None]
) -> AsyncIterator[Endpoint]:
    """Take connections with that certificate; `serve` hears of each and does what it likes."""

    def create(quic: QuicConnection, stream_handler: object = None) -> Raw:
        protocol = Raw(quic)
        serve(protocol)
        return protocol

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: QuicServer(configuration=configuration, create_protocol=create),
        local_addr=("127.0.0.1", 0),
    )
    try:
        yield transport.get_extra_info("sockname")[:2]
    finally:
        transport.close()
