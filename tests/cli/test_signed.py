"""`sign`, `put` and `publish --seq --cas` as a shell sees them: real processes, a real swarm."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import PRIVATE_FILE, Identity, create_identity
from dhtmeta.values.signed_file import from_signed_file, to_signed_file
from tests.cli.test_cli import Ran, dhtmeta

Words = tuple[str | Path, ...]


@pytest.fixture
def net(own_swarm: Swarm) -> Words:
    """Return the options that lead to a swarm of this test's own, through the direct carrier."""
    return ("--bootstrap", own_swarm.addresses[0], "--carrier", "direct")


@pytest.fixture
def value(tmp_path: Path) -> Path:
    path = tmp_path / "value.json"
    path.write_text('{"a": [1, "two"]}')
    return path


def signed_file(path: Path, seq: int, *, identity: Identity, value: bytes = b"x") -> Path:
    path.write_text(to_signed_file(SignedItem.sign(identity, encode_value(value), seq)))
    return path


async def test_sign_here_put_there_query_anywhere(
    net: Words, own_swarm: Swarm, tmp_path: Path, value: Path
) -> None:
    out = tmp_path / "signed.json"
    sign = ("sign", "--keys", tmp_path / "keys", "--value", value, "--seq", "7", "--salt", "s")
    signed = (await dhtmeta(*sign, "--out", out, "--json")).json
    item = from_signed_file(out.read_text())
    assert signed == {
        "public_key": item.public_key.hex(),
        "salt": "s",
        "seq": 7,
        "target": item.target.hex(),
        "file": str(out),
    }
    (tmp_path / "keys" / PRIVATE_FILE).unlink()
    put = await dhtmeta("put", out, *net, "--json")
    assert put.code == 0
    assert put.json == {
        "public_key": item.public_key.hex(),
        "salt": "s",
        "seq": 7,
        "target": item.target.hex(),
        "accepted": put.json["copies"],
        "rejected": [],
        "silent": 0,
        "copies": put.json["copies"],
    }
    assert put.json["copies"] >= 8
    query = ("query", item.public_key.hex(), "--salt", "s", "--json", "--policy", "freshest")
    found = (await dhtmeta(*query, *net)).json
    assert (found["seq"], found["value"]) == (7, {"a": [1, "two"]})
    lookup = found["lookup"]
    assert lookup["queried"] >= lookup["answered"] >= lookup["holding"] >= 1
    assert lookup["refused"] == 0
    # into another store, and by its first answer: the nodes still count on who put, which is gone
    elsewhere = ("--store", tmp_path / "other.db", "--policy", "cache-first")
    by_libtorrent = (await dhtmeta(*query, *elsewhere, *net, "--carrier", "libtorrent")).json
    assert by_libtorrent["source"] == "dht"
    assert by_libtorrent["value"] == found["value"]


