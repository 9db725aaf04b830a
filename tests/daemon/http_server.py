"""A daemon's HTTP server on a real node, and a client of it that may be as rude as it likes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from dhtmeta.config import Http
from dhtmeta.daemon.http import Server, start_http
from dhtmeta.daemon.status import State, Status
from dhtmeta.discovery.finder import Finder
from dhtmeta.engine.counts import Counts
from dhtmeta.node import Node
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.signed_file import to_signed_file

STARTED = 1_700_000_000.0
READY = Status(State.READY, (), STARTED)
JSON = {"Content-Type": "application/json"}


@dataclass
class Reply:
    """What came back, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any


@dataclass
class Served:
    """A running server, what it was started with, and a client."""

    server: Server
    node: Node
    counts: Counts
    session: aiohttp.ClientSession
    status: Status = READY
    kept: int = 0
    base: str = field(init=False)

    def __post_init__(self) -> None:
        self.base = f"http://127.0.0.1:{self.server.endpoint[1]}"

    async def ask(self, method: str, path: str, **options: Any) -> Reply:
        """Send a request and read the answer; JSON is read, and a problem must be one."""
        async with self.session.request(method, self.base + path, **options) as answer:
            body = await answer.read()
            kind = answer.content_type
            shown: Any = await answer.json(content_type=None) if kind.endswith("json") else None
            if answer.status >= 400 and kind != "application/json":
                assert kind == "application/problem+json", (answer.status, body)
                assert shown["status"] == answer.status
            return Reply(answer.status, answer.headers, body, shown)

    async def get(self, path: str, **options: Any) -> Reply:
        """Send a GET."""
        return await self.ask("GET", path, **options)

    async def put(self, item: SignedItem, query: str = "", **options: Any) -> Reply:
        """Put an item where it belongs."""
        given: dict[str, Any] = {"data": to_signed_file(item).encode(), "headers": JSON}
        return await self.ask("PUT", path_of(item, query), **given | options)

    async def raw(self, request: bytes, source: str = "127.0.0.1") -> bytes:
        """Send bytes, whatever they are, and read until the server closes."""
        reader, writer = await self.connect(source)
        try:
            writer.write(request)
            async with asyncio.timeout(10):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            await hung_up(writer)

    async def connect(
        self, source: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection from an address of this machine."""
        return await asyncio.open_connection(*self.server.endpoint, local_addr=(source, 0))


async def hung_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whether or not the other side did so first."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def path_of(item: SignedItem, query: str = "") -> str:
    """Return the path of an item."""
    return f"/v1/records/{item.public_key.hex()}{query}"


def signed(seq: int = 1, value: Any = None, identity: Identity | None = None) -> SignedItem:
    """Sign a plain value under a key of its own, unless one is given."""
    value = {b"hello": b"world"} if value is None else value
    return SignedItem.sign(identity or Identity.generate(), encode_value(value), seq)


@contextlib.asynccontextmanager
async def serving(
    node: Node,
    *,
    clock: Callable[[], float] = lambda: STARTED + 5.0,
    finder: Finder | None = None,
    **settings: Any,
) -> AsyncIterator[Served]:
    """Serve `node` on any free port; `settings` are those of [http]."""
    counts = Counts()
    served: Served | None = None

    def status() -> Status:
        return READY if served is None else served.status

    def kept() -> int:
        return 0 if served is None else served.kept

    http = Http(**{"listen": "127.0.0.1:0"} | settings)
    server = await start_http(node, http, status, counts, clock, kept, finder)
    try:
        async with aiohttp.ClientSession() as session:
            served = Served(server, node, counts, session)
            yield served
    finally:
        await server.close()
