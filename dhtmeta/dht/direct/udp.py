"""The only DHT socket of ours: big buffers, all that came is read at once, nothing ever blocks."""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from dhtmeta.const import MAX_DATAGRAM_BYTES, RECEIVE_BATCH, SEND_BACKLOG, SOCKET_BUFFER_BYTES
from dhtmeta.dht.address import format_address, parse_listen
from dhtmeta.errors import PortError
from dhtmeta.krpc.compact import Endpoint

Datagrams = list[tuple[bytes, Endpoint]]


class Socket(Protocol):
    """What the direct carrier needs: real UDP, or a simulated network's stand-in."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it is bound."""

    def open(self, on_datagrams: Callable[[Datagrams], None]) -> None:
        """Begin; all that came goes to `on_datagrams`."""

    def send(self, datagrams: Datagrams) -> None:
        """Send them, in this order; what cannot be sent is lost, as UDP may."""

    def close(self) -> None:
        """End."""


class UdpSocket:
    """A UDP socket bound to "IP:PORT" (port 0: any free one)."""

    def __init__(self, listen: str) -> None:
        self._listen = parse_listen(listen)
        self._socket: socket.socket | None = None
        self._unsent: deque[tuple[bytes, Endpoint]] = deque()
        self._on_datagrams: Callable[[Datagrams], None] = lambda datagrams: None

    def open(self, on_datagrams: Callable[[Datagrams], None]) -> None:
        """See `Socket.open`; PortError if the address cannot be had."""
        self._on_datagrams = on_datagrams
        family = socket.AF_INET6 if ":" in self._listen[0] else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            raise PortError(f"cannot open a UDP socket: {error.strerror}") from error
        try:
            sock.setblocking(False)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, buffer, SOCKET_BUFFER_BYTES)
            sock.bind(self._listen)
        except OSError as error:
            sock.close()
            raise PortError(
                f"cannot listen on {format_address(self._listen)}: {error.strerror}"
            ) from error
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._read)

    @property
    def endpoint(self) -> Endpoint:
        """Where it is bound."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return host, port

    def _read(self) -> None:
        """Read what is there, up to a batch: other work of the loop wants its turn, too."""
        assert self._socket is not None
        receive = self._socket.recvfrom
        came: Datagrams = []
        for _ in range(RECEIVE_BATCH):
            try:
                data, source = receive(MAX_DATAGRAM_BYTES + 1)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error of an earlier datagram
                continue
            came.append((data, source[:2]))
        if came:
            self._on_datagrams(came)

    def send(self, datagrams: Datagrams) -> None:
        """See `Socket.send`; while the buffer is full they wait, up to a cap."""
        sock = self._socket
        if sock is None:
            return
        if self._unsent:
            self._keep(datagrams)
            return
        for i, (data, to) in enumerate(datagrams):
            try:
                sock.sendto(data, to)
            except BlockingIOError:
                self._keep(datagrams[i:])
                asyncio.get_running_loop().add_writer(sock, self._send_rest)
                return
            except (OSError, OverflowError):  # no route, or no such address: as if lost
                continue

    def _keep(self, datagrams: Datagrams) -> None:
        self._unsent.extend(datagrams[: SEND_BACKLOG - len(self._unsent)])

    def _send_rest(self) -> None:
        assert self._socket is not None
        asyncio.get_running_loop().remove_writer(self._socket)
        rest = list(self._unsent)
        self._unsent.clear()
        self.send(rest)

    def close(self) -> None:
        """Close it; closing twice is fine."""
        sock, self._socket = self._socket, None
        if sock is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(sock)
            with contextlib.suppress(ValueError, OSError):
                loop.remove_writer(sock)
            sock.close()
