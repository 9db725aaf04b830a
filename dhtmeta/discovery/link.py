"""One connection of the exchange: the proofs at its begin, then messages, requests and answers.

The client opens the one stream there is, and speaks first. Until both have proven their keys
nothing else is said or heard, and that has DIAL_DEADLINE seconds. What a peer can make grow is
bounded: what it sends unread (window.py), what we send unread (EXCHANGE_BACKLOG), how often.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from cryptography.hazmat.primitives.serialization import Encoding

from dhtmeta.const import (
    DIAL_DEADLINE,
    EXCHANGE_BACKLOG,
    EXCHANGE_PING,
    EXCHANGE_WINDOW,
    MESSAGES_BURST,
    MESSAGES_PER_SECOND,
    REQUEST_TIMEOUT,
)
from dhtmeta.dht.address import unmapped
from dhtmeta.discovery.proof import CLIENT, SERVER, Meeting
from dhtmeta.discovery.window import bound
from dhtmeta.errors import (
    DeadlineExceeded,
    DhtmetaError,
    MalformedMessage,
    NetworkUnreachable,
    NotProven,
    RemoteError,
)
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint, pack_endpoint, unpack_endpoint
from dhtmeta.values.keys import Identity
from dhtmeta.values.node_id import peer_id

ALPN = "dhtmeta/1"
_STREAM = 0  # the first that a client opens
_ANSWERS = (wire.Pong, wire.Attached, wire.Holding, wire.Probed, wire.Dialled, wire.Refused)
Answer = TypeVar("Answer", bound=wire.Message)


class House(Protocol):
    """Whose connection it is: what a link needs of the exchange."""

    certificate: bytes  # SHA-256 of ours

    def identity(self) -> Identity:
        """Return who we are."""

    def topics(self) -> list[bytes]:
        """Return the hashes of our topics, 20 bytes each."""

    def dht_port(self) -> int:
        """Return the UDP port of our DHT node, 0 where there is none."""

    def admits(self, link: "Link") -> bool:
        """Whether there is room for a connection from there."""

    def opened(self, link: "Link") -> None:
        """Take it in: both sides have proven who they are."""

    def heard(self, link: "Link", message: wire.Message) -> None:
        """Take a message that answers no request of ours."""

    def closed(self, link: "Link") -> None:
        """Let go of it, whether it was ever open or not."""


class Link(QuicConnectionProtocol):
    """A connection with a peer; `remote` is where it is: (ip, UDP port).

    Once `ready` has returned there are `public_key` (32 bytes), `peer_id` (20 bytes), `topics`
    (hashes), `dht_port` (0: none), and `round_trip` (s) as last measured.
    """

    def __init__(self, quic: QuicConnection, house: House, *, outbound: bool) -> None:
        super().__init__(quic)
        bound(quic, EXCHANGE_WINDOW, streams=0 if outbound else 1)
        self.outbound = outbound
        self.remote: Endpoint = ("", 0)
        self.public_key = b""
        self.peer_id = b""
        self.topics: frozenset[bytes] = frozenset()
        self.dht_port = 0
        self.seen_as: Endpoint | None = None  # where the peer sees us, if we dialled it
        self.opened_at = 0.0  # loop time
        self.round_trip = 0.0
        self._house = house
        self._identity = house.identity()
        self._nonce = secrets.token_bytes(32)
        self._meeting: Meeting | None = None
        self._frames = wire.Frames()
        self._open: asyncio.Future[None] = self._loop.create_future()
        self._pending: dict[int, asyncio.Future[wire.Message]] = {}
        self._asked = 0
        self._allowed, self._allowed_at = float(MESSAGES_BURST), self._loop.time()
        self._over = False
        self._is_under_way = False  # whether anything was sent, or came in
        self._why: DhtmetaError | None = None  # why we closed it
        self._timer_open = self._loop.call_later(DIAL_DEADLINE, self._too_late)
        self._pinging: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether both sides have proven who they are, and it is not over."""
        return self._open.done() and not self._over

    async def ready(self) -> None:
        """Return once it is open; NetworkUnreachable, NotProven or DeadlineExceeded if never."""
        await asyncio.shield(self._open)
        if self._over:  # it was closed as soon as it was known who they are
            raise self._gone

    # what comes in

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        """Take a datagram; the first decides whether there is room for who sent it."""
        if not self.remote[1]:
            self.remote = (unmapped(addr[0]), addr[1])
            if not self._house.admits(self):
                self._end()
                self._connection_terminated_handler()
                return
        if not self._over:
            self._is_under_way = True
            super().datagram_received(data, addr)

    def connect(self, addr: Any, transmit: bool = True) -> None:
        """Begin to shake hands; ValueError where nothing can be sent to there from our socket."""
        super().connect(addr, transmit)
        self._is_under_way = True

    def quic_event_received(self, event: events.QuicEvent) -> None:
        """Take what aioquic says; whatever is wrong closes the connection."""
        try:
            self._take(event)
        except (MalformedMessage, NotProven) as error:
            self.fail(error)

    def _take(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.HandshakeCompleted):
            self._shaken(event)
        elif isinstance(event, events.StreamDataReceived):
            if event.stream_id != _STREAM or event.end_stream:
                raise NotProven("the exchange has one stream, which stays open")
            for message in self._frames.feed(event.data):
                if self._over:
                    break
                self._hear(message)
        elif isinstance(event, (events.StreamReset, events.StopSendingReceived)):
            raise NotProven("the exchange has one stream, which stays open")
        elif isinstance(event, events.ConnectionTerminated):
            self._end()

    def _shaken(self, event: events.HandshakeCompleted) -> None:
        if event.alpn_protocol != ALPN:
            raise NotProven(f"this is no exchange, but {event.alpn_protocol}")
        if event.session_resumed or event.early_data_accepted:
            raise NotProven("connections are not resumed")
        if self.outbound:
            key, topics = self._identity.public_key, self._house.topics()
            dht = self._house.dht_port()
            self._send(wire.Hello(k=key, n=self._nonce, topics=topics, dht=dht))

    def _hear(self, message: wire.Message) -> None:
        self._count()
        if not self._open.done():
            self._prove(message)
        elif isinstance(message, _ANSWERS):
            answer = self._pending.pop(message.r, None)
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif isinstance(message, (wire.Hello, wire.Welcome, wire.Proof)):
            raise NotProven("the proofs are over")
        else:
            self._house.heard(self, message)

    def _count(self) -> None:
        """Raise NotProven for who sends more than anybody has to."""
        now = self._loop.time()
        gained = (now - self._allowed_at) * MESSAGES_PER_SECOND
        self._allowed = min(float(MESSAGES_BURST), self._allowed + gained) - 1
        self._allowed_at = now
        if self._allowed < 0:
            raise NotProven(f"more than {MESSAGES_PER_SECOND:g} messages a second")

    # the proofs

    def _prove(self, message: wire.Message) -> None:
        if self.outbound and isinstance(message, wire.Welcome):
            return self._welcomed(message)
        if not self.outbound and isinstance(message, wire.Hello) and self._meeting is None:
            return self._welcome(message)
        if not self.outbound and isinstance(message, wire.Proof) and self._meeting is not None:
            self._meeting.check(CLIENT, message.sig)
            return self._met()
        raise NotProven(f"{message.t} is out of turn")

    def _welcomed(self, welcome: wire.Welcome) -> None:
        """Check the server's proof, then give ours."""
        own = self._identity.public_key
        peer = self._quic.tls._peer_certificate  # no public name for it: the version is pinned
        assert peer is not None
        certificate = hashlib.sha256(peer.public_bytes(Encoding.DER)).digest()
        self._meeting = Meeting(certificate, self._nonce, welcome.n, own, welcome.k)
        self._meeting.check(SERVER, welcome.sig)
        self._is(welcome)
        self.seen_as = _endpoint(welcome.you)
        self._send(wire.Proof(sig=self._meeting.prove(self._identity, CLIENT)))
        self._met()

    def _welcome(self, hello: wire.Hello) -> None:
        own, house = self._identity.public_key, self._house
        self._meeting = Meeting(house.certificate, hello.n, self._nonce, hello.k, own)
        self._is(hello)
        self._send(
            wire.Welcome(
                k=own,
                n=self._nonce,
                sig=self._meeting.prove(self._identity, SERVER),
                you=pack_endpoint(self.remote),
                topics=house.topics(),
                dht=house.dht_port(),
            )
        )

    def _is(self, hello: wire.Hello | wire.Welcome) -> None:
        if hello.k == self._identity.public_key:
            raise NotProven("this is ourselves")
        self.public_key, self.peer_id = hello.k, peer_id(hello.k)
        self.topics, self.dht_port = frozenset(hello.topics), hello.dht

    def _met(self) -> None:
        self._timer_open.cancel()
        self.opened_at = self._loop.time()
        self._open.set_result(None)
        self._pinging = self._loop.call_later(EXCHANGE_PING, self._ping_again)
        self._house.opened(self)

    def _too_late(self) -> None:
        self.fail(DeadlineExceeded(f"no proof within {DIAL_DEADLINE:g} s"))

    # what goes out

    def say(self, message: wire.Message) -> None:
        """Send a message; nothing happens where the connection is over."""
        if self.is_open:
            self._send(message)

    def _send(self, message: wire.Message) -> None:
        try:
            self._quic.send_stream_data(_STREAM, wire.encode(message))
        except (RuntimeError, ValueError) as error:  # what came with this has ended the stream
            return self.fail(NotProven(f"the peer takes no more: {error}"))
        self._transmit_soon()
        if _unread(self._quic) > EXCHANGE_BACKLOG:
            self.fail(NotProven("the peer does not read what it asked for"))
        return None

    async def request(
        self, make: Callable[[int], wire.Message], answer: type[Answer], within: float | None = None
    ) -> Answer:
        """Send the request that `make` gives for an id, and return the answer.

        Raises RemoteError with the peer's reason where it refuses, DeadlineExceeded where it does
        not answer within so many seconds, NetworkUnreachable where the connection is over.
        """
        if not self.is_open:
            raise NetworkUnreachable(f"the connection to {_show(self.remote)} is closed")
        self._asked = (self._asked + 1) % 2**32
        waiting = self._pending[self._asked] = self._loop.create_future()
        number, within = self._asked, within or REQUEST_TIMEOUT
        self._send(make(number))
        try:
            async with asyncio.timeout(within):
                said = await waiting
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no answer from {_show(self.remote)} in {within:g} s"
            ) from error
        finally:
            self._pending.pop(number, None)
        if isinstance(said, wire.Refused):
            raise RemoteError(said.why.decode(errors="replace"))
        if not isinstance(said, answer):
            raise NotProven(f"{said.t} is no answer to that")
        return said

    def _ping_again(self) -> None:
        task = self._loop.create_task(self._ping())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ping(self) -> None:
        try:
            await self.measure()
        except DhtmetaError as error:
            self.fail(error)
        else:
            self._pinging = self._loop.call_later(EXCHANGE_PING, self._ping_again)

    async def measure(self) -> wire.Pong:
        """Ask whether anybody is there, and note how long that takes; raises as `request`."""
        asked = time.monotonic()  # the loop's clock has steps of 1 ms
        pong = await self.request(lambda r: wire.Ping(r=r), wire.Pong)
        self.round_trip = time.monotonic() - asked
        return pong

    # the end

    def fail(self, why: DhtmetaError) -> None:
        """Close it for that reason."""
        self._why = self._why or why
        self.hang_up()

    def hang_up(self) -> None:
        """Close it; the peer is told."""
        if self._over:
            return
        if self._is_under_way:
            self.close()
        else:
            self._connection_terminated_handler()
        self._end()

    @property
    def _gone(self) -> DhtmetaError:
        return self._why or NetworkUnreachable(f"nobody answers at {_show(self.remote)}")

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        for timer in (self._timer_open, self._pinging):
            if timer is not None:
                timer.cancel()
        waiters: list[asyncio.Future[Any]] = [self._open, *self._pending.values()]
        for waiting in waiters:
            if not waiting.done():
                waiting.set_exception(self._gone)
                waiting.exception()  # nobody has to be waiting
        self._house.closed(self)


def _unread(quic: QuicConnection) -> int:
    """Return how many bytes wait to be sent or acknowledged; aioquic has no public name for it."""
    stream = quic._streams.get(_STREAM)
    return 0 if stream is None else stream.sender._buffer_stop - stream.sender._buffer_start


def _endpoint(raw: bytes) -> Endpoint | None:
    try:
        host, port = unpack_endpoint(raw)
    except ValueError:
        return None
    return unmapped(host), port


def _show(endpoint: Endpoint) -> str:
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
