"""Our own record as a daemon publishes it: at start, when its file or our key changes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from dhtmeta.const import DEBOUNCE
from dhtmeta.daemon.own_record import OwnRecord
from dhtmeta.engine.resolve import Answer
from dhtmeta.errors import DhtmetaError, NetworkUnreachable, NotFound, StoreError
from dhtmeta.node import Node
from dhtmeta.testing.sim_loop import sim_run
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import create_identity, read_identity
from dhtmeta.values.record import NodeRecord
from tests.cli.test_cli import dhtmeta
from tests.conftest import make_node
from tests.daemon.process import PATIENCE, Supervised, supervised, write_settings
from tests.residents import until


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "record.json"
    say(path, "one")
    return path


@pytest.fixture
def settings(tmp_path: Path, record: Path, own_swarm: Swarm) -> Path:
    path = tmp_path / "daemon.toml"
    create_identity(tmp_path / "keys")
    return write_settings(path, own_swarm.addresses[:2], {"identity": {"record": str(record)}})


@pytest_asyncio.fixture
async def elsewhere(own_swarm: Swarm, tmp_path: Path) -> AsyncIterator[Node]:
    async with make_node(own_swarm, tmp_path / "elsewhere") as node:
        yield node


def say(path: Path, topic: str) -> None:
    path.write_text(json.dumps({"topic": topic}))


def watched(
    record: Path, script: Callable[[], Awaitable[None]], *failures: DhtmetaError | None
) -> tuple[list[str], str | None]:
    """Watch a file on virtual time while `script` runs, and return what went out.

    The first publishes fail with `failures`. Returns the last problem, too.
    """
    topics: list[str] = []
    key = record.with_name("key")
    waiting = list(failures)

    async def publish(one: NodeRecord) -> None:
        topics.append(one.topic)
        if not key.exists():
            key.touch()  # a Node makes its keys on first use; that is no rotation
        if waiting and (failure := waiting.pop(0)) is not None:
            raise failure

    async def main() -> str | None:
        own = OwnRecord(record, key, publish)
        running = asyncio.create_task(own.run())
        await script()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return own.problem

    problem = sim_run(main())
    return topics, problem


def test_several_writes_within_a_second_of_each_other_are_one_publish(record: Path) -> None:
    async def script() -> None:
        await asyncio.sleep(10)
        for topic in ("two", "three", "four", "five"):
            say(record, topic)
            await asyncio.sleep(0.9 * DEBOUNCE)
        await asyncio.sleep(10)

    assert watched(record, script) == (["one", "five"], None)


def test_a_failure_is_told_of_and_tried_again_until_it_works(record: Path) -> None:
    async def script() -> None:
        await asyncio.sleep(600)

    failures = [StoreError("the disk is full")] * 4
    assert watched(record, script, *failures) == (["one"] * 5, None)
    _, problem = watched(record, script, *failures * 20)
    assert problem == "our record is not published yet: the disk is full"


def test_what_fails_for_days_is_tried_ever_more_seldom_and_for_ever(record: Path) -> None:
    async def script() -> None:
        await asyncio.sleep(5 * 86_400)

    topics, _ = watched(record, script, *[StoreError("the disk is full")] * 5000)
    assert 1024 < len(topics) < 1500  # no power of two that is no float, and no loop


def test_what_heals_by_itself_is_no_problem_and_tried_again_at_once(record: Path) -> None:
    async def script() -> None:
        await asyncio.sleep(60)

    assert watched(record, script, *[NetworkUnreachable("nobody")] * 10) == (["one"] * 11, None)
    topics, problem = watched(record, script, *[NetworkUnreachable("nobody")] * 1000)
    assert (len(topics) > 20, problem) == (True, None)


async def published(reader: Node, key: bytes, topic: str) -> Answer:
    """Wait until anybody can read that."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(NotFound):
                answer = await reader.query(key, policy="freshest")
                if answer.record is not None and answer.record.topic == topic:
                    return answer
            await asyncio.sleep(0.05)


async def test_it_is_published_at_start_and_once_for_several_quick_writes(
    settings: Path, record: Path, elsewhere: Node, tmp_path: Path
) -> None:
    key = read_identity(tmp_path / "keys").public_key
    async with supervised(settings) as daemon:
        assert (await published(elsewhere, key, "one")).seq == 1
        for topic in ("two", "three", "four"):
            say(record, topic)
        assert (await published(elsewhere, key, "four")).seq == 2
        assert await daemon.ended() == 0


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ('{"topic": 1}', "is not published: topic: Expected `str`"),
        ("{", "is not published: not JSON"),
        (None, "cannot be read from"),
    ],
)
async def test_a_broken_file_is_told_of_and_what_was_published_stays(
    broken: str | None, said: str, settings: Path, record: Path, elsewhere: Node, tmp_path: Path
) -> None:
    key = read_identity(tmp_path / "keys").public_key
    async with supervised(settings) as daemon:
        await published(elsewhere, key, "one")
        if broken is None:
            record.unlink()
        else:
            record.write_text(broken)
        shown = await daemon.degraded(said)
        assert str(record) in shown["problems"][0]
        assert (await elsewhere.query(key, policy="freshest")).seq == 1
        say(record, "one")  # as it was
        await daemon.is_in("ready")
        say(record, "mended")
        await published(elsewhere, key, "mended")
        assert await daemon.ended() == 0


async def test_a_daemon_without_keys_makes_them_and_publishes_once(
    own_swarm: Swarm, record: Path, elsewhere: Node, tmp_path: Path
) -> None:
    path = tmp_path / "daemon.toml"
    write_settings(path, own_swarm.addresses[:2], {"identity": {"record": str(record)}})
    async with supervised(path) as daemon:
        await daemon.said(f"our record of {record} is published")
        key = read_identity(tmp_path / "keys").public_key
        say(record, "two")
        assert (await published(elsewhere, key, "two")).seq == 2
        await until(lambda: count(daemon, "is published") == 2)  # said once the DHT has it


def count(daemon: Supervised, part: str) -> int:
    return sum(part in line["event"] for line in daemon.logged)


async def test_after_a_rotation_it_is_published_under_the_new_key(
    settings: Path, own_swarm: Swarm, elsewhere: Node, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    old = read_identity(keys).public_key
    async with supervised(settings) as daemon:
        await published(elsewhere, old, "one")
        words = ("keygen", "--rotate", "--keys", keys, "--store", tmp_path / "store.db")
        ran = await dhtmeta(*words, "--bootstrap", own_swarm.addresses[0], "--json")
        assert ran.code == 0
        new = read_identity(keys).public_key
        assert new != old
        assert (await published(elsewhere, new, "one")).seq == 1
        followed = await elsewhere.query(old, policy="freshest")
        assert followed.item.public_key == new  # nothing was put over what names the successor
        assert await daemon.ended() == 0