async def test_signing_needs_no_network_and_no_store(tmp_path: Path, value: Path) -> None:
    record = tmp_path / "record.json"
    record.write_text('{"topic": "t"}')
    keys = tmp_path / "keys"
    identity = create_identity(keys)
    ran = await dhtmeta("sign", "--keys", keys, "--record", record, "--seq", "0")
    item = from_signed_file(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert (item.public_key, item.seq, item.salt) == (identity.public_key, 0, b"")
    said = item.value
    assert isinstance(said, dict)
    assert said.keys() == {b"peer_id", b"timestamp", b"topic"}
    assert said[b"peer_id"] == identity.peer_id.hex().encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys", "record.json", "value.json"]
    as_json = await dhtmeta(
        "sign", "--keys", keys, "--value", "-", "--seq", "1", "--json", stdin=b"5"
    )
    assert from_signed_file(as_json.out).value == 5
    shown = await dhtmeta(
        "sign", "--keys", keys, "--value", value, "--seq", "1", "--out", keys / "o"
    )
    assert shown.out == f"seq 1 of {identity.public_key.hex()} is signed in {keys / 'o'}\n"


async def test_a_signed_file_comes_from_stdin_and_several_from_files(
    net: Words, tmp_path: Path
) -> None:
    several = [
        signed_file(tmp_path / f"{i}.json", i, identity=Identity.generate()) for i in range(1, 4)
    ]
    ran = await dhtmeta("put", *several, *net, "--json")
    assert ran.code == 0
    assert [json.loads(line)["seq"] for line in ran.out.splitlines()] == [1, 2, 3]
    again = await dhtmeta("put", "-", *net, stdin=several[0].read_bytes())
    assert again.code == 0
    assert "seq 1 of" in again.out


async def test_what_is_newer_is_a_conflict_and_the_others_are_put(
    net: Words, tmp_path: Path
) -> None:
    identity = Identity.generate()
    newer = signed_file(tmp_path / "newer.json", 5, identity=identity)
    older = signed_file(tmp_path / "older.json", 4, identity=identity)
    beside = signed_file(tmp_path / "beside.json", 5, identity=identity, value=b"y")
    fine = signed_file(tmp_path / "fine.json", 1, identity=Identity.generate())
    assert (await dhtmeta("put", newer, *net)).code == 0
    elsewhere = ("--store", tmp_path / "other.db")
    one = await dhtmeta("put", older, *net, *elsewhere)
    assert (one.code, one.out) == (4, "")
    assert "the network holds the newer seq 5; nothing was sent" in one.err
    ran = await dhtmeta("put", older, beside, fine, *net, "--json")
    assert (ran.code, ran.json["seq"]) == (4, 1)
    assert f"{older}: the ledger says seq 5" in ran.err
    assert f"{beside}: the ledger holds another value under seq 5" in ran.err
    wrong = await dhtmeta("put", newer, "--cas", "3", *net)
    assert (wrong.code, wrong.out) == (4, "")
    assert "holds seq 5, not 3 (cas)" in wrong.err
    assert (await dhtmeta("put", newer, "--cas", "5", *net)).code == 0


async def test_publish_under_a_seq_and_over_one(net: Words, tmp_path: Path, value: Path) -> None:
    publish: Words = ("publish", "--keys", tmp_path / "keys", "--value", value, *net, "--json")
    first = (await dhtmeta(*publish, "--seq", "41")).json
    assert (first["seq"], first["rejected"], first["silent"]) == (41, [], 0)
    assert first["accepted"] == first["copies"] >= 8
    assert (await dhtmeta(*publish, "--cas", "41")).json["seq"] == 42
    below = await dhtmeta(*publish, "--seq", "41")
    assert (below.code, below.out) == (4, "")
    assert "seq 42" in below.err
    other = await dhtmeta(*publish, "--cas", "41")
    assert (other.code, other.out) == (4, "")
    assert "holds seq 42, not 41" in other.err
    assert (await dhtmeta(*publish)).json["seq"] == 43


async def test_libtorrent_is_named_as_what_cannot_do_it(
    own_swarm: Swarm, tmp_path: Path, value: Path
) -> None:
    file = signed_file(tmp_path / "one.json", 1, identity=Identity.generate())
    net = ("--bootstrap", own_swarm.addresses[0], "--carrier", "libtorrent")
    wrong: list[Words] = [
        ("put", file),
        ("put", file, file),
        ("publish", "--value", value, "--seq", "1"),
        ("publish", "--value", value, "--cas", "1"),
    ]
    for ran in await asyncio.gather(*(dhtmeta(*words, *net) for words in wrong)):
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.count("--carrier direct") == 1


async def test_the_carrier_can_be_set_for_good(
    own_swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = signed_file(tmp_path / "one.json", 1, identity=Identity.generate())
    net = ("--bootstrap", own_swarm.addresses[0])
    monkeypatch.setenv("DHTMETA_DHT__CARRIER", "libtorrent")
    assert (await dhtmeta("put", file, *net)).code == 2
    assert (await dhtmeta("put", file, *net, "--carrier", "direct")).code == 0
    monkeypatch.delenv("DHTMETA_DHT__CARRIER")
    assert (await dhtmeta("put", file, *net)).code == 0  # what is not said is direct
    monkeypatch.setenv("DHTMETA_DHT__CARRIER", "pigeon")
    wrong = await dhtmeta("put", file, *net)
    assert wrong.code == 2
    assert "[dht] carrier: Invalid enum value 'pigeon'" in wrong.err


FIELDS: dict[str, Any] = json.loads(
    to_signed_file(SignedItem.sign(Identity(b"i" * 32), encode_value(b"x"), 1))
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"[]", "a signed file is a JSON object"),
        (json.dumps(FIELDS | {"sig": "xyz"}).encode(), "sig: expected hex digits"),
        (json.dumps(FIELDS | {"sig": "00" * 64}).encode(), "the signature does not hold"),
        (json.dumps(FIELDS | {"seq": 2}).encode(), "the signature does not hold"),
        (json.dumps(FIELDS | {"target": "00" * 20}).encode(), "target: SHA1(public_key + salt) is"),
        (json.dumps({"topic": "t"}).encode(), '"topic": is no field of a signed file'),
        (json.dumps(FIELDS).encode() + b" " * 9000, "is larger than 8,192 bytes"),
    ],
    ids=lambda one: repr(one)[:30],
)
async def test_a_bad_signed_file_is_wrong_use_and_named(
    tmp_path: Path, content: bytes, said: str
) -> None:
    good = signed_file(tmp_path / "good.json", 1, identity=Identity.generate())
    bad = tmp_path / "bad.json"
    bad.write_bytes(content)
    ran = await dhtmeta("put", good, bad, "--carrier", "direct", "--bootstrap", "127.0.0.1:9")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"dhtmeta: {bad}")
    assert said in ran.err
    assert not (tmp_path / "data").exists()  # nothing was opened, let alone sent


