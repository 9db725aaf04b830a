"""A local DHT of real libtorrent nodes: how many, on which addresses, and when it is ready."""

import asyncio
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Self

from dhtmeta.const import MAX_SWARM_NODES, SWARM_CONTACTS, SWARM_READY_DEADLINE
from dhtmeta.dht.address import format_address
from dhtmeta.dht.session import Session
from dhtmeta.errors import CallerError, NetworkUnreachable


class Swarm:
    """`async with Swarm(12) as swarm:` runs 12 DHT nodes that know each other.

    `addresses` lists every node as "127.x.y.z:port"; any of them serves as a bootstrap node.
    """

    def __init__(self, nodes: int, *, progress: Callable[[int, int], None] | None = None) -> None:
        """Take the number of nodes (2 … 1,000), and who wants to hear (nodes ready, nodes)."""
        if not 2 <= nodes <= MAX_SWARM_NODES:
            raise CallerError(f"a swarm has 2 … {MAX_SWARM_NODES} nodes, not {nodes}")
        net = f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}"
        self.sessions = [
            Session(listen=f"{net[: net.rindex('.')]}.{i // 250}.{1 + i % 250}:0")
            for i in range(nodes)
        ]
        self._progress = progress or (lambda ready, nodes: None)

    @property
    def addresses(self) -> list[str]:
        """Every node's "127.x.y.z:port"."""
        return [format_address(session.endpoint) for session in self.sessions]

    async def __aenter__(self) -> Self:
        try:
            for session in self.sessions:
                await session.start()
            self._introduce()
            await self._known()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop every node."""
        await asyncio.gather(*(session.close() for session in self.sessions))

    def _introduce(self) -> None:
        """Tell each node of up to 40 others, spread over the swarm."""
        endpoints = [session.endpoint for session in self.sessions]
        count = len(endpoints)
        step = max(1, (count - 1) // SWARM_CONTACTS)
        for i, session in enumerate(self.sessions):
            session.add_nodes([endpoints[(i + j) % count] for j in range(1, count, step)])

    async def _known(self) -> None:
        """Return once every node knows nine in ten of those it was told of."""
        wanted = min(len(self.sessions) - 1, SWARM_CONTACTS)
        ready = 0
        try:
            async with asyncio.timeout(SWARM_READY_DEADLINE):
                while ready < len(self.sessions):
                    if len(await self.sessions[ready].live_nodes()) >= wanted * 0.9:
                        ready += 1
                        self._progress(ready, len(self.sessions))
                    else:
                        await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise NetworkUnreachable(
                f"only {ready} of {len(self.sessions)} nodes are ready"
            ) from error
