"""Peers of a topic, found on a real swarm: by whom, when, and whom not to believe."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.discovery.candidate import Candidate
from dhtmeta.discovery.topic import RELAY_TOPIC, TopicSource, topic_hash
from dhtmeta.errors import NetworkUnreachable
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.testing.swarm import Swarm

WITHIN = 20.0  # s: far above what anything here takes
GATHERED = 0.5  # s each look gathers


@asynccontextmanager
async def carrier_of(swarm: Swarm) -> AsyncIterator[LibtorrentCarrier]:
    carrier = LibtorrentCarrier(swarm.addresses[:1])
    await carrier.start()
    try:
        yield carrier
    finally:
        await carrier.close()


@asynccontextmanager
async def announced(source: TopicSource, *ports: int) -> AsyncIterator[None]:
    """Announce ports for the block; libtorrent keeps one for each address and infohash."""
    tasks = [asyncio.create_task(source.announce(port)) for port in ports]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def source_of(
    carrier: LibtorrentCarrier, topic: str, *own: Endpoint, **options: bool
) -> TopicSource:
    options.setdefault("allow_non_global", True)
    return TopicSource(
        lambda: carrier, topic_hash(topic), lambda: own, wait=GATHERED, renew=0.1, **options
    )


async def found(source: TopicSource) -> set[Candidate]:
    return {one async for one in source.candidates()}


async def until_known(carrier: LibtorrentCarrier, topic: str, peer: Endpoint) -> None:
    """Look, past every rule of a source, until an announce has reached the swarm."""
    async with asyncio.timeout(WITHIN):
        while peer not in await carrier.get_peers(topic_hash(topic), 0.1):
            pass


def test_the_hash_of_a_topic_is_its_sha1() -> None:
    assert topic_hash("abc").hex() == "a9993e364706816aba3e25717850c26c9cd0d89d"
    assert topic_hash("ü") != topic_hash("u")
    assert len({topic_hash(RELAY_TOPIC), topic_hash("")}) == 2


async def test_who_announces_a_topic_is_a_candidate_of_it_alone(own_swarm: Swarm) -> None:
    async with carrier_of(own_swarm) as one, carrier_of(own_swarm) as other:
        async with announced(source_of(one, "here"), 30906):
            await until_known(other, "here", ("127.0.0.1", 30906))
        assert await found(source_of(other, "here")) == {
            Candidate("topic", endpoint=("127.0.0.1", 30906))
        }
        assert await found(source_of(other, "elsewhere")) == set()


async def test_a_peer_is_told_before_the_gathering_ends(own_swarm: Swarm) -> None:
    async with carrier_of(own_swarm) as one, carrier_of(own_swarm) as other:
        async with announced(source_of(one, "early"), 30906):
            await until_known(other, "early", ("127.0.0.1", 30906))
        patient = TopicSource(
            lambda: other, topic_hash("early"), tuple, allow_non_global=True, wait=3600.0
        )
        async with asyncio.timeout(WITHIN), contextlib.aclosing(patient.candidates()) as peers:  # type: ignore[type-var]
            assert (await anext(peers)).endpoint == ("127.0.0.1", 30906)


@pytest.mark.parametrize("port", [1023, 1024])
async def test_ports_of_other_services_are_left_alone(own_swarm: Swarm, port: int) -> None:
    async with carrier_of(own_swarm) as one, carrier_of(own_swarm) as other:
        async with announced(source_of(one, "ports"), port):
            await until_known(other, "ports", ("127.0.0.1", port))
        assert len(await found(source_of(other, "ports"))) == (port == 1024)


async def test_neither_ourselves_nor_addresses_of_no_use_here(own_swarm: Swarm) -> None:
    async with carrier_of(own_swarm) as one, carrier_of(own_swarm) as other:
        peer = ("127.0.0.1", 30906)
        async with announced(source_of(one, "us"), 30906):
            await until_known(other, "us", peer)
        assert len(await found(source_of(other, "us"))) == 1
        assert await found(source_of(other, "us", peer)) == set()
        assert await found(source_of(other, "us", allow_non_global=False)) == set()


@pytest.mark.parametrize(
    ("host", "anywhere", "here"),
    [
        ("8.8.8.8", True, True),
        ("2606:4700::1111", True, True),
        ("10.0.0.1", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("fe80::1", False, True),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("224.0.0.251", False, False),
        ("255.255.255.255", False, False),
        ("ff02::fb", False, False),
    ],
)
def test_which_addresses_are_asked(host: str, anywhere: bool, here: bool) -> None:
    carrier = LibtorrentCarrier()  # never started, nor asked
    for allowed, wanted in ((False, anywhere), (True, here)):
        source = source_of(carrier, "x", allow_non_global=allowed)
        assert source._worth_asking((host, 30906)) == wanted


async def test_an_announce_is_made_again(own_swarm: Swarm) -> None:
    async with carrier_of(own_swarm) as one, carrier_of(own_swarm) as other:
        sent = asyncio.Event()
        times = 0

        class Counted(LibtorrentCarrier):
            """A carrier that counts what it passes on."""

            async def announce(self, info_hash: bytes, port: int) -> None:
                nonlocal times
                await one.announce(info_hash, port)
                times += 1
                if times == 3:
                    sent.set()

        async with announced(source_of(Counted(), "again"), 30906), asyncio.timeout(WITHIN):
            await sent.wait()
        await until_known(other, "again", ("127.0.0.1", 30906))


async def test_no_network_is_an_error_to_who_asks_and_none_to_who_announces() -> None:
    alone = LibtorrentCarrier()
    await alone.start()
    source = source_of(alone, "nobody")
    announcing = asyncio.create_task(source.announce(30906))
    await asyncio.sleep(0)
    await alone.close()
    with pytest.raises(NetworkUnreachable):
        await found(source)
    assert not announcing.done()
    announcing.cancel()
