"""The command line as a shell sees it: real processes, a real swarm, exit codes and messages."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dhtmeta._fast.bencode import Value
from dhtmeta.cli.main import shared_exit_code
from dhtmeta.const import CARRIERS
from dhtmeta.errors import (
    DeadlineExceeded,
    DhtmetaError,
    NetworkUnreachable,
    NotFound,
    StoreError,
)
from dhtmeta.node import Node
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import PRIVATE_FILE, PUBLIC_FILE, Identity, create_identity
from dhtmeta.values.plain import from_builtins
from tests.conftest import make_node

both_carriers = pytest.mark.parametrize("carrier", CARRIERS)
RECORD = {"topic": "t", "network_info": {"node_type": "public", "public_port": 5}}


@dataclass
class Ran:
    """What a process left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one line of JSON that it printed."""
        (line,) = self.out.splitlines()
        return json.loads(line)


async def dhtmeta(*words: str | bytes | Path, stdin: bytes = b"") -> Ran:
    """Run the command with these words, in a home of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dhtmeta",
        *words,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin or None)
    assert process.returncode is not None
    ran = Ran(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in ran.err
    assert "a bug of ours" not in ran.err
    return ran


@pytest.fixture
def net(own_swarm: Swarm) -> list[str]:
    """Return the options that lead to a swarm of this test's own."""
    return ["--bootstrap", own_swarm.addresses[0]]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Write a NodeRecord as JSON."""
    path = tmp_path / "record.json"
    path.write_text(json.dumps(RECORD))
    return path


@both_carriers
async def test_keygen_publish_query_and_query_again(
    net: list[str], tmp_path: Path, record: Path, carrier: str
) -> None:
    """libtorrent puts on 8 nodes and counts nothing else; the direct carrier counts all."""
    keys = tmp_path / "alice"
    net = [*net, "--carrier", carrier]
    made = (await dhtmeta("keygen", "--keys", keys, "--json")).json
    published = (await dhtmeta("publish", "--keys", keys, "--record", record, *net, "--json")).json
    query = ("query", made["public_key"], *net, "--json")
    first, second = (await dhtmeta(*query)).json, (await dhtmeta(*query)).json
    accepted = published["accepted"]
    assert accepted == 8 if carrier == "libtorrent" else accepted > 8
    assert published == {
        "public_key": made["public_key"],
        "salt": "",
        "seq": 1,
        "target": made["peer_id"],
        "accepted": accepted,
        "rejected": [],
        "silent": 0,
        "copies": None if carrier == "libtorrent" else accepted,
    }
    lookup = first["lookup"]
    if carrier == "libtorrent":
        assert lookup == {"queried": 0, "answered": 0, "holding": 0, "refused": 0}
    else:
        assert lookup["queried"] >= lookup["answered"] >= lookup["holding"] >= 1
        assert lookup["refused"] == 0
    timestamp = first["record"].pop("timestamp")
    assert first == {
        "public_key": made["public_key"],
        "peer_id": made["peer_id"],
        "salt": "",
        "seq": 1,
        "record": RECORD | {"peer_id": made["peer_id"]},
        "source": "dht",
        "age_s": first["age_s"],
        "lookup": lookup,
        "connectability": {
            "verdict": "unreachable",
            "reason": "no public address",
            "address": None,
        },
    }
    assert timestamp > 1_763_000_000
    assert (second["source"], second["seq"], second["lookup"]) == ("store", 1, None)
    assert second["age_s"] > first["age_s"] >= 0


async def test_values_and_salts_and_stdin(net: list[str], tmp_path: Path) -> None:
    value = {"list": [1, -2, "é"], "raw": {"hex": "ff00"}, "yes": True}
    keys = tmp_path / "keys"
    words: list[str | Path] = ["publish", "--keys", keys, "--value", "-", "--salt", "sålt"]
    published = await dhtmeta(*words, *net, "--json", stdin=json.dumps(value).encode())
    assert published.json["salt"] == "sålt"
    key = published.json["public_key"]
    found = (await dhtmeta("query", key, "--salt", "sålt", *net, "--json")).json
    assert found["value"] == value | {"yes": 1}
    assert found["connectability"] is None
    missing = await dhtmeta("query", key, *net, "--json")
    assert (missing.code, missing.out) == (3, "")
    assert "no node holds it" in missing.err


async def test_a_salt_is_the_bytes_that_the_shell_gives(net: list[str]) -> None:
    salt: tuple[str | bytes, ...] = ("--salt", b"\xff" * 64)
    published = await dhtmeta("publish", "--value", "-", *salt, *net, "--json", stdin=b'"x"')
    assert published.json["salt"] == {"hex": "ff" * 64}
    found = await dhtmeta("query", published.json["public_key"], *salt, *net, "--json")
    assert found.json["salt"] == {"hex": "ff" * 64}


@both_carriers
async def test_publishing_again_and_again_never_waits_for_our_own_ghost(
    net: list[str], tmp_path: Path, record: Path, carrier: str
) -> None:
    keys = tmp_path / "keys"
    words: tuple[str | Path, ...] = (
        "publish",
        "--keys",
        keys,
        "--record",
        record,
        *net,
        "--carrier",
        carrier,
        "--timeout",
        "10",
        "--json",
    )
    assert [(await dhtmeta(*words)).json["seq"] for _ in range(3)] == [1, 2, 3]


async def test_what_strangers_say_cannot_control_the_terminal(
    own_swarm: Swarm, net: list[str], tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with make_node(own_swarm, tmp_path) as node:
        nasty: Value = {b"k\x1b[2J\xff": "\x1b]0;owned\x07 \u202e \x9b".encode()}
        await node.publish(nasty, identity=identity)
        ran = await dhtmeta("query", identity.public_key.hex(), *net)
        as_json = (await dhtmeta("query", identity.public_key.hex(), *net, "--json")).json
    assert ran.code == 0
    assert all(c.isprintable() or c == "\n" for c in ran.out)
    assert from_builtins(as_json["value"]) == nasty


async def test_several_keys_at_once(net: list[str], tmp_path: Path, record: Path) -> None:
    published = await dhtmeta("publish", "--record", record, *net, "--json")
    missing = Identity.generate().public_key.hex()
    ran = await dhtmeta("query", published.json["public_key"], missing, *net, "--json")
    assert ran.code == 3
    assert ran.json["public_key"] == published.json["public_key"]
    assert missing in ran.err


async def test_the_exit_code_for_several_keys_is_what_their_failures_have_in_common(
    net: list[str], record: Path
) -> None:
    held = (await dhtmeta("publish", "--record", record, *net, "--json")).json["public_key"]
    missing = [Identity.generate().public_key.hex() for _ in range(2)]
    nobody = ("--bootstrap", silent_address(), "--timeout", "0.5", "--json")
    assert (await dhtmeta("query", held, *net)).code == 0
    assert (await dhtmeta("query", *missing, *net)).code == 3
    unreachable = await dhtmeta("query", *missing, *nobody)
    assert (unreachable.code, unreachable.out) == (5, "")
    assert all(key in unreachable.err for key in missing)
    cached_and_unreachable = await dhtmeta("query", held, *missing, *nobody)
    assert cached_and_unreachable.code == 5
    assert cached_and_unreachable.json["public_key"] == held


@pytest.mark.parametrize(
    ("several", "code"),
    [
        ([], 0),
        ([NotFound("a"), NotFound("b")], 3),
        ([NetworkUnreachable("a"), NetworkUnreachable("b")], 5),
        ([DeadlineExceeded("a"), StoreError("b")], 1),
        ([DeadlineExceeded("a"), NotFound("b")], 1),
        ([NotFound("a"), NetworkUnreachable("b")], 1),
    ],
)
def test_failures_that_differ_share_exit_code_1(several: list[DhtmetaError], code: int) -> None:
    assert shared_exit_code(several) == code


async def test_cache_only_opens_no_socket_and_finds_nothing_new(net: list[str]) -> None:
    ran = await dhtmeta("query", "ab" * 32, "--policy", "cache-only", *net)
    assert (ran.code, ran.out) == (3, "")


@both_carriers
async def test_a_ledger_above_the_network_is_a_conflict_with_libtorrent_alone(
    net: list[str], record: Path, carrier: str
) -> None:
    """It would begin at seq 1 again; the direct carrier goes on from the ledger."""
    publish = ("publish", "--record", record, "--json", "--carrier", carrier)
    async with Swarm(8) as other:
        assert (await dhtmeta(*publish, "--bootstrap", other.addresses[0])).json["seq"] == 1
    ran = await dhtmeta(*publish, *net)
    if carrier == "libtorrent":
        assert (ran.code, ran.out) == (4, "")
        assert "the ledger says seq 1 was published, the network holds nothing" in ran.err
    else:
        assert (ran.code, ran.json["seq"]) == (0, 2)


async def test_watch_prints_each_newer_seq(tmp_path: Path) -> None:
    identity = Identity.generate()
    async with Swarm(8) as swarm, make_node(swarm, tmp_path) as node:
        await node.publish(b"one", identity=identity)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dhtmeta", "watch", identity.public_key.hex()),
            *("--interval", "1", "--count", "2", "--json", "--bootstrap", swarm.addresses[0]),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            first = json.loads(await process.stdout.readline())
            await node.publish(b"two", identity=identity)
            second = json.loads(await process.stdout.readline())
            assert await process.wait() == 0
    assert [(one["seq"], one["value"]) for one in (first, second)] == [(1, "one"), (2, "two")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_swarm_says_where_it_is_and_ends_when_told(
    number: signal.Signals, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dhtmeta", "swarm", "--nodes", "8", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        bootstrap = json.loads(await process.stdout.readline())["bootstrap"]
        async with Node(
            bootstrap=bootstrap[:1], store=str(tmp_path / "db"), keys=tmp_path, state=tmp_path
        ) as node:
            assert (await node.publish(b"x")).accepted == 8
        process.send_signal(number)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")
    assert len(set(bootstrap)) == 8
    assert all(address.startswith("127.") for address in bootstrap)


async def test_the_demo_does_what_it_says() -> None:
    ran = await dhtmeta("demo", "--json")
    rows = {row["name"]: row for row in map(json.loads, ran.out.splitlines())}
    assert ran.code == 0
    assert all(row["ok"] and not row.get("failed") for row in rows.values())
    assert [row["verdict"] for row in rows.values() if "verdict" in row] == [
        *("direct", "direct", "via-relay", "unreachable", "refused")
    ]
    assert [name for name, row in rows.items() if "saw" in row] == [
        *("started, ready", "its record is alive", "keeps another's record"),
        *("health", "metrics", "stopped by SIGTERM"),
        *("public, a relay", "public", "private"),
    ]
    assert "private: via-relay, 127.0.0.1:" in rows["public"]["saw"]
    assert "public: direct, 127.0.0.1:" in rows["private"]["saw"]
    shown = await dhtmeta("demo")
    assert "NAT, relay" in shown.out
    assert "14 of 14" in shown.err


async def test_doctor_finds_what_is_well_and_what_is_not(net: list[str], tmp_path: Path) -> None:
    well = await dhtmeta("doctor", *net, "--json")
    assert well.code == 0
    assert [json.loads(line)["check"] for line in well.out.splitlines()] == [
        *("clock", "keys", "store", "dht", "exchange")
    ]
    create_identity(tmp_path / "keys")
    (tmp_path / "keys" / PRIVATE_FILE).chmod(0o644)
    (tmp_path / "store.db").write_bytes(b"no database" * 100)
    silent = ("--bootstrap", silent_address())
    ill = await dhtmeta(
        "doctor", *net, *silent, "--keys", tmp_path / "keys", "--store", tmp_path / "store.db"
    )
    assert ill.code == 1
    assert "chmod 600" in ill.out
    assert "is damaged" in ill.out
    assert f"not the bootstrap nodes {silent[1]}" in ill.out


async def test_doctor_says_why_keys_cannot_be_looked_for(net: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    config = tmp_path / "config.toml"
    config.write_text(f'[identity]\nkeys = "{tmp_path / "file"}"\n')
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / PUBLIC_FILE).write_bytes(b"k" * 32)
    ill: list[tuple[tuple[str | Path, ...], str]] = [
        (("--keys", tmp_path / ("k" * 300)), "File name too long"),
        (("--keys", tmp_path / "half"), f"but no {PRIVATE_FILE}"),
        (("--config", config), "it is not a directory"),
    ]
    for words, message in ill:
        ran = await dhtmeta("doctor", *words, *net, "--json")
        keys = json.loads(ran.out.splitlines()[1])
        assert (ran.code, keys["check"], keys["ok"]) == (1, "keys", False)
        assert message in keys["detail"]


def silent_address() -> str:
    """Return a loopback address that was free a moment ago: nobody answers there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"topic": "n" * 1001}, "topic 1,0"),
        ({"network_info": {"nat_type": "n" * 1000}}, "network_info.nat_type 1,0"),
        ({"version": "one"}, "version: Expected `int`"),
        ({"network_info": {"public_port": 0}}, "network_info.public_port"),
        ({"network_info": {"public_ip": "localhost"}}, "network_info.public_ip: 'localhost'"),
        ({"peer_id": "0" * 39}, "peer_id"),
        ({"topic": None}, "topic: bencode has no null"),
        ({"version": 1.5}, "version: bencode has no 1.5"),
        ([1], "a NodeRecord is a dict"),
    ],
    ids=str,
)
async def test_a_bad_record_is_wrong_use_and_says_why(
    net: list[str], tmp_path: Path, record: Any, message: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(record))
    ran = await dhtmeta("publish", "--keys", tmp_path / "keys", "--record", path, *net, "--json")
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ("9" * 30, "64"),
        ("9" * 5000, "64 bits"),
        ("NaN", "bencode has no nan"),
        ('"\\ud800"', "not UTF-8"),
        ('{"hex": "xyz"}', "not hex digits"),
        (json.dumps("x" * 300_000), "larger than"),
    ],
    ids=lambda text: text[:20],
)
async def test_bad_json_is_wrong_use_and_says_why(net: list[str], text: str, message: str) -> None:
    ran = await dhtmeta("publish", "--value", "-", *net, stdin=text.encode())
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


