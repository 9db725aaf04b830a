"""Our own record as a daemon publishes it: at start, when its file or our key changes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dhtmeta.engine.resolve import Answer
from dhtmeta.errors import NotFound
from dhtmeta.node import Node
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import create_identity, read_identity
from tests.cli.test_cli import dhtmeta
from tests.conftest import make_node
from tests.daemon.process import PATIENCE, Supervised, supervised, write_settings


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
        assert count(daemon, "is published") == 2


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
