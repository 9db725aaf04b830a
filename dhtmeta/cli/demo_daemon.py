"""The demo's second part: a daemon, started, asked, and stopped."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dhtmeta.cli.demo_process import PATIENCE, daemon_process

if TYPE_CHECKING:
    from dhtmeta.node import Node

_RECORD = {
    "topic": "demo",
    "network_info": {"node_type": "public", "public_ip": "127.0.0.7", "public_port": 30906},
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the daemon did, how long it took, what there was to see, and whether well."""

    name: str
    milliseconds: float
    saw: str
    ok: bool


class DaemonDemo:
    """Takes a daemon through its life; `reader` is another node, which asks the DHT."""

    def __init__(self, home: Path, bootstrap: list[str], reader: "Node") -> None:
        self.steps: list[Step] = []
        self._home = home
        self._bootstrap = bootstrap
        self._reader = reader
        self._key = ""

    async def run(self) -> list[Step]:
        """Do all of it; what fails ends it."""
        import aiohttp

        async with (
            aiohttp.ClientSession() as self._http,
            daemon_process(self._home, self._bootstrap, self._http, _RECORD) as self._daemon,
        ):
            life: list[tuple[str, Callable[[], Awaitable[str]]]] = [
                ("started, ready", self._daemon.answering),
                ("its record is alive", self._alive),
                ("keeps another's record", self._keep),
                ("health", self._health),
                ("metrics", self._metrics),
                ("stopped by SIGTERM", self._stop),
            ]
            for name, step in life:
                if not await self._take(name, step):
                    break
        return self.steps

    async def _take(self, name: str, step: Callable[[], Awaitable[str]]) -> bool:
        start = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                saw, ok = await step(), True
        except Exception as error:  # noqa: BLE001 - whatever it is, the demo shows it
            saw, ok = f"{type(error).__name__}: {error}", False
        self.steps.append(Step(name, 1000 * (time.monotonic() - start), saw, ok))
        return ok

    async def _alive(self) -> str:
        """Read its record over the DHT, as a peer would."""
        from dhtmeta.errors import NotFound

        while not self._key:  # it is made on first use
            topology = (await self._daemon.get("/topology"))[1]
            self._key = topology["node"]["public_key"] or ""
            await asyncio.sleep(0.05)
        while True:
            with contextlib.suppress(NotFound):
                answer = await self._reader.query(self._key, policy="freshest")
                verdict = answer.connectability
                assert verdict is not None
                assert verdict.verdict == "direct", verdict
                return f"seq {answer.seq} over the DHT: {verdict.verdict}, {verdict.address}"
            await asyncio.sleep(0.1)

    async def _keep(self) -> str:
        """Put a signed item through the gateway, without giving anybody its key."""
        from dhtmeta.values.item import SignedItem, encode_value
        from dhtmeta.values.keys import Identity
        from dhtmeta.values.signed_file import to_signed_file

        item = SignedItem.sign(Identity.generate(), encode_value({b"name": b"kept"}), 1)
        url = f"{self._daemon.url}/v1/records/{item.public_key.hex()}"
        headers = {"Content-Type": "application/json"}
        async with self._http.put(url, data=to_signed_file(item), headers=headers) as response:
            said = await response.json(content_type=None)
            assert response.status == 201, said
        answer = await self._reader.query(item.public_key, policy="freshest")
        assert answer.item == item
        assert said["kept"], said
        return f"201, {said['copies']} copies, found over the DHT"

    async def _health(self) -> str:
        status, said = await self._daemon.get("/health")
        assert status == 200, said
        assert said["state"] == "ready", said
        return f"{said['state']}, {len(said['problems'])} problems"

    async def _metrics(self) -> str:
        async with self._http.get(f"{self._daemon.url}/metrics") as response:
            text = await response.text()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        published = float(values['dhtmeta_publishes_total{result="ok"}'])
        failed = float(values['dhtmeta_publishes_total{result="failed"}'])
        assert (published, failed) == (1, 0), (published, failed)
        return f"{published:.0f} published, {failed:.0f} failed, {len(values)} series"

    async def _stop(self) -> str:
        self._daemon.process.send_signal(signal.SIGTERM)
        code = await self._daemon.process.wait()
        assert code == 0, code
        return f"exit code {code}"
