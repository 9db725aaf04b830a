"""`keygen --rotate` as a shell sees it: what it prints, how it fails, and kill -9 on the way."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from dhtmeta.const import CARRIERS
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import (
    NEXT_FILE,
    PRIVATE_FILE,
    PUBLIC_FILE,
    create_identity,
    next_identity,
    old_directory,
    read_identity,
)
from tests.cli.test_cli import dhtmeta, silent_address


@pytest.fixture
def net(own_swarm: Swarm) -> tuple[str, ...]:
    """Return the options that lead to a swarm of this test's own."""
    return ("--bootstrap", own_swarm.addresses[0])


@pytest.fixture
def value(tmp_path: Path) -> Path:
    path = tmp_path / "value.json"
    path.write_text('"hello"')
    return path


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_rotate_then_query_the_old_key(
    net: tuple[str, ...], tmp_path: Path, value: Path, carrier: str
) -> None:
    keys = tmp_path / "keys"
    net += ("--carrier", carrier)
    old = (await dhtmeta("keygen", "--keys", keys, "--json")).json
    publish: tuple[str | Path, ...] = ("publish", "--keys", keys, "--value", value, *net, "--json")
    assert (await dhtmeta(*publish)).json["seq"] == 1
    ran = await dhtmeta("keygen", "--rotate", "--keys", keys, *net, "--json")
    new = read_identity(keys)
    kept = old_directory(keys, bytes.fromhex(old["public_key"]))
    published = ran.json["published"]
    assert ran.json == {
        "public_key": new.public_key.hex(),
        "peer_id": new.peer_id.hex(),
        "keys": str(keys),
        "rotated_from": old["public_key"],
        "old_keys": str(kept),
        "published": published,
    }
    assert (published["public_key"], published["seq"]) == (old["public_key"], 2)
    assert published["accepted"] >= 8
    assert read_identity(kept).public_key.hex() == old["public_key"]
    query = ("query", old["public_key"], "--policy", "freshest", *net)
    alone = await dhtmeta(*query, "--json")
    assert alone.json["successor"] == new.public_key.hex()
    assert "followed" not in alone.json
    assert f"rotated to  {new.public_key.hex()}, which" in (await dhtmeta(*query)).out
    assert (await dhtmeta(*publish)).json["public_key"] == new.public_key.hex()
    followed = await dhtmeta(*query, "--json")
    assert followed.json["public_key"] == new.public_key.hex()
    assert followed.json["followed"] == old["public_key"]
    assert "successor" not in followed.json
    assert followed.json["value"] == "hello"
    assert f"follows     {old['public_key']}, which" in (await dhtmeta(*query)).out


async def test_what_people_are_shown(net: tuple[str, ...], tmp_path: Path) -> None:
    old = create_identity(tmp_path / "keys")
    ran = await dhtmeta("keygen", "--rotate", "--keys", tmp_path / "keys", *net)
    new = read_identity(tmp_path / "keys")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        f"public key  {new.public_key.hex()}",
        f"peer id     {new.peer_id.hex()}",
        f"kept in     {tmp_path / 'keys'}",
        f"follows     {old.public_key.hex()}, kept in "
        f"{old_directory(tmp_path / 'keys', old.public_key)}",
    ]
    assert "publish a record with the new key" in ran.err


KILLED = """
import os, signal, sys
from pathlib import Path
from dhtmeta.cli.main import main
fatal, name = sys.argv[1], sys.argv[2]

def step(event, args):
    if event == fatal and any(name in str(arg) for arg in args):
        os.kill(os.getpid(), signal.SIGKILL)

sys.argv[1:] = sys.argv[3:]
sys.addaudithook(step)
main()
"""


@pytest.mark.parametrize(
    ("event", "name", "published"),
    [
        ("os.link", NEXT_FILE, False),  # nothing was done yet
        ("socket.__new__", "", False),  # the new key is there, nothing was sent
        ("os.mkdir", "old-", True),  # it was stored, the keys are as they were
        ("os.rename", PUBLIC_FILE, True),
        ("os.rename", NEXT_FILE, True),  # all but the last step is done
    ],
)
async def test_killed_on_the_way_it_is_finished_by_running_it_again(
    net: tuple[str, ...], tmp_path: Path, event: str, name: str, published: bool
) -> None:
    keys = tmp_path / "keys"
    old = create_identity(keys)
    if event == "socket.__new__":
        next_identity(keys)
    rotate = ("keygen", "--rotate", "--keys", str(keys), *net, "--json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, event, name, *rotate)
    )
    async with asyncio.timeout(60):
        assert await process.wait() == -signal.SIGKILL
    assert read_identity(keys).public_key == old.public_key
    assert (keys / NEXT_FILE).exists() == (event != "os.link")
    query = ("query", old.public_key.hex(), "--policy", "freshest", *net, "--json")
    found = await dhtmeta(*query)
    assert found.code == (0 if published else 3)
    named = next_identity(keys).public_key.hex()
    if published:
        assert found.json["successor"] == named
    assert (await dhtmeta(*rotate)).json["public_key"] == named
    assert (await dhtmeta(*query)).json["successor"] == named
    assert read_identity(keys).public_key.hex() == named
    assert read_identity(old_directory(keys, old.public_key)).public_key == old.public_key


async def test_bad_words_and_missing_keys_say_what_to_do(
    net: tuple[str, ...], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    stray = await dhtmeta("keygen", "--keys", keys, *net, "--carrier", "direct")
    assert (stray.code, stray.out) == (2, "")
    assert "--bootstrap, --carrier: only --rotate uses the network" in stray.err
    none = await dhtmeta("keygen", "--rotate", "--keys", keys, *net)
    assert (none.code, none.out) == (1, "")
    assert f"no private key at {keys / PRIVATE_FILE}; `dhtmeta keygen` makes one" in none.err
    assert not keys.exists()


async def test_without_a_network_the_old_keys_stay(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    old = create_identity(keys)
    nobody = ("--bootstrap", silent_address(), "--timeout", "0.5")
    ran = await dhtmeta("keygen", "--rotate", "--keys", keys, *nobody, "--json")
    assert (ran.code, ran.out) == (5, "")
    assert read_identity(keys).public_key == old.public_key


async def test_a_config_file_says_where_the_keys_are(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[identity]\nkeys = "{tmp_path / "mine"}"\n')
    made = (await dhtmeta("keygen", "--config", config, "--json")).json
    assert read_identity(tmp_path / "mine").public_key.hex() == made["public_key"]
