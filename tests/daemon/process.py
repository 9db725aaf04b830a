"""A daemon as its supervisor has it: a process, its settings file, its log, and its HTTP."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from dhtmeta.values.item import SignedItem
from dhtmeta.values.signed_file import to_signed_file
from tests.daemon.http_server import JSON, path_of

PATIENCE = 60.0  # s until a test gives up waiting: far above what it takes on a busy machine
COMMAND = (sys.executable, "-m", "dhtmeta")
Sections = Mapping[str, Mapping[str, Any]]


def write_settings(path: Path, bootstrap: list[str], sections: Sections | None = None) -> Path:
    """Write a settings file for a daemon that keeps everything beside it; `sections` change it."""
    home = path.parent
    settings: dict[str, dict[str, Any]] = {
        "dht": {"port": 0, "bootstrap_nodes": bootstrap},
        "identity": {"keys": str(home / "keys")},
        "store": {"url": str(home / "store.db")},
        "exchange": {"port": 0},
        "peer_discovery": {"lan": False},
        "http": {"listen": "127.0.0.1:0", "keep": True, "puts_per_minute": 10_000},
        "log": {"level": "info", "format": "json"},
    }
    for name, given in (sections or {}).items():
        settings[name] = settings.get(name, {}) | dict(given)
    lines = []
    for name, given in settings.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in given.items())]
    new = path.with_suffix(".new")
    new.write_text("\n".join(lines) + "\n")
    return new.replace(path)


@dataclass
class Supervised:
    """A running daemon that logs JSON; `logged` is what it said so far."""

    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession
    logged: list[dict[str, Any]] = field(default_factory=list)
    base: str = ""

    async def read(self) -> None:
        """Read its log to the end; each line must be JSON."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                self.logged.append(json.loads(line))
            except json.JSONDecodeError:
                raise AssertionError(
                    f"not JSON: {line + await self.process.stderr.read()!r}"
                ) from None

    async def said(self, part: str) -> str:
        """Wait until it logs something with that in it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for line in self.logged:
                    if part in line["event"]:
                        return str(line["event"])
                assert self.process.returncode is None, self.logged
                await asyncio.sleep(0.01)

    async def get(self, path: str) -> tuple[int, Any]:
        """Send a GET; returns the status and what the JSON says."""
        async with self.session.get(self.base + path) as answer:
            return answer.status, await answer.json(content_type=None)

    async def put(self, item: SignedItem) -> int:
        """Put an item; returns the status."""
        url, body = self.base + path_of(item), to_signed_file(item).encode()
        async with self.session.put(url, data=body, headers=JSON) as answer:
            return answer.status

    async def healthy(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until /health says what is wanted, and return it."""
        shown: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    shown = (await self.get("/health"))[1]
                    if wanted(shown):
                        return shown
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"/health says {shown}, the log {self.logged}") from None

    async def is_in(self, state: str) -> dict[str, Any]:
        """Wait until it is in that state, and return what /health says."""
        return await self.healthy(lambda shown: bool(shown["state"] == state))

    async def degraded(self, problem: str) -> dict[str, Any]:
        """Wait until /health tells of that problem."""
        return await self.healthy(lambda shown: any(problem in one for one in shown["problems"]))

    async def ended(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def supervised(
    settings: Path,
    *,
    command: tuple[str, ...] = COMMAND,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Supervised]:
    """Run a daemon until it answers HTTP, and see to it that it ends."""
    process = await asyncio.create_subprocess_exec(
        *command,
        *("daemon", "--config", str(settings)),
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | (environment or {}),
    )
    async with aiohttp.ClientSession() as session:
        daemon = Supervised(process, session)
        reading = asyncio.create_task(daemon.read())
        try:
            daemon.base = (await daemon.said("answering HTTP on")).rpartition(" ")[2]
            yield daemon
        finally:
            if process.returncode is None:
                await daemon.ended(signal.SIGKILL)
            await reading
