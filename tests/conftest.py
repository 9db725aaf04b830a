"""Fixtures of all tests: real swarms on loopback, nodes on a clock that tests move, no leaks."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hypothesis
import pytest
import pytest_asyncio

from dhtmeta.config import Settings
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.node import Node
from dhtmeta.testing.liar import Liar
from dhtmeta.testing.netns import Internet, Lan, why_not
from dhtmeta.testing.swarm import Swarm

if TYPE_CHECKING:
    from tests.gateway import Gateway

pytest_plugins = ("tests.deadline",)

# How long one example takes decides nothing: the machine may be busy, with other tests, too.
hypothesis.settings.register_profile("untimed", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what is no UTF-8 in what a test printed: between processes it could not be sent."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep defaults and the caller's settings out of tests, and tests out of the caller's home."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(autouse=True)
def _no_thread_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    if _opens_nodes(request):
        return
    left = [
        thread
        for thread in set(threading.enumerate()) - before
        if not thread.name.startswith("asyncio_")  # the loop's own pool
    ]
    for thread in left:
        thread.join(2.0)  # one that was told to end may need a moment
    alive = [thread.name for thread in left if thread.is_alive()]
    assert not alive, f"threads left running: {alive}"


def _opens_nodes(request: pytest.FixtureRequest) -> bool:
    """Whether the test opened the session's nodes, whose store threads stay until the end."""
    return bool({"reader", "writer"} & set(request.fixturenames))


class Clock:
    """Unix seconds that stand still until a test moves them."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that the test moves."""
    return Clock()


def missing(reason: str) -> NoReturn:
    """Skip a test that this machine cannot run; with CI set in the environment, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def internet() -> Iterator[Internet]:
    """Make an internet of network namespaces for one test."""
    if reason := why_not():
        missing(reason)
    with Internet() as net:
        yield net


class StandingSwarm(Swarm):
    """The session's swarm, which only nodes of the whole session join.

    Who leaves a swarm stays in its tables, where libtorrent waits 15 s for them at each put and
    then may store one copy less.
    """


@pytest_asyncio.fixture(scope="session")
async def swarm() -> AsyncIterator[StandingSwarm]:
    """Run twelve nodes for the whole session."""
    async with StandingSwarm(12) as running:
        yield running


@pytest_asyncio.fixture
async def own_swarm() -> AsyncIterator[Swarm]:
    """Run twelve nodes for one test, which may leave dead nodes in their tables."""
    async with Swarm(12) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def writer(swarm: Swarm, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """Run a node of the session's swarm that publishes."""
    async with resident_node(swarm, tmp_path_factory.mktemp("writer")) as node:
        yield node


@pytest_asyncio.fixture(scope="session")
async def libtorrent_writer(
    swarm: Swarm, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Node]:
    """Run a node of the session's swarm that publishes through libtorrent."""
    directory = tmp_path_factory.mktemp("libtorrent")
    async with resident_node(swarm, directory, carrier="libtorrent") as node:
        yield node


@pytest_asyncio.fixture(scope="session")
async def reader(swarm: Swarm, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """Run another node of the session's swarm, which never shares a store with the writer."""
    async with resident_node(swarm, tmp_path_factory.mktemp("reader")) as node:
        yield node


def make_node(swarm: Swarm, directory: Path, **options: Any) -> Node:
    """Make a node of `swarm` that keeps everything in `directory`."""
    stays_out = options.get("offline") or "bootstrap" in options
    if isinstance(swarm, StandingSwarm) and not stays_out:
        pytest.fail("a node that leaves before the session ends takes `own_swarm`")
    return resident_node(swarm, directory, **options)


def resident_node(swarm: Swarm, directory: Path, **options: Any) -> Node:
    """Make a node that stays as long as `swarm` does."""
    given: dict[str, Any] = {
        "bootstrap": swarm.addresses[:2],
        "keys": directory / "keys",
        "store": str(directory / "store.db"),
        "state": directory / "dht",
        "settings": Settings(),
    }
    return Node(**given | options)


class Tardy(Liar):
    """A node that, while `silent`, keeps the gets that come, and answers them when it is told to.

    libtorrent waits 15 s for each, so that a test says itself how long a lookup of it takes.
    """

    def __init__(self, near: bytes) -> None:
        super().__init__(near, {})
        self._kept: list[tuple[bytes, Endpoint]] = []

    def datagram_received(self, data: bytes, addr: Endpoint) -> None:
        if self.silent and b"1:q3:get" in data:
            self._kept.append((data, addr))
        else:
            super().datagram_received(data, addr)

    async def asked(self, times: int = 1) -> None:
        """Wait until so many gets are kept."""
        async with asyncio.timeout(10):
            while len(self._kept) < times:
                await asyncio.sleep(0.01)

    def answer(self, times: int | None = None) -> None:
        """Answer the oldest of the gets that are kept, or all, and from now on at once."""
        self.silent = False
        for data, addr in self._kept[:times]:
            super().datagram_received(data, addr)
        del self._kept[:times]


@pytest.fixture
def lan(internet: Internet) -> Lan:
    """Make a LAN behind a NAT."""
    return internet.lan()


@pytest_asyncio.fixture
async def gateway(lan: Lan, tmp_path: Path) -> "AsyncIterator[Gateway]":
    """Have a miniupnpd on its NAT, once it is started."""
    from tests.gateway import Gateway

    made = Gateway(lan, tmp_path)
    yield made
    await made.stop()
