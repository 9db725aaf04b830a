"""Our end of the exchange (QUIC): one UDP socket to be reached at and to dial from, its caps.

Every connection is validated by a retry before it costs anything, is never resumed, and belongs to
a peer who proved its key. Who breaks the rules is cut off; who shows a forged item is, besides, not
met again for a while.
"""

import asyncio
import contextlib
import datetime
import hashlib
import ipaddress
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion
from cachetools import TTLCache
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from dhtmeta.const import (
    CERTIFICATE_DAYS,
    EXCHANGE_IDLE,
    EXCHANGE_LINKS,
    EXCHANGE_LINKS_EACH,
    EXCHANGE_WINDOW,
    FIRST_ROUND_TRIP,
    LINKS_PER_PEER,
    SHUNNED,
    SHUNNED_FOR,
)
from dhtmeta.dht.address import is_local, parse_listen
from dhtmeta.discovery.datagrams import open_datagrams
from dhtmeta.discovery.link import ALPN, Link
from dhtmeta.errors import NetworkUnreachable, NotProven, PortError
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.keys import Identity

log = logging.getLogger(__name__)

Handler = Callable[[Link, Any], None]


class Exchange:
    """Dials and is dialled; `links` lists open connections. Start it before use.

    `identity` gives our key pair, `topics` the hashes of our topics, `dht_port` the UDP port of
    our DHT node. Messages go to who is named `on` their kind; `on_open` and `on_close` hear of
    connections.
    """

    def __init__(
        self,
        listen: str,
        identity: Callable[[], Identity],
        topics: Callable[[], list[bytes]],
        dht_port: Callable[[], int],
    ) -> None:
        self._listen = parse_listen(listen)
        self.identity, self.topics, self.dht_port = identity, topics, dht_port
        self.links: set[Link] = set()
        self.on_open: list[Callable[[Link], None]] = []
        self.on_close: list[Callable[[Link], None]] = []
        self._handlers: dict[type[wire.Message], Handler] = {}
        self._all: set[Link] = set()  # open or not yet
        self._each: Counter[str] = Counter()  # connections that came in, by network
        self._shunned: TTLCache[bytes | Endpoint, str] = TTLCache(SHUNNED, SHUNNED_FOR)
        self._door: _Door | None = None
        self._elsewhere: set[asyncio.DatagramTransport] = set()  # the sockets of single connections
        self._closed = False
        self.certificate = b""
        self._server, self._client = _configurations()

    def on(self, kind: type[wire.Message], handler: Handler) -> None:
        """Call `handler` with the link and each message of that kind."""
        self._handlers[kind] = handler

    async def start(self) -> None:
        """Bind the port; PortError if it is taken."""
        self.certificate = hashlib.sha256(
            self._server.certificate.public_bytes(Encoding.DER)
        ).digest()
        door = _Door(self, self._server)
        try:
            await open_datagrams(door, local=self._listen)
        except OSError as error:
            host, port = self._listen
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise PortError(
                f"cannot listen on {host}:{port} for the exchange: {reason}; stop what uses it, or "
                f"choose another with [exchange] port"
            ) from error
        self._door = door

    @property
    def endpoint(self) -> Endpoint:
        """Where we listen: (ip, UDP port); NetworkUnreachable once closed."""
        host, port = self._open_door().transport.get_extra_info("sockname")[:2]
        return host, port

    def _open_door(self) -> "_Door":
        if self._door is None or self._closed:
            raise NetworkUnreachable("the exchange is closed")
        return self._door

    # connections

    def link_to(self, peer_id: bytes) -> Link | None:
        """Return the open connection with a peer, the newest where there are two."""
        links = [one for one in self.links if one.peer_id == peer_id]
        return max(links, key=lambda one: one.opened_at, default=None)

    @property
    def family(self) -> socket.AddressFamily:
        """The address family of our socket; AF_UNSPEC on [::], which is of both."""
        if self._listen[0] == "::":
            return socket.AF_UNSPEC
        return socket.AF_INET6 if ":" in self._listen[0] else socket.AF_INET

    def can_dial(self, endpoint: Endpoint) -> bool:
        """Whether our socket can send there."""
        theirs = socket.AF_INET6 if ":" in endpoint[0] else socket.AF_INET
        return self.family in (socket.AF_UNSPEC, theirs)

    def shuns(self, who: bytes | Endpoint) -> bool:
        """Whether a peer (id, 20 bytes), or who is at an address, is not to be met."""
        return who in self._shunned

    async def dial(self, endpoint: Endpoint, *, elsewhere: bool = False) -> Link:
        """Connect to (ip, UDP port) and have both sides prove their keys.

        `elsewhere` dials from another port: what comes through that is no answer of a NAT. Raises
        NetworkUnreachable, NotProven or DeadlineExceeded, within DIAL_DEADLINE seconds.
        """
        if endpoint in self._shunned:
            raise NotProven(f"{endpoint[0]} broke the rules lately: {self._shunned[endpoint]}")
        if not self.can_dial(endpoint):
            raise NetworkUnreachable(f"{endpoint[0]} cannot be dialled from {self._listen[0]}")
        connection = QuicConnection(configuration=self._client)
        link = Link(connection, self, outbound=True)
        link.remote = endpoint
        self._all.add(link)
        try:
            if elsewhere:
                await self._from_elsewhere(link)
            else:
                self._open_door().carry(link, connection)
            link.connect(self._address(endpoint))
            await link.ready()
        except ValueError as error:  # an address of the other family: records may have any
            link.hang_up()
            raise NetworkUnreachable(f"{endpoint[0]} cannot be dialled: {error}") from error
        except BaseException:
            link.hang_up()
            raise
        return link

    def _address(self, endpoint: Endpoint) -> tuple[Any, ...]:
        """Return an endpoint as our socket writes who sent what it received."""
        host, port = endpoint
        if self.family == socket.AF_INET:
            return host, port
        return (host if ":" in host else f"::ffff:{host}"), port, 0, 0

    async def _from_elsewhere(self, link: Link) -> None:
        """Give it a socket of its own, which goes with it, or with the exchange."""
        try:
            transport = await open_datagrams(link, local=(self._listen[0], 0))
        except OSError as error:
            raise NetworkUnreachable(f"no socket to dial from: {error.strerror}") from error
        self._elsewhere.add(transport)

        def leave() -> None:
            self._elsewhere.discard(transport)
            transport.close()

        link._connection_terminated_handler = leave
        if self._closed:  # the connection was hung up before it had a socket
            leave()
            raise NetworkUnreachable("the exchange is closed")

    def shun(self, link: Link, why: str) -> None:
        """Close a connection with who broke the rules, and do not meet them for a while."""
        log.debug("%s at %s broke the rules: %s", link.peer_id.hex(), link.remote, why)
        self._shunned[link.peer_id] = why
        if link.outbound:
            self._shunned[link.remote] = why
        link.fail(NotProven(why))

    # what links tell us: see link.House

    def admits(self, link: Link) -> bool:
        """Whether there is room for a connection from there; it is counted in."""
        if self._closed or len(self._all) >= EXCHANGE_LINKS:
            return False
        if not link.outbound:
            network = _network(link.remote[0])
            if not is_local(link.remote[0]) and self._each[network] >= EXCHANGE_LINKS_EACH:
                return False
            self._each[network] += 1
            self._all.add(link)
        return True

    @property
    def is_full(self) -> bool:
        """Whether no new connection is taken."""
        return len(self._all) >= EXCHANGE_LINKS

    def opened(self, link: Link) -> None:
        """Take a connection in whose both sides have proven who they are."""
        if link.peer_id in self._shunned:
            return link.fail(NotProven(self._shunned[link.peer_id]))
        others = sorted(
            (one for one in self.links if one.peer_id == link.peer_id),
            key=lambda one: one.opened_at,
        )
        for older in others[: len(others) + 1 - LINKS_PER_PEER]:
            older.hang_up()
        self.links.add(link)
        for hear in self.on_open:
            hear(link)
        return None

    def heard(self, link: Link, message: wire.Message) -> None:
        """Pass a message on; what nobody here understands is left alone."""
        handler = self._handlers.get(type(message))
        if handler is not None:
            handler(link, message)

    def closed(self, link: Link) -> None:
        """Forget a connection that is over."""
        if link in self._all:
            self._all.discard(link)
            if not link.outbound:
                self._leave(_network(link.remote[0]))
        if link in self.links:
            self.links.discard(link)
            for hear in self.on_close:
                hear(link)

    def _leave(self, network: str) -> None:
        self._each[network] -= 1
        if not self._each[network]:
            del self._each[network]

    async def close(self) -> None:
        """Close every connection, and every socket; peers are told, and not waited for."""
        self._closed = True
        for link in list(self._all):
            link.hang_up()
        await asyncio.sleep(0)  # what closes them is sent
        if self._door is not None:
            self._door.close()
        for transport in self._elsewhere:
            transport.close()
        self._elsewhere.clear()


