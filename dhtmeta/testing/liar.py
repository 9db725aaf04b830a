"""A DHT node on loopback that answers every get with bytes of the tester's choice: lies, mostly."""

import asyncio
import socket
from types import TracebackType
from typing import Self

from dhtmeta._fast import bencode
from dhtmeta.krpc.compact import Endpoint

Fields = dict[bytes, bytes]  # KRPC key -> its value, already bencoded, sent as it is


class Liar(asyncio.DatagramProtocol):
    """`async with Liar(near=target, fields=lie) as liar`: the node closest to `target`.

    `fields` go into the `r` of every get response, raw; `served` counts how often they did.
    Set `silent` and it answers nothing any more, as a dead node.
    """

    def __init__(self, near: bytes, fields: Fields, *, host: str = "127.0.0.1") -> None:
        """Take the 20-byte target to sit next to, what to say, and the loopback address to use."""
        self.node_id = near[:-1] + bytes([near[-1] ^ 1])
        self.fields = fields
        self.served = 0
        self.silent = False
        self._host = host
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(self._host, 0), family=socket.AF_INET
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._transport is not None
        self._transport.close()

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")
        return host, port

    def datagram_received(self, data: bytes, addr: Endpoint) -> None:
        """Answer a query; whatever else comes is not for us."""
        if self.silent:
            return
        try:
            message = bencode.decode(data, canonical=False)
        except ValueError:
            return
        if not isinstance(message, dict) or message.get(b"y") != b"q":
            return
        said: Fields = {b"id": bencode.encode(self.node_id), b"token": b"2:ok", b"nodes": b"0:"}
        if message.get(b"q") == b"get":
            self.served += 1
            said |= self.fields
        assert self._transport is not None
        self._transport.sendto(_response(message[b"t"], said), addr)


def _response(transaction: bencode.Value, said: Fields) -> bytes:
    body = b"".join(bencode.encode(key) + said[key] for key in sorted(said))
    return b"d1:rd" + body + b"e1:t" + bencode.encode(transaction) + b"1:y1:re"
