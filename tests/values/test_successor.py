"""A successor record is one only where both keys signed it, for each other and for nobody else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_sign_open

from dhtmeta._fast import ed25519
from dhtmeta._fast.bencode import Value
from dhtmeta.errors import InvalidKey
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.payload import payload
from dhtmeta.values.record import NodeRecord, record_value
from dhtmeta.values.successor import CONTEXT, successor_of, successor_value

OLD, NEW, OTHER = Identity(b"o" * 32), Identity(b"n" * 32), Identity(b"x" * 32)
SEEDS = st.binary(min_size=32, max_size=32)


def item_of(value: Any, identity: Identity = OLD, *, salt: bytes = b"") -> SignedItem:
    return SignedItem.sign(identity, encode_value(value), 1, salt)


def record(old: Identity = OLD, new: Identity = NEW) -> dict[bytes, Value]:
    return successor_value(old.public_key, new)


def agreed(old: Identity, new: Identity) -> bytes:
    """Return the signature with which `new` agrees, whatever `successor_value` thinks of it."""
    return new.sign(CONTEXT + old.public_key + new.public_key)


@pytest.mark.parametrize("only_strings", [False, True])
@given(st.lists(SEEDS, min_size=2, max_size=2, unique=True))
def test_what_both_signed_names_the_successor_in_both_carriers(
    only_strings: bool, seeds: list[bytes]
) -> None:
    old, new = map(Identity, seeds)
    v = payload(record(old, new), old.public_key, 0.0, only_strings=only_strings)
    assert successor_of(SignedItem.sign(old, v, 1)) == new.public_key


def test_the_new_key_signs_a_fixed_context_and_both_keys() -> None:
    value = record()
    key, sig = value[b"successor"], value[b"successor_sig"]
    assert isinstance(key, bytes)
    assert isinstance(sig, bytes)
    assert crypto_sign_open(sig + b"dhtmeta successor 1:" + OLD.public_key + key, key)
    assert key == NEW.public_key


@given(st.integers(0, 2**63 - 1), st.binary(max_size=64))
def test_nothing_that_an_item_signs_begins_like_it(seq: int, salt: bytes) -> None:
    signed = ed25519.signable(seq, b"0:", salt)
    assert signed[:6] not in CONTEXT
    assert not signed.startswith(CONTEXT[:1])


@given(st.sampled_from([b"successor", b"successor_sig"]), st.data())
def test_a_record_with_any_byte_changed_names_nobody(name: bytes, data: st.DataObject) -> None:
    value: dict[bytes, Any] = record()
    raw = bytearray(value[name])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    assert successor_of(item_of(value | {name: bytes(raw)})) is None


@pytest.mark.parametrize(
    "value",
    [
        record(OTHER, NEW),  # who agreed to follow another key
        record(NEW, OLD),
        record() | {b"successor": OTHER.public_key},
        record() | {b"successor_sig": agreed(OLD, OTHER)},
        record() | {b"successor_sig": NEW.sign(OLD.public_key + NEW.public_key)},
        {b"successor": OLD.public_key, b"successor_sig": agreed(OLD, OLD)},
    ],
)
def test_what_the_successor_did_not_agree_to_is_a_plain_value(value: dict[bytes, Value]) -> None:
    assert successor_of(item_of(value)) is None


def test_a_key_under_which_the_same_record_is_put_has_no_successor() -> None:
    assert successor_of(item_of(record(), OTHER)) is None


def test_under_a_salt_it_names_nobody() -> None:
    assert successor_of(item_of(record())) == NEW.public_key
    assert successor_of(item_of(record(), salt=b"s")) is None


@pytest.mark.parametrize(
    "value",
    [
        b"9:successor",
        [b"successor", NEW.public_key],
        {b"successor": NEW.public_key},
        {b"successor_sig": agreed(OLD, NEW)},
        record() | {b"successor": NEW.public_key + b"x"},
        record() | {b"successor": NEW.public_key[:31]},
        record() | {b"successor": NEW.public_key.hex().encode()},
        record() | {b"successor_sig": agreed(OLD, NEW)[:63]},
        record() | {b"successor": 5},
        record() | {b"successor_sig": [agreed(OLD, NEW)]},
        {b"inside": record()},
        record() | {b"peer_id": OLD.peer_id.hex().encode()},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_none_is_a_plain_value(value: Value) -> None:
    assert successor_of(item_of(value)) is None


def test_keys_that_we_do_not_know_are_let_through() -> None:
    assert successor_of(item_of(record() | {b"since": 5, b"a": [b""]})) == NEW.public_key


def test_a_record_of_a_node_names_nobody_and_a_successor_record_is_none_of_a_node() -> None:
    v = payload(NodeRecord(topic="9:successor"), OLD.public_key, 1.0, only_strings=False)
    assert successor_of(SignedItem.sign(OLD, v, 1)) is None
    assert record_value(record()) is None


@pytest.mark.parametrize("key", [NEW.public_key, b"", b"k" * 31, b"k" * 33])
def test_no_record_is_made_for_what_has_no_successor(key: bytes) -> None:
    with pytest.raises(InvalidKey, match="another public key, of 32 bytes"):
        successor_value(key, NEW)