class _Door(QuicServer):
    """The socket: hands datagrams to connections, whoever dialled them."""

    def __init__(self, exchange: Exchange, configuration: QuicConfiguration) -> None:
        super().__init__(
            configuration=configuration,
            retry=True,  # without it each forged Initial costs 1.4 ms and 90 KiB (FACTS)
            create_protocol=lambda quic, stream_handler: Link(quic, exchange, outbound=False),
        )
        self._exchange = exchange

    @property
    def transport(self) -> asyncio.DatagramTransport:
        """The socket's transport."""
        assert self._transport is not None
        return self._transport

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        """Take a datagram; nobody new is let in where there is no room."""
        assert isinstance(data, bytes)
        if self._exchange.is_full and self._is_new(data):
            return
        super().datagram_received(data, addr)

    def _is_new(self, data: bytes) -> bool:
        """Whether it is a long header for a connection we do not know (RFC 9000, 17.2)."""
        is_long = len(data) > 5 and data[0] >= 0xC0
        return is_long and data[6 : 6 + data[5]] not in self._protocols

    def carry(self, link: Link, connection: QuicConnection) -> None:
        """Let a connection that we dial go through this socket."""
        link.connection_made(self.transport)
        link._connection_id_issued_handler = lambda cid: self._connection_id_issued(cid, link)
        link._connection_id_retired_handler = lambda cid: self._connection_id_retired(cid, link)
        link._connection_terminated_handler = lambda: self._connection_terminated(link)
        self._protocols[connection.host_cid] = link

    def error_received(self, exc: Exception) -> None:
        """Leave an unreachable peer to its connection's deadline."""


