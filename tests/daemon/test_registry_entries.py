"""Who may register, renew, and stay: caps, lifetimes, nonces; on a clock that tests move."""

import dataclasses
import random
from itertools import count
from typing import Any

import pytest

from dhtmeta.const import MIN_LIFETIME, NONCE_BYTES, NONCE_LIFETIME, REGISTRY_SWEEP
from dhtmeta.daemon.registry_entries import Entries, Entry
from dhtmeta.daemon.registry_nonces import Nonces
from dhtmeta.daemon.responses import Refused
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NodeRecord
from dhtmeta.values.registration import Registration

HERE = "192.0.2.1"
SERIAL = count(1)


def said_by(key: int, lifetime: int = 600, port: int | None = 5, **more: Any) -> Registration:
    said = Registration(
        public_key=key.to_bytes(32, "big"),
        registry="r",
        nonce=b"n",
        lifetime=lifetime,
        port=port,
    )
    return dataclasses.replace(said, **more)


def register(
    entries: Entries, key: int, address: str = HERE, now: float = 0.0, **more: Any
) -> Entry:
    return entries.register(said_by(key, **more), address, next(SERIAL), now)


def keys(entries: Entries, now: float) -> set[int]:
    return {int.from_bytes(one.public_key, "big") for one in entries.live(now)}


def refused(entries: Entries, key: int, address: str = HERE, now: float = 0.0) -> Refused:
    before = keys(entries, now)
    with pytest.raises(Refused) as error:
        register(entries, key, address, now)
    assert keys(entries, now) == before
    return error.value


# nonces


def test_a_nonce_is_good_for_its_address_for_a_while() -> None:
    nonces = Nonces(b"secret")
    nonce = nonces.make(HERE, 100.0)
    assert len(nonce) == NONCE_BYTES
    assert nonces.made_at(nonce, HERE, 100.0) == 100_000_000
    assert nonces.made_at(nonce, HERE, 100.0 + NONCE_LIFETIME) == 100_000_000
    with pytest.raises(Refused, match="good for 60 s"):
        nonces.made_at(nonce, HERE, 100.1 + NONCE_LIFETIME)


@pytest.mark.parametrize("byte", range(NONCE_BYTES))
def test_nobody_makes_a_nonce_himself(byte: int) -> None:
    nonces = Nonces(b"secret")
    nonce = bytearray(nonces.make(HERE, 100.0))
    nonce[byte] ^= 1
    with pytest.raises(Refused, match=r"it was not made for 192\.0\.2\.1"):
        nonces.made_at(bytes(nonce), HERE, 100.0)


@pytest.mark.parametrize("odd", [b"", b"\0", bytes(8), bytes(NONCE_BYTES), bytes(64)])
def test_what_is_no_nonce_is_refused(odd: bytes) -> None:
    with pytest.raises(Refused, match="not made"):
        Nonces(b"secret").made_at(odd, HERE, 0.0)


def test_the_nonce_of_another_address_or_registry_is_refused() -> None:
    nonce = Nonces(b"secret").make(HERE, 100.0)
    for other, address in ((b"secret", "192.0.2.2"), (b"another", HERE)):
        with pytest.raises(Refused) as error:
            Nonces(other).made_at(nonce, address, 100.0)
        assert error.value.status == 403


def test_later_nonces_are_later_even_where_the_clock_stands_still() -> None:
    nonces = Nonces(b"secret")
    made = [nonces.made_at(nonces.make(HERE, 5.0), HERE, 5.0) for _ in range(100)]
    assert made == sorted(set(made))


# lifetimes


def test_an_entry_ends_with_its_lifetime() -> None:
    entries = Entries()
    register(entries, 1, now=0.0, lifetime=60)
    register(entries, 2, now=0.0, lifetime=61)
    assert keys(entries, 59.9) == {1, 2}
    assert keys(entries, 60.0) == {2}
    assert entries.is_full(70.0) is False
    assert entries.expired == 2


def test_renewing_prolongs_it_and_changes_what_it_says() -> None:
    entries = Entries()
    register(entries, 1, now=0.0, lifetime=60)
    new = register(entries, 1, "198.51.100.9", now=50.0, lifetime=60, port=6)
    assert new.endpoint == ("198.51.100.9", 6)
    assert list(entries.live(109.0)) == [new]
    assert (entries.registered, entries.renewed) == (1, 1)


def test_who_names_no_port_is_listed_without_an_address() -> None:
    entries = Entries()
    assert entries.register(said_by(1, port=None), HERE, 1, 0.0).endpoint is None
    assert keys(entries, 0.0) == {1}


# replays


@pytest.mark.parametrize("later", [0, -1])
def test_a_nonce_that_is_not_later_than_the_last_is_a_replay(later: int) -> None:
    entries = Entries()
    first = entries.register(said_by(1), HERE, 100, 0.0)
    for address in (HERE, "198.51.100.9"):
        with pytest.raises(Refused, match="used it, or a later one") as error:
            entries.register(said_by(1, port=9), address, 100 + later, 1.0)
        assert error.value.status == 409
    assert list(entries.live(1.0)) == [first]
    assert entries.refused["replay"] == 2
    entries.register(said_by(2), HERE, 100, 1.0)  # another key is another matter
    assert keys(entries, 1.0) == {1, 2}