async def test_bad_words_are_wrong_use_and_say_why(net: list[str], record: Path) -> None:
    watch = ("watch", "ab" * 32)
    bad: list[tuple[tuple[str | bytes | Path, ...], str]] = [
        (("query", "abc", *net), "64 hex digits"),
        (("query", "zz" * 32, *net), "64 hex digits"),
        (("query", "ab" * 32, "--salt", "s" * 65, *net), "at most 64 bytes"),
        (("publish", "--record", record, "--salt", "s" * 65, *net), "at most 64 bytes"),
        (("query", "ab" * 32, "--salt", b"\xff" * 65, *net), "at most 64 bytes"),
        ((*watch, "--salt", "é" * 33, *net), "at most 64 bytes"),
        (("query", "ab" * 32, "--timeout", "nan", *net), "nan is no number of seconds"),
        (("query", "ab" * 32, "--timeout", "0", *net), "x>0"),
        (("publish", "--record", record, "--timeout", "inf", *net), "inf is no number of seconds"),
        ((*watch, "--interval", "nan", *net), "nan is no number of seconds"),
        ((*watch, "--interval", "inf", *net), "inf is no number of seconds"),
        (("publish", *net), "--record FILE.json"),
        (("publish", "--record", record, "--value", record, *net), "--record FILE.json"),
        (("publish", "--record", "missing.json", *net), "does not exist"),
        (("publish", "--record", record, "--bootstrap", "nowhere"), "'nowhere' is not HOST:PORT"),
        (("publish", "--record", record, "--bootstrap", "a:70000"), "a port is 1 … 65535"),
        (("publish", "--record", record, "--listen", "127.0.0.1", *net), "is not HOST:PORT"),
        (("swarm", "--nodes", "1"), "2<=x<=1000"),
        (("nonsense",), "No such command 'nonsense'"),
    ]
    ran = await asyncio.gather(*(dhtmeta(*words) for words, _ in bad))
    for (words, message), one in zip(bad, ran, strict=True):
        assert (one.code, one.out) == (2, ""), words
        assert message in one.err


