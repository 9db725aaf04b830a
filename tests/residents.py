"""Nodes that take part in discovery as a daemon does, in the process of the test."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhtmeta.config import Settings
from dhtmeta.daemon.own_record import OwnRecord
from dhtmeta.discovery.finder import Finder
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.node import Node
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import PRIVATE_FILE
from tests.conftest import make_node

WITHIN = 30.0  # s: far above what anything here takes


@dataclass
class Resident:
    """A node that finds peers and is found at `exchange`; its record is published."""

    node: Node
    finder: Finder
    exchange: Endpoint
    peer_id: bytes


def visitors_settings(**relay: Any) -> Settings:
    """Return settings that leave the LAN alone."""
    settings = Settings()
    settings.peer_discovery.lan = False
    for name, value in relay.items():
        setattr(settings.relay, name, value)
    return settings


@asynccontextmanager
async def resident(
    swarm: Swarm, home: Path, topic: str, info: dict[str, Any] | None = None, **relay: Any
) -> AsyncIterator[Resident]:
    """Run one; `info` is what its record states, `relay` are settings of [relay]."""
    home.mkdir(exist_ok=True)
    path = home / "record.json"
    path.write_text(json.dumps({"network_info": info or {}}))
    async with make_node(swarm, home, settings=visitors_settings(**relay)) as node:
        finder = await node.open_discovery(topic, listen="127.0.0.1:0")
        own = OwnRecord(path, home / "keys" / PRIVATE_FILE, node.publish, finder.described)
        finder.on_change = own.wake
        tasks = [asyncio.create_task(one) for one in (finder.run(), own.run())]
        try:
            await until(lambda: finder.ourselves.own is not None)
            yield Resident(node, finder, finder.exchange.endpoint, node.identity.peer_id)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def until(true: Callable[[], object]) -> None:
    """Wait until that is true."""
    async with asyncio.timeout(WITHIN):
        while not true():
            await asyncio.sleep(0.01)
