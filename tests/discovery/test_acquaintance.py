"""Which dials in vain count against a peer, and how many lookups candidates may cost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dhtmeta.config import Settings
from dhtmeta.const import MET_LOOKUPS, MET_WAITING
from dhtmeta.discovery import link as link_module
from dhtmeta.discovery.candidate import Candidate
from dhtmeta.discovery.finder import Finder
from dhtmeta.engine.connectability import Verdict
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.node import Node
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import EXCHANGE_PROTOCOL, Protocol
from tests.conftest import make_node
from tests.discovery.ends import end, signed_record, until

SILENT: Endpoint = ("127.0.0.1", 9)  # nobody is there


@pytest_asyncio.fixture
async def node(own_swarm: Swarm, tmp_path: Path) -> AsyncIterator[Node]:
    settings = Settings()
    settings.peer_discovery.lan = False
    settings.peer_discovery.allow_non_global = True
    async with make_node(own_swarm, tmp_path, settings=settings) as opened:
        yield opened


def told(node: Node, identity: Identity, at: Endpoint, **info: Any) -> None:
    """Have `node` hold a record that says where its owner is."""
    fields = {"public_ip": at[0], "public_port": at[1], **info}
    item = signed_record(identity, timestamp=int(node.clock()), info=fields)
    assert node._resolver.cache.learn(item.target, item, node.clock())


async def met_twice(node: Node, finder: Finder, identity: Identity, at: Endpoint) -> Verdict:
    """Have `node` dial somebody twice, and return what it makes of that."""
    for _ in range(2):
        finder.dialler.begin_round()
        finder.dialler.forgive()
        await finder.acquaintance.meet(Candidate("contact", identity.public_key, at))
    verdict = node.peer(identity.peer_id, node._store.peers[identity.peer_id]).verdict
    assert verdict is not None
    return verdict


@pytest.mark.parametrize(
    ("protocols", "verdict"),
    [
        ([EXCHANGE_PROTOCOL], Verdict.UNREACHABLE),
        (["http"], Verdict.DIRECT),
        ([], Verdict.DIRECT),
    ],
)
async def test_a_silent_port_counts_only_against_who_has_an_exchange_there(
    node: Node, protocols: list[str], verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Identity.generate()
    ports = [Protocol(name=name, port=SILENT[1]) for name in protocols]
    async with end() as other:
        finder = await node.open_discovery("liars")
        await finder.connect(other.endpoint)
        told(node, silent, SILENT, protocols=ports)
        monkeypatch.setattr(link_module, "DIAL_DEADLINE", 0.05)
        assert await met_twice(node, finder, silent, SILENT) is verdict


async def test_who_answered_before_and_is_silent_now_counts_as_gone(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Identity.generate()
    async with end() as other:
        finder = await node.open_discovery("liars")
        async with end(gone) as there:
            at = there.endpoint
            told(node, gone, at)
            await finder.connect(at)
        await finder.connect(other.endpoint)
        await until(lambda: finder.dialler.link_at(at) is None)
        monkeypatch.setattr(link_module, "DIAL_DEADLINE", 0.05)
        assert await met_twice(node, finder, gone, at) is Verdict.UNREACHABLE


async def test_who_is_another_than_was_said_counts_whatever_the_record_names(node: Node) -> None:
    said = Identity.generate()
    async with end() as other, end() as third:
        finder = await node.open_discovery("liars")
        await finder.connect(third.endpoint)
        told(node, said, other.endpoint)
        for _ in range(2):
            finder.dialler.begin_round()
            await finder.acquaintance.meet(Candidate("contact", said.public_key, other.endpoint))
            (link,) = [one for one in finder.exchange.links if one.remote == other.endpoint]
            link.hang_up()
        peer = node.peer(said.peer_id, node._store.peers[said.peer_id])
        assert peer.verdict is Verdict.UNREACHABLE


async def test_an_address_that_our_socket_cannot_dial_counts_against_nobody(node: Node) -> None:
    far, at = Identity.generate(), ("2001:db8::1", 30906)
    ours = [Protocol(name=EXCHANGE_PROTOCOL, port=at[1])]
    async with end() as other:
        finder = await node.open_discovery("liars")
        await finder.connect(other.endpoint)
        told(node, far, at, protocols=ours)
        assert await met_twice(node, finder, far, at) is Verdict.DIRECT
        assert finder.dialler.counts.failed == 0


async def test_who_we_shun_ourselves_is_not_said_to_be_silent(node: Node) -> None:
    liar = Identity.generate()
    async with end() as other, end(liar) as there, end(liar, "127.0.0.2:0") as moved:
        finder = await node.open_discovery("liars")
        await finder.connect(other.endpoint)
        finder.exchange.shun(await finder.connect(there.endpoint), "it lied")
        for exchange in (there, moved):
            at = exchange.endpoint
            ours = [Protocol(name=EXCHANGE_PROTOCOL, port=at[1])]
            told(node, liar, at, protocols=ours)
            assert await met_twice(node, finder, liar, at) is Verdict.DIRECT


async def test_however_many_keys_are_named_only_so_many_are_looked_up(node: Node) -> None:
    await node.carrier.ready(10)
    finder = await node.open_discovery("liars")
    many = [
        asyncio.create_task(
            finder.acquaintance.meet(Candidate("registry", Identity.generate().public_key))
        )
        for _ in range(MET_LOOKUPS + MET_WAITING + 50)
    ]
    await until(lambda: node._resolver.running)
    assert node._resolver.running <= MET_LOOKUPS
    waiting = [one for one in many if not one.done()]
    assert len(waiting) <= MET_LOOKUPS + MET_WAITING
    for task in many:
        task.cancel()
    await asyncio.wait(many)
    assert finder.acquaintance._looked_for == 0
