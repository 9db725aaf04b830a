"""A daemon of the demo as a process of its own: its settings, its start, its HTTP, its end."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import ClientSession

PATIENCE = 20.0  # s until a step counts as failed: a busy machine may be slow

_SETTINGS = """
[dht]
port = 0
bootstrap_nodes = {bootstrap}
[identity]
keys = {keys}
record = {record}
[store]
url = {store}
[exchange]
port = 0
[relay]
serve = {relays}
[peer_discovery]
lan = false
[http]
listen = "127.0.0.1:0"
keep = true
[log]
level = "info"
format = "json"
"""


@dataclass
class DaemonProcess:
    """A daemon that runs; `url` is where it answers HTTP, once it was `answering`."""

    process: asyncio.subprocess.Process
    http: "ClientSession"
    url: str = ""
    reading: "asyncio.Task[bytes] | None" = None

    async def answering(self) -> str:
        """Return where it answers HTTP, as soon as it does and all works."""
        log = self.process.stderr
        assert log is not None
        while not self.url:
            line = await log.readline()
            if not line:
                raise RuntimeError("the daemon ended")
            said = json.loads(line)["event"]
            self.url = said.partition("HTTP on ")[2]
        self.reading = asyncio.create_task(log.read())  # so that it never blocks
        while (await self.get("/ready"))[0] != 200:
            await asyncio.sleep(0.05)
        return self.url

    async def get(self, path: str) -> tuple[int, Any]:
        """Send a GET; returns the status and what the JSON says."""
        async with self.http.get(f"{self.url}{path}") as response:
            return response.status, await response.json()


@contextlib.asynccontextmanager
async def daemon_process(
    home: Path,
    bootstrap: list[str],
    http: "ClientSession",
    record: dict[str, Any],
    *,
    relays: bool = True,
) -> AsyncIterator[DaemonProcess]:
    """Run a daemon that keeps everything in `home`, and see to it that it ends."""
    words = (sys.executable, "-m", "dhtmeta", "daemon")
    environment = {name: one for name, one in os.environ.items() if name[:8] != "DHTMETA_"}
    process = await asyncio.create_subprocess_exec(
        *(*words, "--config", str(_settings(home, bootstrap, record, relays))),
        stderr=asyncio.subprocess.PIPE,
        env=environment | {"XDG_DATA_HOME": str(home)},
    )
    try:
        yield DaemonProcess(process, http)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _settings(home: Path, bootstrap: list[str], record: dict[str, Any], relays: bool) -> Path:
    """Write the settings and the record, and return where the settings are."""
    config, told = home / "daemon.toml", home / "record.json"
    told.write_text(json.dumps(record))
    named = {"keys": home / "keys", "store": home / "store.db", "record": told}
    quoted = {name: json.dumps(str(path)) for name, path in named.items()}
    quoted |= {"bootstrap": json.dumps(bootstrap), "relays": json.dumps(relays)}
    config.write_text(_SETTINGS.format(**quoted))
    return config