async def test_bad_words_are_wrong_use_and_say_why(tmp_path: Path, value: Path) -> None:
    file = signed_file(tmp_path / "one.json", 1, identity=Identity.generate())
    too_large = tmp_path / "large.json"
    too_large.write_text(json.dumps("x" * 1001))
    closed = tmp_path / "closed.json"
    closed.touch(mode=0)
    sign: Words = ("sign", "--keys", tmp_path / "keys", "--value", value)
    bad: list[tuple[Words, str]] = [
        (("put",), "give signed files, or --from"),
        (("put", tmp_path), "is a directory"),
        (("put", tmp_path / "missing.json"), "does not exist"),
        (("put", file, file, "--cas", "1"), "--cas is about one item"),
        (("put", file, "--cas", "-1"), "-1 is not in the range"),
        (("put", file, "--carrier", "pigeon"), "'pigeon' is not one of 'libtorrent', 'direct'"),
        (sign, "Missing option '--seq'"),
        ((*sign, "--seq", "-1"), "-1 is not in the range"),
        ((*sign, "--seq", str(2**63)), "is not in the range"),
        ((*sign, "--seq", "x"), "'x' is not a valid integer"),
        ((*sign, "--seq", "1", "--salt", "s" * 65), "at most 64 bytes"),
        ((*sign, "--seq", "1", "--record", value), "give one of --record"),
        ((*sign, "--seq", "1", "--out", tmp_path), "is a directory"),
        (("sign", "--seq", "1"), "give one of --record"),
        (("sign", "--seq", "1", "--value", too_large), "1,006 bytes"),
        (("publish", "--value", value, "--seq", "-1"), "-1 is not in the range"),
    ]
    if os.geteuid():  # root may read everything
        bad.append((("put", closed), "is not readable"))
    ran: list[Ran] = await asyncio.gather(*(dhtmeta(*words) for words, _ in bad))
    for (words, message), one in zip(bad, ran, strict=True):
        assert (one.code, one.out) == (2, ""), words
        assert message in one.err, words
    assert not (tmp_path / "keys").exists()


async def test_a_file_that_cannot_be_written_is_a_failure_that_names_it(
    tmp_path: Path, value: Path
) -> None:
    sign: Words = ("sign", "--keys", tmp_path / "keys", "--value", value, "--seq", "1", "--out")
    ran = await dhtmeta(*sign, tmp_path / "nowhere" / "out.json")
    assert (ran.code, ran.out) == (1, "")
    assert f"cannot write {tmp_path}/nowhere/out.json: No such file" in ran.err
    full = await dhtmeta(*sign, "/dev/full")
    assert (full.code, full.out) == (1, "")
    assert "cannot write /dev/full: No space left" in full.err


async def test_a_file_that_cannot_be_read_is_named() -> None:
    ran = await dhtmeta("put", "/proc/self/mem", "--carrier", "direct")
    assert (ran.code, ran.out) == (2, "")
    assert "cannot read /proc/self/mem: Input/output error" in ran.err
