"""Daemons as processes on hosts of an internet with NATs, and what each of them tells over HTTP."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from dhtmeta.const import DAEMON_PORT, EXCHANGE_PORT
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.testing.netns import Host
from dhtmeta.values.keys import Identity, create_identity
from tests.daemon.process import COMMAND, PATIENCE, Sections, Supervised, supervised, write_settings

TOPIC = "town"

REGISTRY_PORT = 30681
REGISTRY = """
[log]
level = "info"
format = "json"
[registry]
listen = "0.0.0.0:{port}"
hosts = ["{host}"]
"""

WITH_CONSTANTS = """
import runpy, sys
from dhtmeta import const
for name, value in {constants}.items():
    assert hasattr(const, name), name
    setattr(const, name, value)
runpy.run_module("dhtmeta", run_name="__main__")
"""

Entry = dict[str, Any]
"""What /peers says of one peer."""


@dataclass
class Resident:
    """A daemon that lives on `host` as `identity`; `daemon` is the process that runs there now."""

    host: Host
    identity: Identity
    settings: Path
    command: tuple[str, ...]
    daemon: Supervised

    @property
    def peer_id(self) -> str:
        """SHA1(public key), hex."""
        return self.identity.peer_id.hex()

    @property
    def key(self) -> str:
        """The public key, hex."""
        return self.identity.public_key.hex()

    @property
    def exchange(self) -> str:
        """Where the exchange of one with a global address is."""
        return f"{self.host.address}:{EXCHANGE_PORT}"

    async def lists(self, other: "Resident", wanted: Callable[[Entry], bool]) -> Entry:
        """Wait until /peers says what is wanted of `other`, and return that."""
        entry: Entry = await self.eventually(
            f"/peers?limit=1&after={_before(other.identity.peer_id)}",
            lambda said: (
                [one["peer_id"] for one in said["peers"]] == [other.peer_id]
                and wanted(said["peers"][0])
            ),
            lambda said: said["peers"][0],
        )
        return entry

    async def reaches(self, other: "Resident", verdict: str) -> Entry:
        """Wait until `other` is listed under that verdict."""
        return await self.lists(other, lambda entry: bool(entry["verdict"] == verdict))

    async def holds(
        self, other: "Resident", wanted: Callable[[Entry], bool] = lambda record: True
    ) -> Entry:
        """Wait until the record of `other` that is held says what is wanted, and return it."""
        info: Entry = await self.eventually(
            f"/v1/records/{other.key}?policy=cache-only",
            lambda said: "record" in said and wanted(said["record"]["network_info"]),
            lambda said: said["record"]["network_info"],
        )
        return info

    async def eventually(
        self,
        path: str,
        wanted: Callable[[Any], bool],
        chosen: Callable[[Any], Any] = lambda said: said,
    ) -> Any:
        """Wait until a GET says what is wanted, and return what was `chosen` of it."""
        said = None
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    _, said = await self.daemon.get(path)
                    if wanted(said):
                        return chosen(said)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{path} says {said}, the log {self.daemon.logged}") from None


class Town:
    """Starts daemons, which are killed when the stack that it is given ends."""

    def __init__(self, home: Path, stack: AsyncExitStack) -> None:
        self._home, self._stack = home, stack

    async def router(self, host: Host) -> LibtorrentCarrier:
        """Run a DHT node on `host` that knows nothing of us, for others to ask first."""
        carrier = LibtorrentCarrier([], f"0.0.0.0:{DAEMON_PORT}")
        with host.inside():
            await carrier.start()
        self._stack.push_async_callback(carrier.close)
        return carrier

    async def settle(
        self,
        host: Host,
        *bootstrap: Host,
        sections: Sections | None = None,
        constants: Mapping[str, float] | None = None,
    ) -> Resident:
        """Run a daemon on `host` that asks those hosts first.

        `sections` change its settings, `constants` those of const.py, where minutes are too long.
        """
        home = self._home / host.name
        home.mkdir()
        identity = create_identity(home / "keys")
        nodes = [f"{one.address}:{DAEMON_PORT}" for one in bootstrap]
        settings = write_settings(home / "daemon.toml", nodes, _with_defaults(sections or {}))
        command = _command(constants or {})
        return Resident(host, identity, settings, command, await self._run(host, settings, command))

    async def again(self, resident: Resident) -> None:
        """Start a daemon that has ended once more, with all that it keeps."""
        resident.daemon = await self._run(resident.host, resident.settings, resident.command)

    async def registry(self, host: Host) -> tuple[str, Supervised]:
        """Run a registry on `host`; returns its URL, and the process."""
        settings, url = self._home / "registry.toml", f"http://{host.address}:{REGISTRY_PORT}"
        settings.write_text(REGISTRY.format(port=REGISTRY_PORT, host=host.address))
        process = await asyncio.create_subprocess_exec(
            *host.command(COMMAND),
            *("registry", "--config", str(settings)),
            stderr=asyncio.subprocess.PIPE,
        )
        registry = Supervised(process, await self._session(host), base=url)
        reading = asyncio.create_task(registry.read())
        self._stack.push_async_callback(_killed, registry, reading)
        await registry.said("answering on")
        return url, registry

    async def _run(self, host: Host, settings: Path, command: tuple[str, ...]) -> Supervised:
        environment = {"XDG_DATA_HOME": str(settings.parent)}
        daemon = await self._stack.enter_async_context(
            supervised(settings, command=tuple(host.command(command)), environment=environment)
        )
        daemon.session = await self._session(host)
        return daemon

    async def _session(self, host: Host) -> aiohttp.ClientSession:
        """Return a client that asks from `host`."""
        connector = aiohttp.TCPConnector(socket_factory=lambda info: _socket(host, info))
        return await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector))


async def _killed(daemon: Supervised, reading: "asyncio.Task[None]") -> None:
    await daemon.ended(signal.SIGKILL)
    await reading


def _command(constants: Mapping[str, float]) -> tuple[str, ...]:
    """Return how to run dhtmeta with those constants."""
    if not constants:
        return COMMAND
    return sys.executable, "-c", WITH_CONSTANTS.format(constants=dict(constants))


def _with_defaults(sections: Sections) -> Sections:
    """Settings of a daemon that others can find at the usual ports."""
    given: dict[str, dict[str, Any]] = {
        "dht": {"port": DAEMON_PORT},
        "exchange": {"port": EXCHANGE_PORT},
        "peer_discovery": {"lan": False, "topic": TOPIC},
        "http": {"listen": "127.0.0.1:0", "gets_per_minute": 1_000_000},
    }
    for name, section in sections.items():
        given[name] = given.get(name, {}) | dict(section)
    return given


def _socket(host: Host, info: Any) -> socket.socket:
    family, kind, protocol, *_ = info
    with host.inside():
        return socket.socket(family, kind, protocol)


def _before(peer_id: bytes) -> str:
    """Return the id right below: /peers goes on above it."""
    return (int.from_bytes(peer_id) - 1).to_bytes(20).hex()
