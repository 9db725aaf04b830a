"""`dhtmeta registry` as its supervisor has it: start, signals, settings, and what it says."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dhtmeta.discovery.registry import Presence, RegistrySource
from dhtmeta.values.keys import Identity
from tests.cli.test_cli import dhtmeta
from tests.daemon.http_server import hung_up
from tests.daemon.process import COMMAND, PATIENCE, Supervised
from tests.daemon.test_registry_tls import certify


def write(path: Path, **settings: Any) -> Path:
    given = {"listen": "127.0.0.1:0"} | settings
    lines = [f"{key} = {json.dumps(value)}" for key, value in given.items()]
    path.write_text("\n".join(["[log]", 'level = "info"', 'format = "json"', "[registry]", *lines]))
    return path


@contextlib.asynccontextmanager
async def process(*words: str | Path, **environment: str) -> AsyncIterator[Supervised]:
    """Run a registry until it answers, and see to it that it ends."""
    started = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("registry", *words),
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    async with aiohttp.ClientSession() as session:
        registry = Supervised(started, session)
        reading = asyncio.create_task(registry.read())
        try:
            registry.base = (await registry.said("answering on")).rpartition(" ")[2]
            yield registry
        finally:
            if started.returncode is None:
                await registry.ended(signal.SIGKILL)
            await reading


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return write(tmp_path / "registry.toml")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_answers_and_ends_when_told(settings: Path, number: signal.Signals) -> None:
    presence = Presence(identity=Identity.generate(), port=1)
    async with process("--config", settings) as registry:
        async for _ in RegistrySource([registry.base], "t", lambda: presence).candidates():
            pass
        assert (await registry.get("/stats"))[1]["entries"] == 1
        assert await registry.ended(number) == 0
    assert registry.logged[-1]["event"] == "stopping"
    assert {line["level"] for line in registry.logged} == {"info"}


async def test_it_ends_within_a_second_whatever_is_in_flight(settings: Path) -> None:
    async with process("--config", settings) as registry:
        host, port = registry.base.removeprefix("http://").split(":")
        connections = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
        head = f"POST /register HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 9\r\n\r\n{{"
        for i, (_, out) in enumerate(connections):
            out.write(head.encode()[: -4 * i or None])
            await out.drain()
        await registry.get("/health")
        async with asyncio.timeout(5):  # a slow client has 10 s
            assert await registry.ended() == 0
        for _, out in connections:
            await hung_up(out)


async def test_listen_is_above_the_settings(settings: Path) -> None:
    async with process("--config", settings, "--listen", "127.0.0.7:0") as registry:
        assert registry.base.startswith("http://127.0.0.7:")


async def test_it_speaks_tls_and_takes_a_new_certificate_at_sighup(tmp_path: Path) -> None:
    files = certify(tmp_path)
    path = write(tmp_path / "registry.toml", **files.settings)
    presence = Presence(identity=Identity.generate(), port=1)
    async with process("--config", path) as registry:
        for _ in range(2):
            source = RegistrySource([registry.base], "t", lambda: presence, tls=files.trust)
            async for _ in source.candidates():
                pass
            assert source.problems == {}
            files = certify(tmp_path)
            before = len(registry.logged)
            registry.process.send_signal(signal.SIGHUP)
            await said_since(registry, before, "the settings were read again")
        files.certificate.write_text("broken")
        before = len(registry.logged)
        registry.process.send_signal(signal.SIGHUP)
        await said_since(registry, before, "the settings were not read again: [registry] certif")
        async with registry.session.get(
            f"{registry.base}/health", ssl=ssl._create_unverified_context()
        ) as answer:
            assert answer.status == 200
        assert await registry.ended() == 0


async def said_since(registry: Supervised, before: int, part: str) -> None:
    """Wait until it logs something with that in it, once more."""
    async with asyncio.timeout(PATIENCE):
        while not any(part in line["event"] for line in registry.logged[before:]):
            await asyncio.sleep(0.01)


async def test_its_supervisor_is_told_and_its_watchdog_fed(settings: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        loop, told = asyncio.get_running_loop(), ""
        async with process("--config", settings, **environment) as registry:
            async with asyncio.timeout(PATIENCE):
                while told.count("WATCHDOG=1") < 3:
                    told += (await loop.sock_recv(listening, 4096)).decode() + "\n"
            assert "READY=1" in told
            assert await registry.ended() == 0
        with contextlib.suppress(BlockingIOError):
            while True:
                told += listening.recv(4096).decode() + "\n"
        assert told.endswith("STOPPING=1\n")


async def test_a_port_in_use_is_named_with_the_setting_to_change(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = await dhtmeta("registry", "--config", write(tmp_path / "r.toml", listen=listen))
    assert (ran.code, ran.out) == (1, "")
    assert f"cannot answer HTTP on {listen}: Address already in use" in ran.err
    assert ran.err.rstrip().endswith("with [registry] listen")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"certificate": "/nowhere.pem", "private_key": "/nowhere.pem"}, "cannot read '/nowhere"),
        ({"certificate": "/nowhere.pem"}, "cannot read '/nowhere.pem'"),
        ({"private_key": "/nowhere.pem"}, "certificate is not set"),
        ({"listen": "example.org:1"}, "not a name"),
        ({"lisen": "127.0.0.1:0"}, "did you mean 'listen'"),
    ],
    ids=repr,
)
async def test_a_setting_that_is_wrong_is_wrong_use(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    ran = await dhtmeta("registry", "--config", write(tmp_path / "registry.toml", **given))
    assert ran.code == 2
    assert said in ran.err
    (line,) = ran.err.splitlines()
    assert re.match("dhtmeta: ", line)
