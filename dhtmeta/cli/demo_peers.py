"""The end of the demo: three daemons that know nobody find each other, one of them by a relay."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dhtmeta.cli.demo_process import DaemonProcess, daemon_process

if TYPE_CHECKING:
    from dhtmeta.cli.demo_daemon import Step

TOPIC = "three that know nobody"
PATIENCE = 40.0  # s until they count as not found: it takes 5, on a busy machine more


@dataclass(frozen=True, slots=True)
class _Role:
    """What a daemon states of itself, whether it relays, and how the others are to reach it."""

    name: str
    verdict: str
    info: dict[str, Any]
    relays: bool = False


ROLES = (
    _Role("public, a relay", "direct", {}, relays=True),
    _Role("public", "direct", {}),
    _Role("private", "via-relay", {"node_type": "private"}),  # as behind a NAT
)


class PeersDemo:
    """Starts all three at once, each in a process of its own, and waits for what they list."""

    def __init__(self, home: Path, bootstrap: list[str]) -> None:
        self._home, self._bootstrap = home, bootstrap
        self._daemons: dict[str, DaemonProcess] = {}
        self._nodes: dict[str, dict[str, Any]] = {}  # role -> what /topology says of it

    async def run(self) -> "list[Step]":
        """Return a step for each daemon: the others it lists, and how long that took."""
        import aiohttp

        async with AsyncExitStack() as running:
            http = await running.enter_async_context(aiohttp.ClientSession())
            self._started = time.monotonic()
            for number, role in enumerate(ROLES):
                home = self._home / str(number)
                home.mkdir(parents=True)
                record = {"topic": TOPIC, "network_info": role.info}
                process = daemon_process(home, self._bootstrap, http, record, relays=role.relays)
                self._daemons[role.name] = await running.enter_async_context(process)
            return await asyncio.gather(*(self._step(role) for role in ROLES))

    async def _step(self, role: _Role) -> "Step":
        from dhtmeta.cli.demo_daemon import Step

        try:
            async with asyncio.timeout(PATIENCE):
                saw, ok = await self._found(role), True
        except Exception as error:  # noqa: BLE001 - whatever it is, the demo shows it
            saw, ok = f"{type(error).__name__}: {error}", False
        return Step(role.name, 1000 * (time.monotonic() - self._started), saw, ok)

    async def _found(self, role: _Role) -> str:
        """Wait until a daemon lists the two others, each to be reached as it should be."""
        daemon = self._daemons[role.name]
        await daemon.answering()
        while True:
            listed = (await daemon.get("/peers/connectable"))[1]["peers"]
            await self._look(role)
            ways = {one["peer_id"]: f"{one['verdict']}, {one['address']}" for one in listed}
            expected = self._expected(role)
            if expected is not None and set(ways.items()) == set(expected.values()):
                return "\n".join(f"{name}: {way}" for name, (_, way) in expected.items())
            await asyncio.sleep(0.05)

    async def _look(self, role: _Role) -> None:
        """Note what a daemon says of itself, once that is what its role is."""
        node = (await self._daemons[role.name].get("/topology"))[1]["node"]
        is_private = role.verdict == "via-relay"
        reached = node["relay"] if is_private else node["public_address"]
        if reached and node["node_type"] == ("private" if is_private else "public"):
            self._nodes[role.name] = node

    def _expected(self, role: _Role) -> dict[str, tuple[str, str]] | None:
        """Return (peer id, way) of the others by role; None while one of them is not ready."""
        others = [one for one in ROLES if one is not role]
        if not all(one.name in self._nodes for one in ROLES):
            return None
        relay = self._nodes[ROLES[0].name]
        found = {}
        for other in others:
            node = self._nodes[other.name]
            address = node["public_address"] or relay["public_address"]
            found[other.name] = (node["peer_id"], f"{other.verdict}, {address}")
        return found
