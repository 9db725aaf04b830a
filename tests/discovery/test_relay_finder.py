"""Where relays are found, by whom they are needed, and when they are looked for again."""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from dhtmeta.config import Settings
from dhtmeta.discovery import attachment as attachment_module
from dhtmeta.discovery import finder as finder_module
from dhtmeta.discovery.attachment import Attachment
from dhtmeta.discovery.candidate import Candidate
from dhtmeta.discovery.finder import Finder
from dhtmeta.discovery.ladder import LAST_RESORT as REGISTRY
from dhtmeta.discovery.relay_finder import RelayFinder
from dhtmeta.errors import RemoteError
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import Identity
from tests.conftest import make_node
from tests.discovery.ends import end, signed_record, until
from tests.discovery.relays import client, endpoint, relay


@dataclass
class Named:
    """A source that names these, or fails; `asked` counts."""

    name: str
    endpoints: list[Endpoint] = field(default_factory=list)
    fails: Exception | None = None
    asked: int = 0

    async def candidates(self) -> AsyncIterator[Candidate]:
        self.asked += 1
        for one in self.endpoints:
            yield Candidate(self.name, endpoint=one)
        if self.fails is not None:
            raise self.fails


@pytest_asyncio.fixture
async def finder(swarm: Swarm, tmp_path: Path) -> AsyncIterator[Finder]:
    async with make_node(swarm, tmp_path, settings=Settings(), offline=True) as node:
        yield await node.open_discovery("liars", listen="127.0.0.1:0")


async def found(relays: RelayFinder) -> list[Endpoint]:
    return [one async for some in relays.find() for one in some]


async def test_addresses_that_strangers_may_not_name_are_no_relays(finder: Finder) -> None:
    sources = [
        Named(name, [("224.0.0.1", 4000), ("127.0.0.1", 22)]) for name in ("topic", REGISTRY)
    ]
    sources[1].endpoints.append(("127.0.0.1", 4000))
    relays = RelayFinder(finder._around, finder.ourselves, sources)
    finder.ourselves.stated_relays = [("127.0.0.1", 23)]  # by the operator
    assert await found(relays) == [("127.0.0.1", 23), ("127.0.0.1", 4000)]
    assert [one.asked for one in sources] == [1, 1]


async def test_a_registry_is_asked_for_relays_seldom_and_only_where_none_is_known(
    finder: Finder,
) -> None:
    registry, topic = Named(REGISTRY), Named("topic")
    relays = RelayFinder(finder._around, finder.ourselves, [topic, registry])
    interval = finder._around.settings.peer_discovery.discovery_interval
    for times, wait in enumerate([1, 2, 4, 8, 8], 1):
        for _ in range(3):
            await found(relays)
        assert (registry.asked, topic.asked, relays._wait) == (times, 3 * times, wait * interval)
        relays._again = 0.0
    item = signed_record(
        Identity.generate(), timestamp=int(finder._around.clock()), info={"is_relay": True}
    )
    finder._around.resolver.cache.learn(item.target, item, finder._around.clock())
    assert await found(relays) == [("127.0.0.1", 30906)]
    assert registry.asked == 5


@pytest.mark.parametrize("fails", [RuntimeError("a bug"), RemoteError("no")])
async def test_a_source_that_fails_does_not_end_the_search(
    finder: Finder, fails: Exception
) -> None:
    at, other = ("127.0.0.1", 4000), ("127.0.0.1", 4001)
    sources = [Named("topic", [at], fails), Named("more", [other])]
    assert await found(RelayFinder(finder._around, finder.ourselves, sources)) == [at, other]


async def test_a_search_that_has_ended_begins_anew(
    finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder_module, "RELAY_POLL", 0.0)
    finder.ourselves._stated_type = "private"
    began: list[None] = []

    async def end_at_once() -> None:
        began.append(None)

    monkeypatch.setattr(finder.attachment, "run", end_at_once)
    task = asyncio.create_task(finder._stay_attached())
    try:
        await until(lambda: len(began) > 2)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_one_that_was_public_waits_for_a_relay_once_it_is_private() -> None:
    async with client() as peer:
        assert peer.attachment.without_since == math.inf  # it does not look for one yet
        await until(lambda: peer.attachment.without_since < math.inf)
        assert peer.attachment.without_since <= asyncio.get_running_loop().time()
    assert peer.attachment.without_since == math.inf


async def test_the_search_survives_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment_module, "RELAY_RETRY", 0.0)
    async with relay() as desk, end() as exchange:
        bugs = [RuntimeError("once")]

        async def find() -> AsyncGenerator[Sequence[Endpoint], None]:
            if bugs:
                raise bugs.pop()
            yield [endpoint(desk)]

        attachment = Attachment(exchange, find, random.Random(1))
        task = asyncio.create_task(attachment.run())
        await until(lambda: attachment.session)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
