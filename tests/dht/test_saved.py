"""What is kept of a DHT node between two processes, and what damage to it costs."""

from pathlib import Path

import pytest

from dhtmeta._fast import bencode
from dhtmeta.const import SAVED_CONTACTS
from dhtmeta.dht.saved import Saved, read_saved, saved_path, write_saved
from dhtmeta.krpc.compact import Contact

V4 = tuple(Contact(bytes([n]) * 20, (f"203.0.113.{n}", 6881)) for n in range(1, 6))
V6 = (Contact(b"6" * 20, ("2001:db8::6", 6886)),)
STATE = bencode.encode({"dht state": {"node-id": [b"i" * 26], "nodes": [b"n" * 6]}})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = saved_path(tmp_path, ["router.example:6881"])
    write_saved(path, Saved(STATE, 6881, V4 + V6))
    assert read_saved(path) == Saved(STATE, 6881, V4 + V6)


def test_of_many_contacts_the_last_are_kept(tmp_path: Path) -> None:
    many = tuple(Contact(n.to_bytes(20, "big"), ("203.0.113.1", 1 + n)) for n in range(3000))
    path = saved_path(tmp_path, ["router.example:6881"])
    write_saved(path, Saved(STATE, 0, many))
    assert read_saved(path).contacts == many[-SAVED_CONTACTS:]


def test_of_a_network_on_loopback_no_nodes_are_kept(tmp_path: Path) -> None:
    path = saved_path(tmp_path, ["127.0.0.1:6881"])
    write_saved(path, Saved(STATE, 6881, V4))
    saved = read_saved(path)
    assert (saved.port, saved.contacts) == (6881, ())
    assert b"nodes" not in saved.state


def test_what_an_older_version_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.dht"
    path.write_bytes(bencode.encode({"state": STATE, "port": 7}))
    assert read_saved(path) == Saved(STATE, 7)


@pytest.mark.parametrize(
    ("damaged", "kept"),
    [
        (b"garbage", Saved()),
        (b"le", Saved()),
        (bencode.encode({"state": 1, "port": 7}), Saved()),
        (bencode.encode({"state": STATE, "port": 70_000}), Saved()),
        (bencode.encode({"state": STATE, "port": 7, "contacts": 5}), Saved(STATE, 7)),
        (bencode.encode({"state": STATE, "port": 7, "contacts": b"x" * 25}), Saved(STATE, 7)),
        (bencode.encode({"state": STATE, "port": 7, "contacts": bytes(26)}), Saved(STATE, 7)),
    ],
    ids=["no bencode", "a list", "state", "port", "contacts", "too short", "port 0"],
)
def test_damage_costs_only_what_is_damaged(tmp_path: Path, damaged: bytes, kept: Saved) -> None:
    path = tmp_path / "damaged.dht"
    path.write_bytes(damaged)
    assert read_saved(path) == kept
    assert read_saved(tmp_path / "missing.dht") == Saved()