def test_no_replay_fits_in_after_an_entry_is_over() -> None:
    """It lives at least as long as its nonce is good, so the nonce needs no memory of its own."""
    assert MIN_LIFETIME >= NONCE_LIFETIME
    entries, nonces = Entries(), Nonces(b"secret")
    nonce = nonces.make(HERE, 0.0)
    entries.register(said_by(1, 60), HERE, nonces.made_at(nonce, HERE, 59.9), 59.9)
    for now in (60.0, 119.8, 119.9 + REGISTRY_SWEEP):
        with pytest.raises(Refused):
            entries.register(said_by(1, 60), HERE, nonces.made_at(nonce, HERE, now), now)


# caps


def test_when_it_is_full_new_ones_are_refused_and_live_ones_stay() -> None:
    entries = Entries(most=3)
    for key in (1, 2, 3):
        register(entries, key, f"192.0.{key}.1")
    error = refused(entries, 4, "198.51.100.1")
    assert (error.status, error.retry_after) == (503, MIN_LIFETIME)
    assert entries.refused["full"] == 1
    assert entries.is_full(0.0)
    register(entries, 2, "198.51.100.1", 5.0)  # who is there can renew
    assert keys(entries, 5.0) == {1, 2, 3}


def test_when_one_is_over_there_is_room_for_another() -> None:
    entries = Entries(most=2)
    register(entries, 1, now=0.0, lifetime=60)
    register(entries, 2, now=0.0, lifetime=600)
    refused(entries, 3, now=59.0)
    register(entries, 3, now=60.0)
    assert keys(entries, 60.0) == {2, 3}


@pytest.mark.parametrize(
    ("same", "other"),
    [
        ("192.0.2.{}", "192.0.3.1"),
        ("2001:db8:0:1::{}", "2001:db8:0:2::1"),
        ("2001:db8:0:1:{}::", "2001:db8:1:1::1"),
    ],
)
def test_one_network_has_so_many_and_no_more(same: str, other: str) -> None:
    entries = Entries(per_network=3)
    for key in (1, 2, 3):
        register(entries, key, same.format(key))
    error = refused(entries, 4, same.format(4))
    assert error.status == 503
    assert str(error).startswith(("192.0.2.0/24 has", "2001:db8:0:1::/64 has"))
    assert entries.refused["network"] == 1
    register(entries, 2, same.format(9), 1.0)  # renewed there: it is counted already
    register(entries, 4, other, 1.0)
    assert keys(entries, 1.0) == {1, 2, 3, 4}


def test_a_customer_with_a_48_does_not_fill_it() -> None:
    entries = Entries(per_network=1)
    for key in range(10):
        register(entries, key, f"2001:db8:0:{key:x}::1")
    assert str(refused(entries, 10, "2001:db8:0:a::1")).startswith("2001:db8::/48 has")
    register(entries, 10, "2001:db8:1::1")


def test_who_moves_is_counted_where_he_is() -> None:
    entries = Entries(per_network=1)
    register(entries, 1, "192.0.2.1")
    register(entries, 2, "192.0.3.1")
    refused(entries, 1, "192.0.3.9")
    register(entries, 1, "192.0.4.1")
    register(entries, 3, "192.0.2.5")
    refused(entries, 4, "192.0.4.5")


def test_who_is_over_is_not_counted() -> None:
    entries = Entries(per_network=1)
    for start in (0.0, 60.0, 120.0):
        register(entries, int(start), now=start, lifetime=60)
    assert keys(entries, 120.0) == {120}


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "::1"])
def test_this_machine_is_no_network_that_is_capped(address: str) -> None:
    entries = Entries(most=300, per_network=2)
    for key in range(300):
        register(entries, key, address)
    assert refused(entries, 300, address).status == 503
    assert entries.refused["full"] == 1


# what is told


def test_a_sample_is_drawn_of_those_that_are_wanted() -> None:
    entries = Entries()
    for key in range(20):
        register(entries, key, port=5 if key % 2 else None, lifetime=60 + key)
    found = entries.sample(lambda one: one.public_key[-1] >= 10, 8, 65.0, random.Random(1))
    drawn = [one.public_key[-1] for one in found]
    assert len(set(drawn)) == 8
    assert all(10 <= key < 20 for key in drawn)
    assert [key % 2 for key in drawn] == [1] * 5 + [0] * 3  # those with an address first
    others = [
        tuple(
            one.public_key[-1]
            for one in entries.sample(lambda one: True, 3, 0.0, random.Random(seed))
        )
        for seed in range(20)
    ]
    assert len(set(others)) > 10
    assert {one.public_key[-1] for one in entries.sample(lambda _: True, 9, 78.0, random.Random(1))}
    assert not entries.sample(lambda _: True, 9, 90.0, random.Random(1))


def signed(seq: int, topic: str) -> SignedItem:
    identity = Identity(bytes(32))
    record = NodeRecord(topic=topic).completed(identity.public_key, 1)
    return SignedItem.sign(identity, encode_value(record.to_value()), seq)


def test_an_older_record_does_not_replace_a_newer_one() -> None:
    entries, key = Entries(), Identity(bytes(32)).public_key
    for seq, expected in ((5, 5), (4, 5), (6, 6)):
        said = said_by(0, public_key=key, item=signed(seq, f"seq {seq}"))
        entry = entries.register(said, HERE, next(SERIAL), 0.0)
        assert entry.item is not None
        assert entry.record is not None
        assert (entry.item.seq, entry.record.topic) == (expected, f"seq {expected}")
    entry = entries.register(said_by(0, public_key=key), HERE, next(SERIAL), 0.0)
    assert (entry.item, entry.record) == (None, None)
