"""Peers on a LAN, over real mDNS on loopback: who is met, who is not, and when they are gone."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import pytest_asyncio
from zeroconf import NotRunningException
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from dhtmeta.const import LAN_CANDIDATES
from dhtmeta.discovery import lan as lan_module
from dhtmeta.discovery.candidate import Candidate
from dhtmeta.discovery.lan import SERVICE, LanSource
from dhtmeta.discovery.topic import topic_hash
from dhtmeta.errors import LocalError, PortError
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.testing.netns import Internet
from dhtmeta.values.keys import Identity
from dhtmeta.values.node_id import peer_id

WITHIN = 20.0  # s: far above what anything here takes
ROOT = Path(__file__).parents[2]
TTL = 2  # s: the least that is told apart from what a busy machine delays
Join = Callable[..., Awaitable[LanSource]]

PEER = """
import asyncio, sys
from dhtmeta.discovery.lan import LanSource

async def main():
    key, topic, host, port, ttl = sys.argv[1:]
    lan = LanSource(bytes.fromhex(key), topic, (host, int(port)), ttl=int(ttl))
    await lan.start()
    print("there", flush=True)
    while True:
        await lan.heard.wait()
        lan.heard.clear()
        async for one in lan.candidates():
            print(one.public_key.hex(), *one.endpoint, flush=True)

