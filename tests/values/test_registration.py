"""What a registration says and how it is signed: nothing in it can be changed or left out."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtmeta._fast import ed25519
from dhtmeta.const import MAX_LIFETIME, MAX_SIGNED_FILE_BYTES, MAX_TEXT_BYTES, MIN_LIFETIME
from dhtmeta.errors import CallerError, InvalidRecord, InvalidValue
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NodeRecord
from dhtmeta.values.registration import CONTEXT, Registration, from_json, to_json
from dhtmeta.values.successor import CONTEXT as OTHER_CONTEXT

ALICE, BOB = Identity(bytes(32)), Identity(bytes(31) + b"\1")
RECORD = NodeRecord(topic="t").completed(ALICE.public_key, 1)


def item_of(identity: Identity = ALICE, value: Any = None, salt: bytes = b"") -> SignedItem:
    return SignedItem.sign(identity, encode_value(value or RECORD.to_value()), 7, salt)


FULL = Registration(
    public_key=ALICE.public_key,
    registry="registry.example:30681",
    nonce=b"\1" * 24,
    lifetime=600,
    topic=b"t" * 20,
    ip="192.0.2.1",
    port=30906,
    is_relay=True,
    item=item_of(),
)
LEAST = Registration(public_key=ALICE.public_key, registry="r", nonce=b"\2", lifetime=60)


@pytest.mark.parametrize("said", [FULL, LEAST], ids=["full", "least"])
def test_what_is_written_is_read_again(said: Registration) -> None:
    assert from_json(to_json(said, ALICE)) == said


def test_the_record_is_that_of_the_item() -> None:
    assert from_json(to_json(FULL, ALICE)).record == RECORD
    assert LEAST.record is None


def test_the_largest_one_fits_a_body() -> None:
    large = SignedItem.sign(ALICE, encode_value(RECORD.to_value() | {b"x": b"y" * 880}), 2**63 - 1)
    said = dataclasses.replace(
        FULL, item=large, registry="a" * 261, nonce=b"n" * 64, ip="2001:db8::1"
    )
    assert len(to_json(said, ALICE)) < MAX_SIGNED_FILE_BYTES / 2


def test_its_context_begins_nothing_else_that_is_signed() -> None:
    for other in (b"3:seq", b"4:salt", OTHER_CONTEXT):
        assert not CONTEXT.startswith(other)
        assert not other.startswith(CONTEXT)
    assert FULL.statement().startswith(CONTEXT)
    assert not ed25519.verify(
        ALICE.public_key, ALICE.sign(FULL.statement()[len(CONTEXT) :]), FULL.statement()
    )


CHANGES: dict[str, Any] = {
    "public_key": BOB.public_key.hex(),
    "registry": "another.example",
    "nonce": "03" * 24,
    "lifetime": 601,
    "topic": "75" * 20,
    "ip": "192.0.2.2",
    "port": 30907,
    "is_relay": False,
    "sig": "00" * 64,
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_is_changed_breaks_the_signature(name: str) -> None:
    said = json.loads(to_json(dataclasses.replace(FULL, item=None), ALICE))
    assert said[name] != CHANGES[name]
    with pytest.raises(InvalidValue, match="sig: it does not sign what is said here"):
        from_json(json.dumps(said | {name: CHANGES[name]}))


@pytest.mark.parametrize("name", ["topic", "ip", "port", "is_relay", "item"])
def test_what_is_left_out_breaks_the_signature(name: str) -> None:
    said = json.loads(to_json(dataclasses.replace(FULL, is_relay=name == "is_relay"), ALICE))
    del said[name]
    with pytest.raises(InvalidValue, match="sig:"):
        from_json(json.dumps(said))


def test_another_item_of_the_same_key_breaks_the_signature() -> None:
    said = json.loads(to_json(FULL, ALICE))
    newer = SignedItem.sign(ALICE, encode_value(RECORD.to_value()), 8)
    said["item"] |= {"seq": 8, "sig": newer.sig.hex()}
    with pytest.raises(InvalidValue, match="sig:"):
        from_json(json.dumps(said))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"public_key": None}, "public_key: Expected `str`"),
        ({"public_key": "AB" * 32}, "public_key: Expected `str` matching"),
        ({"public_key": "ab" * 32 + "\n"}, "public_key: Expected `str` matching"),
        ({"nonce": ""}, "nonce: Expected"),
        ({"nonce": "ab" * 65}, "nonce: Expected"),
        ({"lifetime": MIN_LIFETIME - 1}, "lifetime: Expected `int` >= 60"),
        ({"lifetime": MAX_LIFETIME + 1}, "lifetime: Expected `int` <= 3600"),
        ({"lifetime": 60.5}, "lifetime: Expected `int`"),
        ({"lifetime": True}, "lifetime: Expected `int`, got `bool`"),
        ({"port": 0}, "port: Expected `int` >= 1"),
        ({"port": 65536}, "port: Expected `int` <= 65535"),
        ({"ip": "192.0.2.1:5"}, "ip: '192.0.2.1:5' is no IP address"),
        ({"ip": "2001:DB8::1"}, "ip: '2001:DB8::1' is no IP address in its shortest form"),
        ({"ip": "fe80::1%eth0"}, "ip: "),
        ({"ip": "example.org"}, "ip: "),
        ({"topic": "t"}, "topic: Expected"),
        ({"is_relay": 1}, "is_relay: Expected `bool`"),
        ({"port": None}, "is_relay: a relay says its port"),
        ({"registry": ""}, "registry: Expected"),
        ({"registry": "a" * 262}, "registry: Expected"),
        ({"registry": "ä"}, "registry: expected host"),
        ({"registry": "a\nb"}, "registry: expected host"),
        ({"sig": "00"}, "sig: Expected"),
        ({"more": 1}, "unknown field `more`"),
        ({"item": []}, "item: Expected `object"),
        ({"item": {}}, "item.public_key: is missing"),
        ({"item": {"seq": [[[]]]}}, "item.public_key: is missing"),
    ],
    ids=repr,
)
def test_a_field_that_is_wrong_is_named(change: dict[str, Any], said: str) -> None:
    full = json.loads(to_json(FULL, ALICE))
    with pytest.raises(InvalidValue) as refused:
        from_json(json.dumps(full | change))
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["public_key", "registry", "nonce", "lifetime", "sig"])
def test_what_has_to_be_there_is_named(name: str) -> None:
    said = json.loads(to_json(LEAST, ALICE))
    del said[name]
    with pytest.raises(InvalidValue, match=f"missing required field `{name}`"):
        from_json(json.dumps(said))


def test_a_forged_item_is_refused_whoever_signs_around_it() -> None:
    forged = json.loads(to_json(FULL, ALICE))
    forged["item"]["seq"] = 8
    with pytest.raises(InvalidValue, match=r"item\.the signature does not hold"):
        from_json(json.dumps(forged))


@pytest.mark.parametrize(
    ("item", "kind", "said"),
    [
        (lambda: item_of(BOB), InvalidValue, "item: expected the record of public_key itself"),
        (lambda: item_of(salt=b"s"), InvalidValue, "item: expected .* without salt"),
        (lambda: item_of(value={b"a": 1}), InvalidValue, "item: it holds no NodeRecord"),
        (lambda: item_of(value={b"peer_id": b"00" * 20}), InvalidRecord, "peer_id: .* is not SHA1"),
    ],
)
def test_an_item_that_is_not_its_own_record_is_refused(
    item: Callable[[], SignedItem], kind: type[CallerError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        to_json(dataclasses.replace(FULL, item=item()), ALICE)


def test_nobody_signs_for_another_key() -> None:
    with pytest.raises(InvalidValue, match="sig:"):
        to_json(FULL, BOB)


def test_an_item_of_any_depth_is_no_mistake_of_ours() -> None:
    for depth in (*range(800, 1000), 100_000):  # somewhere there it can be read, and not written
        nested = "[" * depth + "]" * depth
        said = f'{to_json(LEAST, ALICE)[:-1]}, "item": {{"v": {nested}}}}}'
        assert len(said) < MAX_TEXT_BYTES
        with pytest.raises(InvalidValue):
            from_json(said)


@given(st.text(max_size=200) | st.text('[]{}":,0123456789', max_size=50))
def test_any_text_is_an_invalid_value(text: str) -> None:
    with pytest.raises(InvalidValue):
        from_json(text)