async def test_this_machine_in_the_way_is_a_failure_that_says_what_to_do(
    net: list[str], tmp_path: Path, record: Path
) -> None:
    publish = ("publish", "--record", record)
    keys = tmp_path / "keys"
    create_identity(keys)
    (keys / PRIVATE_FILE).chmod(0o640)
    open_to_others = await dhtmeta(*publish, "--keys", keys, *net)
    assert open_to_others.code == 1
    assert f"chmod 600 {keys / PRIVATE_FILE}" in open_to_others.err

    again = await dhtmeta("keygen", "--keys", keys)
    assert again.code == 1
    assert "never overwritten" in again.err

    (tmp_path / "file").write_text("in the way")
    unwritable = await dhtmeta(*publish, "--store", tmp_path / "file" / "store.db", *net)
    assert unwritable.code == 1
    assert "cannot make" in unwritable.err

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        busy = await dhtmeta(*publish, "--listen", address, *net)
    assert busy.code == 1
    assert f"cannot listen on {address}" in busy.err


async def test_no_network_is_exit_code_5_and_names_who_was_asked(record: Path) -> None:
    silent = silent_address()
    ran = await dhtmeta("query", "ab" * 32, "--bootstrap", silent, "--timeout", "0.5")
    assert (ran.code, ran.out) == (5, "")
    assert f"asked: {silent}" in ran.err