asyncio.run(main())
"""


def new_key() -> bytes:
    return Identity.generate().public_key


@pytest.fixture
def topic() -> str:
    """Return a topic that no other test, and nobody else on this machine, has."""
    return new_key().hex()


@pytest_asyncio.fixture
async def join() -> AsyncIterator[Join]:
    """Start sources, and close them when the test ends."""
    sources: list[LanSource] = []

    async def joined(topic: str, endpoint: Endpoint, **options: Any) -> LanSource:
        source = LanSource(options.pop("key", None) or new_key(), topic, endpoint, **options)
        sources.append(source)
        await source.start()
        return source

    yield joined
    await asyncio.gather(*(source.close() for source in sources))


async def there(source: LanSource) -> set[Candidate]:
    return {one async for one in source.candidates()}


async def until(source: LanSource, endpoints: set[Endpoint]) -> set[Candidate]:
    """Wait until exactly these are there."""
    async with asyncio.timeout(WITHIN):
        while True:
            found = await there(source)
            if {one.endpoint for one in found} == endpoints:
                return found
            await asyncio.sleep(0.01)


async def test_those_of_a_topic_meet_and_never_meet_themselves(join: Join, topic: str) -> None:
    keys = [new_key() for _ in range(3)]
    hosts = [(f"127.0.0.{i + 1}", 30906 + i) for i in range(3)]
    sources = [await join(topic, host, key=key) for key, host in zip(keys, hosts, strict=True)]
    stranger = await join(topic + "!", ("127.0.0.9", 30909))
    everybody = {Candidate("lan", key, host) for key, host in zip(keys, hosts, strict=True)}
    for source, key, host in zip(sources, keys, hosts, strict=True):
        found = await until(source, set(hosts) - {host})
        assert found == everybody - {Candidate("lan", key, host)}
    assert await there(stranger) == set()


async def test_a_new_one_is_told_at_once(join: Join, topic: str) -> None:
    source = await join(topic, ("127.0.0.1", 30906))
    assert not source.heard.is_set()
    await join(topic, ("127.0.0.2", 30907))
    async with asyncio.timeout(WITHIN):
        await source.heard.wait()
    assert {one.endpoint for one in await there(source)} == {("127.0.0.2", 30907)}


async def test_who_says_goodbye_is_gone(join: Join, topic: str) -> None:
    source, other = [await join(topic, ("127.0.0.1", port)) for port in (30906, 30907)]
    await until(source, {("127.0.0.1", 30907)})
    await other.close()
    await until(source, set())


async def test_a_changed_port_topic_or_key_is_told(join: Join, topic: str) -> None:
    source, other = [await join(topic, ("127.0.0.1", port)) for port in (30906, 30907)]
    await until(source, {("127.0.0.1", 30907)})
    await other.update(endpoint=("127.0.0.7", 30908))
    await until(source, {("127.0.0.7", 30908)})
    key = new_key()
    await other.update(public_key=key)
    async with asyncio.timeout(WITHIN):
        while {one.public_key for one in await there(source)} != {key}:
            await asyncio.sleep(0.01)
    await other.update(topic=topic + "!")
    await until(source, set())
    await source.update(topic=topic + "!")
    await until(source, {("127.0.0.7", 30908)})
    await until(other, {("127.0.0.1", 30906)})


async def peer_process(*args: object, spawn: Any = None) -> asyncio.subprocess.Process:
    """Start a source in a process of its own, and return once it is there."""
    argv = [sys.executable, "-c", PEER, *map(str, args)]
    options: dict[str, Any] = {"stdout": asyncio.subprocess.PIPE, "cwd": ROOT}
    process: asyncio.subprocess.Process = await (
        asyncio.create_subprocess_exec(*argv, **options)
        if spawn is None
        else spawn(argv, **options)
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"there\n"
    return process


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def test_who_was_killed_is_gone_and_who_lives_stays_and_a_restart_is_seen(
    join: Join, topic: str
) -> None:
    source = await join(topic, ("127.0.0.1", 30906), ttl=TTL)
    await join(topic, ("127.0.0.1", 30907), ttl=TTL)
    key = new_key().hex()
    killed = await peer_process(key, topic, "127.0.0.3", 30908, TTL)
    await until(source, {("127.0.0.1", 30907), ("127.0.0.3", 30908)})
    await end(killed)
    await until(source, {("127.0.0.1", 30907)})  # who is asked, and answers
    again = await peer_process(key, topic, "127.0.0.3", 30908, TTL)
    try:
        await until(source, {("127.0.0.1", 30907), ("127.0.0.3", 30908)})
    finally:
        await end(again)


def fields(key: bytes, topic: str, **changed: str | None) -> dict[str, str]:
    """Return the TXT fields of an entry; those that are None are left out."""
    right = {"v": "1", "k": key.hex(), "t": topic_hash(topic).hex()}
    return {name: text for name, text in (right | changed).items() if text is not None}


class Told:
    """An entry written by hand."""

    def __init__(self, topic: str, **changed: Any) -> None:
        key = changed.pop("key", None) or new_key()
        self.instance = changed.pop("instance", peer_id(key).hex())
        self.addresses = changed.pop("addresses", ["127.0.0.4"])
        self.port = changed.pop("port", 30904)
        self.text = changed.pop("text", None) or fields(key, topic, **changed)

    def info(self) -> AsyncServiceInfo:
        name = f"{self.instance}.{SERVICE}"
        return AsyncServiceInfo(
            SERVICE,
            name,
            self.port,
            properties=self.text,
            server=name,
            parsed_addresses=self.addresses,
        )


KEY = Identity(b"\1" * 32).public_key
HOSTILE: dict[str, dict[str, Any]] = {
    "another's name": {"instance": "ab" * 20},
    "no peer id for a name": {"instance": "printer"},
    "a name that goes on": {"key": KEY, "instance": peer_id(KEY).hex() + "-2"},
    "no key": {"k": None},
    "an empty key": {"k": ""},
    "a short key": {"k": "ab" * 31},
    "a long key": {"k": "ab" * 120},
    "no hex": {"k": "zz" * 32},
    "upper case": {"key": KEY, "k": KEY.hex().upper()},
    "spaces": {"key": KEY, "k": " ".join(KEY.hex()[i : i + 2] for i in range(0, 64, 2))},
    "another version": {"v": "2"},
    "no version": {"v": None},
    "no topic": {"t": None},
    "bytes that are no fields": {"text": b"\xff" * 200},
    "port 0": {"port": 0},
    "a port of others": {"port": 1023},
    "off the link": {"addresses": ["8.8.8.8"]},
    "multicast": {"addresses": ["224.0.0.251"]},
    "nobody": {"addresses": ["0.0.0.0"]},
    "everybody": {"addresses": ["127.255.255.255"]},
    "IPv6": {"addresses": ["fe80::1"]},
    "the right one among too many": {
        "addresses": [f"10.1.1.{i}" for i in range(8)]
        + ["127.0.0.4"]
        + [f"10.1.2.{i}" for i in range(8)]
    },
}


@pytest_asyncio.fixture
async def hand() -> AsyncIterator[AsyncZeroconf]:
    """Return mDNS on loopback, to write entries by hand."""
    mdns = AsyncZeroconf(["127.0.0.1"])
    await mdns.zeroconf.async_wait_for_start()
    yield mdns
    await mdns.async_close()


def write(mdns: AsyncZeroconf, entry: Told) -> None:
    """Tell the LAN of an entry, once."""
    mdns.zeroconf.async_send(mdns.zeroconf.generate_service_broadcast(entry.info(), None))


@pytest.mark.parametrize("how", HOSTILE, ids=str)
async def test_an_entry_that_is_wrong_is_nobody(
    join: Join, hand: AsyncZeroconf, topic: str, how: str
) -> None:
    source = await join(topic, ("127.0.0.1", 30906))
    honest = Told(topic, port=30905, addresses=["8.8.8.8", "127.0.0.5"])
    write(hand, Told(topic, **HOSTILE[how]))
    write(hand, honest)  # who comes last is there last
    await until(source, {("127.0.0.5", 30905)})


async def test_a_flood_of_names_is_capped(join: Join, topic: str, hand: AsyncZeroconf) -> None:
    source = await join(topic, ("127.0.0.1", 30906))
    await join(topic, ("127.0.0.2", 30907))
    await until(source, {("127.0.0.2", 30907)})
    for _ in range(LAN_CANDIDATES + 20):
        write(hand, Told(topic))
        await asyncio.sleep(0)
    async with asyncio.timeout(WITHIN):
        while len(await there(source)) < LAN_CANDIDATES:
            await asyncio.sleep(0.01)
    assert len(await there(source)) == LAN_CANDIDATES == len(source._named)
    assert ("127.0.0.2", 30907) in {one.endpoint for one in await there(source)}


async def test_an_address_that_is_not_ours_is_said_to_be_none() -> None:
    source = LanSource(new_key(), "x", ("0.0.0.0", 30906), interfaces=["192.0.2.9"])
    with pytest.raises(LocalError, match=r"no network interface has 192\.0\.2\.9"):
        await source.start()
    assert await there(source) == set()
    await source.close()


@pytest.mark.parametrize("why", [OSError(24, "Too many open files"), NotRunningException()])
async def test_whatever_keeps_mdns_from_starting_is_a_local_error(
    monkeypatch: pytest.MonkeyPatch, why: Exception
) -> None:
    def fail(interfaces: object) -> NoReturn:
        raise why

    monkeypatch.setattr(lan_module, "_links", fail)
    source = LanSource(new_key(), "x", ("127.0.0.1", 30906))
    with pytest.raises(PortError, match=r"mDNS.*(Too many open files|NotRunning)"):
        await source.start()
    assert source._mdns is None


async def test_a_machine_without_mdns_is_told_so(internet: Internet) -> None:
    host = internet.lan().host()
    with host.inside():
        host.run(["ip", "addr", "flush", "dev", "eth0"])
        source = LanSource(new_key(), "x", ("0.0.0.0", 30906))
        with pytest.raises(LocalError, match="no network interface has an IPv4 address"):
            await source.start()


# zeroconf leaves the socket that it could not bind to the garbage collector
@pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:.*socket.socket:ResourceWarning")
async def test_a_port_that_another_has_alone_is_named(internet: Internet) -> None:
    host = internet.lan().host()
    with host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 5353))
        with pytest.raises(PortError, match=r"UDP port 5353.*in use"):
            await LanSource(new_key(), "x", ("0.0.0.0", 30906)).start()


async def test_a_host_with_a_new_address_is_met_there(internet: Internet, topic: str) -> None:
    lan = internet.lan()
    one, two = lan.host(), lan.host()
    keys = [new_key().hex() for _ in range(2)]
    other = f"{two.address.rpartition('.')[0]}.200"
    processes = [
        await peer_process(key, topic, "0.0.0.0", 30906, TTL, spawn=host.spawn)
        for key, host in zip(keys, (one, two), strict=True)
    ]
    try:
        stdout = processes[0].stdout
        assert stdout is not None
        async with asyncio.timeout(WITHIN):
            assert await stdout.readline() == f"{keys[1]} {two.address} 30906\n".encode()
            two.run(["ip", "addr", "del", f"{two.address}/24", "dev", "eth0"])
            two.run(["ip", "addr", "add", f"{other}/24", "dev", "eth0"])
            assert await stdout.readline() == f"{keys[1]} {other} 30906\n".encode()
    finally:
        for process in processes:
            await end(process)


async def test_two_hosts_of_a_lan_meet_and_those_behind_another_nat_do_not(
    internet: Internet, topic: str
) -> None:
    lan, other = internet.lan(), internet.lan()
    one, two, far = lan.host(), lan.host(), other.host()
    keys = [new_key().hex() for _ in range(3)]
    processes = [
        await peer_process(key, topic, "0.0.0.0", 30906, 120, spawn=host.spawn)
        for key, host in zip(keys, (far, one, two), strict=True)
    ]
    try:
        async with asyncio.timeout(WITHIN):
            seen = [await process.stdout.readline() for process in processes[1:]]  # type: ignore[union-attr]
        assert seen == [
            f"{keys[2]} {two.address} 30906\n".encode(),
            f"{keys[1]} {one.address} 30906\n".encode(),
        ]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
        rest = [(await process.communicate())[0] for process in processes]
    assert rest == [b"", b"", b""]
