"""`discover`, `peers` and `connect` as a shell sees them: real daemons, real swarm, exit codes."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dhtmeta.cli.main import cli
from dhtmeta.testing.swarm import Swarm
from tests.cli.test_cli import Ran, dhtmeta
from tests.daemon.process import PATIENCE, Supervised, supervised, write_settings

pytestmark = pytest.mark.timeout(180)
TOPIC = "a town"


@pytest.fixture(autouse=True)
def _no_lan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DHTMETA_PEER_DISCOVERY__LAN", "false")


@pytest.fixture
def net(own_swarm: Swarm) -> list[str]:
    """Return the options that lead to a swarm of this test's own."""
    return ["--bootstrap", own_swarm.addresses[0]]


@dataclass
class Town:
    """A relay, and who is attached to it: two daemons; who they are (peer id, hex), and where."""

    relay: str
    attached: str
    exchange: str

    @property
    def everybody(self) -> set[str]:
        """Return both."""
        return {self.relay, self.attached}


@asynccontextmanager
async def town(swarm: Swarm, home: Path) -> AsyncIterator[Town]:
    """Run the two until the relay lists who is attached to it."""
    async with AsyncExitStack() as running:
        relay = await running.enter_async_context(daemon(swarm, home / "relay", {}))
        attached = await running.enter_async_context(
            daemon(swarm, home / "attached", {"node_type": "private"})
        )
        async with asyncio.timeout(PATIENCE):
            while not (listed := (await relay.get("/peers/connectable"))[1]["peers"]):
                await asyncio.sleep(0.05)
        node = (await relay.get("/topology"))[1]["node"]
        (other,) = listed
        assert other["peer_id"] == (await attached.get("/topology"))[1]["node"]["peer_id"]
        yield Town(node["peer_id"], other["peer_id"], node["exchange"])


@asynccontextmanager
async def daemon(swarm: Swarm, home: Path, info: dict[str, Any]) -> AsyncIterator[Supervised]:
    home.mkdir()
    record = home / "record.json"
    record.write_text(json.dumps({"topic": TOPIC, "network_info": info}))
    sections = {"identity": {"keys": str(home / "keys"), "record": str(record)}}
    settings = write_settings(home / "daemon.toml", swarm.addresses[:2], sections)
    async with supervised(settings, environment={"XDG_DATA_HOME": str(home)}) as running:
        yield running


def lines(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.out.splitlines()]


def ways(found: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Return verdict and address of each, by peer id."""
    return {
        one["peer_id"]: (one["connectability"]["verdict"], one["connectability"]["address"])
        for one in found
    }


async def test_a_town_is_found_listed_and_connected_to(
    own_swarm: Swarm, net: list[str], tmp_path: Path
) -> None:
    async with town(own_swarm, tmp_path) as there:
        contact = await dhtmeta("connect", there.exchange, "--topic", TOPIC, *net, "--json")
        stranger = await dhtmeta("connect", there.exchange, *net, "--store", "sqlite+aiosqlite://")
        found = await dhtmeta("discover", "--topic", TOPIC, "--connectable", *net, "--json")
        table = await dhtmeta("discover", "--topic", TOPIC, *net)
    listed = await dhtmeta("peers", "--topic", TOPIC, *net, "--json")
    nobody = await dhtmeta("peers", "--topic", "another", *net)
    assert (contact.json["peer_id"], contact.json["told"]) == (there.relay, 1)
    assert contact.json["record"]["topic"] == TOPIC
    assert f"peer id     {there.relay}" in stranger.out
    assert f"reachable   direct: {there.exchange}" in stranger.out  # its record is on the DHT
    expected = {
        there.relay: ("direct", there.exchange),
        there.attached: ("via-relay", there.exchange),
    }
    assert ways(lines(found)) == expected
    assert all(one["topic"] == TOPIC for one in lines(found))
    assert table.code == 0
    assert all(one in table.out for one in there.everybody)
    assert {one["peer_id"] for one in lines(listed)} == there.everybody
    assert (nobody.code, nobody.out) == (3, "")
    keys = tmp_path / "data" / "dhtmeta" / "keys"
    assert not keys.exists()  # a visit is made with a key of its own


async def test_watch_goes_on_until_it_is_ended(
    own_swarm: Swarm, net: list[str], tmp_path: Path
) -> None:
    words = ("discover", "--topic", TOPIC, "--connectable", "--watch", *net, "--json")
    watching = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dhtmeta", *words), stdout=asyncio.subprocess.PIPE
    )
    assert watching.stdout is not None
    try:
        async with town(own_swarm, tmp_path) as there, asyncio.timeout(PATIENCE):
            seen: set[str] = set()
            while seen != there.everybody:
                said = json.loads(await watching.stdout.readline())
                assert said["connectability"]["verdict"] in ("direct", "via-relay") or (
                    said["peer_id"] in seen
                )
                seen.add(said["peer_id"])
        watching.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            assert await watching.wait() == 130
    finally:
        if watching.returncode is None:
            watching.kill()
            await watching.wait()


@pytest.mark.parametrize("watch", [[], ["--watch"]])
async def test_nobody_is_exit_code_3(net: list[str], watch: list[str]) -> None:
    words = ("discover", "--topic", "nobody", "--timeout", "1", *watch)
    ran = await dhtmeta(*words, *net)
    assert (ran.code, ran.out) == (3, "")
    assert "no such peer was found" in ran.err


async def test_no_network_is_exit_code_5() -> None:
    dead = ("--bootstrap", "127.0.0.1:9")
    discovered, connected = await asyncio.gather(
        dhtmeta("discover", "--topic", "t", "--timeout", "1", *dead),
        dhtmeta("connect", "127.0.0.1:9", *dead),
    )
    assert (discovered.code, connected.code) == (5, 5)
    assert "127.0.0.1:9" in discovered.err
    assert "nobody answers at 127.0.0.1:9" in connected.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("discover",), "whose peers?"),
        (("discover", "--topic", "t", "--timeout", "nan"), "no number of seconds"),
        (("connect", "nowhere"), "is not HOST:PORT"),
        (("connect",), "HOST:PORT"),
    ],
)
async def test_wrong_use_is_exit_code_2(net: list[str], words: tuple[str, ...], said: str) -> None:
    ran = await dhtmeta(*words, *net)
    assert ran.code == 2
    assert said in ran.err


@pytest.mark.parametrize("name", ["discover", "peers", "connect"])
def test_a_help_text_has_an_example_and_json(name: str) -> None:
    command = cli.commands[name]
    assert f"Example: dhtmeta {name}" in (command.epilog or "")
    assert "--json" in [one for option in command.params for one in option.opts]


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"PORT": "{free}"}, 0, "is free for a daemon"),
        ({"PORT": "{taken}"}, 0, "is in use: by the daemon"),
        ({"LISTEN": "192.0.2.1:5"}, 1, "see [exchange] listen and port"),
        ({"ENABLED": "false"}, 0, "switched off"),
    ],
)
async def test_doctor_looks_at_the_port_of_the_exchange(
    net: list[str],
    settings: dict[str, str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            other = free.getsockname()[1]
        for name, value in settings.items():
            given = value.format(free=other, taken=port)
            monkeypatch.setenv(f"DHTMETA_EXCHANGE__{name}", given)
        ran = await dhtmeta("doctor", *net, "--json")
    finding = json.loads(ran.out.splitlines()[-1])
    assert finding["check"] == "exchange"
    assert said in finding["detail"]
    assert (ran.code, finding["ok"]) == (code, code == 0)
