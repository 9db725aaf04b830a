"""A UDP socket that speaks through the codec alone, to real nodes that know nothing of dhtmeta."""

import asyncio
import secrets
from types import TracebackType
from typing import Any, Self, TypeVar

from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.krpc.messages import Get, Message, Put, Query, Response
from dhtmeta.values.item import SignedItem

DEADLINE = 10.0  # s; a node on loopback answers in a millisecond, a busy machine in some more

Kind = TypeVar("Kind", bound=Message)


class Wire(asyncio.DatagramProtocol):
    """One socket whose every datagram goes through the codec; it answers queries, with a token."""

    def __init__(self) -> None:
        self.node_id = secrets.token_bytes(20)
        self.asked: asyncio.Queue[Query] = asyncio.Queue()
        self.broken: list[Exception] = []
        self._answers: dict[bytes, asyncio.Future[Message]] = {}
        self._transport: asyncio.DatagramTransport

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        local = ("127.0.0.1", 0)
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=local)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._transport.close()
        assert not self.broken

    @property
    def endpoint(self) -> Endpoint:
        host, port = self._transport.get_extra_info("sockname")
        return host, port

    async def ask(self, query: Query, node: Endpoint) -> Message:
        """Send a query and return what comes back for it."""
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[query.t] = answer
        self._transport.sendto(encode(query), node)
        async with asyncio.timeout(DEADLINE):
            return await answer

    async def hear(self, kind: type[Kind]) -> Kind:
        """Return the next query of this kind."""
        async with asyncio.timeout(DEADLINE):
            while not isinstance(query := await self.asked.get(), kind):
                pass
        return query

    def datagram_received(self, data: bytes, addr: Endpoint) -> None:
        try:
            message = decode(data)
        except Exception as error:  # noqa: BLE001 - the loop would swallow it
            self.broken.append(error)
            return
        if isinstance(message, Query):
            self.asked.put_nowait(message)
            answer = Response(t=message.t, node_id=self.node_id, token=b"our token")
            self._transport.sendto(encode(answer), addr)
        elif message.t in self._answers:
            self._answers.pop(message.t).set_result(message)

    def who(self) -> dict[str, Any]:
        """Return what every query of ours has."""
        return {"t": secrets.token_bytes(4), "node_id": self.node_id}

    async def token(self, node: Endpoint, target: bytes) -> bytes:
        answer = await self.ask(Get(**self.who(), target=target), node)
        assert isinstance(answer, Response)
        assert answer.token
        return answer.token

    async def put(self, node: Endpoint, item: SignedItem, **options: int) -> Message:
        token = await self.token(node, item.target)
        return await self.ask(
            Put(
                **self.who(),
                token=token,
                k=item.public_key,
                salt=item.salt,
                seq=item.seq,
                v=item.v,
                sig=item.sig,
                cas=options.get("cas"),
            ),
            node,
        )