@pytest.mark.parametrize(
    "command",
    ["keygen", "publish", "query", "watch", "sign", "put", "swarm", "demo", "doctor"],
)
async def test_every_help_text_has_an_example_and_json(command: str) -> None:
    ran = await dhtmeta(command, "--help")
    assert ran.code == 0
    assert f"Example: dhtmeta {command}" in ran.out
    assert "--json" in ran.out


async def test_the_environment_and_a_config_file_say_where_things_are(
    net: list[str], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[identity]\nkeys = "{tmp_path / "mine"}"\n')
    ran = await dhtmeta("publish", "--value", "-", "--config", config, *net, stdin=b'"x"')
    assert ran.code == 0
    assert (tmp_path / "mine" / PRIVATE_FILE).exists()
    config.write_text("[dht]\nbootstrap_node = []\n")
    wrong = await dhtmeta("query", "ab" * 32, "--config", config, *net)
    assert wrong.code == 2
    assert "did you mean 'bootstrap_nodes'?" in wrong.err


async def test_the_log_level_decides_what_is_told(
    net: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, config = tmp_path / "store.db", tmp_path / "config.toml"
    config.write_text('[log]\nlevel = "error"\n')
    published = await dhtmeta("publish", "--value", "-", "--json", *net, stdin=b'"x"')
    key = published.json["public_key"]
    assert (await dhtmeta("query", key, "--store", store, *net)).code == 0

    async def told(*words: str | Path) -> bool:
        """Whether a query says that the store holds an item whose signature does not hold."""
        with contextlib.closing(sqlite3.connect(store)) as database, database:
            database.execute("UPDATE metadata_cache SET sig = zeroblob(64)")
        damaged = Path(shutil.copy(store, tmp_path / "damaged.db"))  # the query drops the item
        query = ("query", key, "--policy", "cache-only", "--store", damaged, *words)
        return "dropped a damaged row" in (await dhtmeta(*query)).err

    assert await told()
    assert not await told("--config", config)
    monkeypatch.setenv("DHTMETA_LOG__LEVEL", "warning")
    assert await told("--config", config)
    monkeypatch.setenv("DHTMETA_LOG__LEVEL", "error")
    assert not await told()


async def test_completion_is_offered() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from dhtmeta.cli.main import main; main()"),
        env=os.environ | {"_DHTMETA_COMPLETE": "bash_source"},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert b"complete -o nosort" in out


async def test_a_reader_who_closes_the_pipe_sees_no_traceback(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dhtmeta", "keygen", "--keys", str(tmp_path / "k")),
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"Traceback" not in err


async def test_a_misspelt_field_is_pointed_out_and_published(
    net: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    path.write_text('\ufeff{"topik": "t", "network_info": {"is_rely": true}}')
    ran = await dhtmeta("publish", "--record", path, *net, "--json")
    assert (ran.code, ran.json["seq"]) == (0, 1)
    assert "'topik' is no field of a record" in ran.err
    assert "did you mean 'topic'?" in ran.err
    assert "did you mean 'is_relay'?" in ran.err


async def test_watch_says_that_there_is_nothing_yet(own_swarm: Swarm, tmp_path: Path) -> None:
    identity = Identity.generate()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dhtmeta", "watch", identity.public_key.hex(), "--interval", "1"),
        *("--count", "1", "--bootstrap", own_swarm.addresses[0]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        assert b"no node holds it; looking again" in await process.stderr.readline()
        async with make_node(own_swarm, tmp_path) as node:
            await node.publish(b"now", identity=identity)
            out, _ = await process.communicate()
    assert b"now" in out


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_closed_standard_files_do_no_harm(closed: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m dhtmeta keygen --keys {tmp_path}/k {closed}"
    process = await asyncio.create_subprocess_shell(command)
    assert await process.wait() == 0
    assert (tmp_path / "k" / PRIVATE_FILE).exists()


async def test_an_answer_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    command = f"{sys.executable} -m dhtmeta keygen --keys {tmp_path}/k > /dev/full"
    process = await asyncio.create_subprocess_shell(command, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"cannot write the answer: No space left" in err
    assert b"Traceback" not in err


async def test_a_name_that_does_not_resolve_does_not_hide_the_nodes_that_answer(
    net: list[str], record: Path
) -> None:
    ran = await dhtmeta("publish", "--record", record, *net, "--bootstrap", "nosuch.invalid:6881")
    assert ran.code == 0