def _configurations() -> tuple[QuicConfiguration, QuicConfiguration]:
    """Return how we answer and how we dial: no certificate authority, no tickets, one version."""
    shared: dict[str, Any] = {
        "alpn_protocols": [ALPN],
        "idle_timeout": EXCHANGE_IDLE,
        "max_data": EXCHANGE_WINDOW,
        "max_stream_data": EXCHANGE_WINDOW,
        "initial_rtt": FIRST_ROUND_TRIP,
        "supported_versions": [QuicProtocolVersion.VERSION_1],
    }
    key = Ed25519PrivateKey.generate()
    server = QuicConfiguration(
        is_client=False, certificate=_certificate(key), private_key=key, **shared
    )
    client = QuicConfiguration(is_client=True, verify_mode=ssl.CERT_NONE, **shared)
    return server, client


def _certificate(key: Ed25519PrivateKey) -> x509.Certificate:
    """Sign a certificate that says nothing: the proofs say who we are."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dhtmeta")])
    begins = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + datetime.timedelta(days=CERTIFICATE_DAYS))
        .sign(key, None)
    )


def _network(host: str) -> str:
    """Return the /24 or /64 that an address is of."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host.partition("%")[0])
        length = 24 if address.version == 4 else 64
        return str(ipaddress.ip_network(f"{address}/{length}", strict=False))
    return host
