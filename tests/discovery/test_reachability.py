"""How a daemon finds out what it is to others: behind real NATs, gateways, and where it moves."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from dhtmeta.const import DIAL_BACKS_FAILED, EXCHANGE_PORT
from dhtmeta.discovery import ourselves as ourselves_module
from dhtmeta.discovery import reachability as reachability_module
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.reachability import Reach, Reachability, described
from dhtmeta.errors import RemoteError
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.node import Node
from dhtmeta.testing.netns import Host, Internet, Lan
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.record import EXCHANGE_PROTOCOL, NetworkInfo, NodeRecord
from tests.conftest import make_node
from tests.discovery.ends import end, until
from tests.discovery.town import Town
from tests.gateway import ALLOWED, Gateway

NOT_OURS = f"deny {EXCHANGE_PORT} 10.0.0.0/8 0-65535"
ASKED_OFTEN = {"DIAL_BACK_INTERVAL": 1.0, "DIAL_BACK_EACH": 0.5}
ASKED_AGAIN = 4.0  # s in which such a node was dialled back more than once
FORWARD = """
table ip by_hand {{
    chain in {{
        type nat hook prerouting priority dstnat
        iifname "eth0" udp dport {port} dnat to {host}:{port}
    }}
}}
"""


async def test_a_forwarded_port_makes_a_node_public_while_others_come_through(
    internet: Internet, town: Town, lan: Lan
) -> None:
    router, inside = internet.public(), lan.host()
    rules = FORWARD.format(port=EXCHANGE_PORT, host=inside.address)
    lan.gateway.run(["nft", "-f", "-"], rules)
    await town.router(router)
    reader, forwarded = await asyncio.gather(
        town.settle(internet.public(), router, constants=ASKED_OFTEN),
        town.settle(inside, router, constants=ASKED_OFTEN),
    )
    entry = await reader.reaches(forwarded, "direct")
    assert entry["address"] == f"{lan.address}:{EXCHANGE_PORT}"
    assert "supports_upnp" not in await reader.holds(forwarded)
    entry = await reader.lists(forwarded, lambda entry: bool(entry["age"] > ASKED_AGAIN))
    assert entry["verdict"] == "direct"

    lan.gateway.run(["nft", "delete", "table", "ip", "by_hand"])
    entry = await reader.reaches(forwarded, "via-relay")
    assert entry["address"] == reader.exchange


async def test_a_gateway_that_maps_ports_makes_a_node_public_at_once(
    internet: Internet, town: Town, lan: Lan, gateway: Gateway
) -> None:
    router = internet.public()
    await gateway.start(ALLOWED)
    await town.router(router)
    reader, mapped = await asyncio.gather(
        town.settle(internet.public(), router), town.settle(lan.host(), router)
    )
    await reader.reaches(mapped, "direct")
    info = await reader.holds(mapped, lambda info: bool(info.get("supports_upnp")))
    assert (info["node_type"], info["public_ip"]) == ("public", lan.address)
    assert info["public_port"] == EXCHANGE_PORT
    assert info["is_relay"]


async def test_a_node_is_public_at_the_port_that_its_gateway_chose(
    internet: Internet, town: Town, lan: Lan, gateway: Gateway
) -> None:
    router = internet.public()
    await gateway.start(NOT_OURS, ALLOWED, upnp="no")
    await town.router(router)
    reader, mapped = await asyncio.gather(
        town.settle(internet.public(), router), town.settle(lan.host(), router)
    )
    entry = await reader.reaches(mapped, "direct")
    host, _, port = entry["address"].partition(":")
    assert (host, int(port) == EXCHANGE_PORT) == (lan.address, False)
    assert f"dport {port} dnat ip to {mapped.host.address}:{EXCHANGE_PORT}" in gateway.rules()


async def test_a_node_with_another_address_says_so(internet: Internet, town: Town) -> None:
    router = internet.public()
    await town.router(router)
    reader, moving = await asyncio.gather(
        *(town.settle(internet.public(), router) for _ in range(2))
    )
    await asyncio.gather(reader.reaches(moving, "direct"), moving.reaches(reader, "direct"))
    address = f"{moving.host.address.rpartition('.')[0]}.2"
    move(internet, moving.host, address)
    await reader.lists(moving, lambda entry: bool(entry["address"] == f"{address}:{EXCHANGE_PORT}"))


def move(internet: Internet, host: Host, address: str) -> None:
    """Give a public host another address."""
    port = host.name.rpartition("-")[2]
    internet._router.run(["ip", "route", "add", f"{address}/32", "dev", port])
    host.run(["ip", "addr", "flush", "dev", "eth0"])
    host.run(["ip", "addr", "add", f"{address}/32", "dev", "eth0"])
    host.run(["ip", "route", "replace", "default", "via", "169.254.0.1", "dev", "eth0", "onlink"])


# what peers say, without namespaces

HERE: Endpoint = ("8.8.4.4", 30906)  # an address of ours that all of the Internet can have
THERE: Endpoint = ("9.9.9.9", 30906)


class Told(Reachability):
    """Reachability of who has the address HERE on an interface."""

    @property
    def own(self) -> Endpoint | None:
        return HERE


async def met(theirs: Exchange, ours: Exchange, seen_as: Endpoint) -> Link:
    """Dial a peer that sees us there."""
    link = await ours.dial(theirs.endpoint)
    link.seen_as = seen_as
    return link


def answer(exchange: Exchange, *, ok: int) -> None:
    """Say of every dial back how it went, without any."""
    exchange.on(wire.Dial, lambda link, dial: link.say(wire.Dialled(r=dial.r, ok=ok)))


async def test_one_peer_that_lies_takes_our_own_address_away_from_no_claim() -> None:
    async with end() as ours, end() as liar, end() as honest:
        reachability = Told(ours, lambda: None, allow_non_global=False)
        assert reachability.claims() == {HERE: True}
        reachability._on_open(await met(liar, ours, THERE))
        assert reachability.claims() == {HERE: False, THERE: False}
        link = await met(honest, ours, HERE)
        answer(honest, ok=1)
        reachability._follow_own()
        await reachability._ask(link, HERE)
        assert reachability._now().public == HERE
        answer(liar, ok=1)
        await reachability._ask(link, THERE)
        assert reachability._now().public == HERE


async def test_one_dial_back_in_vain_takes_no_proof_away_and_two_peers_do() -> None:
    async with end() as ours, end() as first, end() as second:
        reachability = Reachability(ours, lambda: None, allow_non_global=False)
        links = [await met(one, ours, THERE) for one in (first, second)]
        for one, link in zip((first, second), links, strict=True):
            reachability._on_open(link)
            answer(one, ok=0)
        reachability._follow_own()
        claim = (THERE[0], ours.endpoint[1])
        reachability._proven = {claim: asyncio.get_running_loop().time()}
        for _ in range(DIAL_BACKS_FAILED):
            await reachability._ask(links[0], claim)
            assert reachability._now().public == claim
        await reachability._ask(links[1], claim)
        assert reachability._now().node_type == "private"


async def test_where_there_is_one_peer_to_ask_its_word_counts() -> None:
    async with end() as ours, end() as only:
        reachability = Reachability(ours, lambda: None, allow_non_global=False)
        link = await met(only, ours, THERE)
        reachability._on_open(link)
        answer(only, ok=0)
        reachability._follow_own()
        claim = (THERE[0], ours.endpoint[1])
        reachability._proven = {claim: asyncio.get_running_loop().time()}
        await reachability._ask(link, claim)
        assert reachability._now().node_type == "private"


async def test_only_so_many_are_dialled_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability_module, "DIAL_BACKS_AT_ONCE", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        async with end() as asked, end() as first, end() as second:
            reachability = Reachability(asked, lambda: None, allow_non_global=True)
            (await first.dial(asked.endpoint)).say(wire.Dial(r=7, port=port))
            await until(lambda: reachability._tasks)
            link = await second.dial(asked.endpoint)
            with pytest.raises(RemoteError, match="many others are being dialled"):
                await link.request(lambda r: wire.Dial(r=r, port=port), wire.Dialled)
            await reachability.close()
            answered = await link.request(
                lambda r: wire.Dial(r=r, port=second.endpoint[1]), wire.Dialled
            )
            assert answered.ok


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Have the operating system open nothing any more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_our_address_is_not_known() -> None:
    with no_descriptors():
        assert reachability_module._own_address(socket.AF_INET) is None


@pytest.mark.parametrize("node_type", ["public", ""])
@pytest.mark.parametrize("public", [HERE, None])
def test_the_port_of_our_exchange_is_named_where_the_operator_names_another(
    node_type: Literal["", "public"], public: Endpoint | None
) -> None:
    reach = Reach("public" if public else "", public, HERE)
    base = NetworkInfo(node_type=node_type, public_ip=HERE[0], public_port=8080)
    info = described(base, reach, None, 0)
    assert info.public_port == 8080
    if node_type or public:
        assert NodeRecord(network_info=info).exchange == HERE
        assert [one.name for one in info.protocols] == [EXCHANGE_PROTOCOL]
        assert described(info, reach, None, 0).protocols == info.protocols
    same = NetworkInfo(node_type=node_type, public_ip=HERE[0], public_port=HERE[1])
    assert described(same, reach, None, 0).protocols == []


async def test_an_announce_that_ended_begins_anew(
    own_swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ourselves_module, "RELAY_POLL", 0.001)
    begun: list[int] = []

    class Broken:
        async def announce(self, port: int) -> None:
            begun.append(port)
            raise ZeroDivisionError

    async with make_node(own_swarm, tmp_path) as node:
        ourselves = (await node.open_discovery("t")).ourselves
        monkeypatch.setattr(ourselves, "_to_announce", lambda: {("t", 30906)})
        monkeypatch.setattr(ourselves, "topic_source", lambda topic: Broken())
        announcing = asyncio.create_task(ourselves.announce())
        await until(lambda: len(begun) > 1)
        announcing.cancel()
        await asyncio.wait([announcing])


async def test_a_visit_whose_search_has_ended_searches_anew(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    async with make_node(own_swarm, tmp_path) as node:
        ended = await searching(node)
        ended.cancel()
        await asyncio.wait([ended])
        assert not (await searching(node)).done()


async def searching(node: Node) -> "asyncio.Task[None]":
    await node._company._searching("t")
    assert node._company._search is not None
    return node._company._search
