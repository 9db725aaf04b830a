"""A SignedItem holds only what its key signed: every way to get another one is refused."""

import copy
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from dhtmeta._fast import bencode
from dhtmeta.errors import InvalidItem, InvalidSalt, InvalidValue, ValueTooLarge
from dhtmeta.values.item import (
    SignedItem,
    better,
    check_salt,
    check_seq,
    decode_value,
    encode_value,
)
from dhtmeta.values.keys import Identity
from dhtmeta.values.wrapping import wrap

BEP44 = json.loads((Path(__file__).parents[1] / "vectors" / "bep44.json").read_text())
SEED = b"s" * 32
ALICE = Identity(SEED)
MAX_SEQ = 2**63 - 1
ITEM = SignedItem.sign(ALICE, b"d1:a5:helloe", 7, b"salt")
NOT_CANONICAL = [
    b"",
    b"i01e",
    b"i-0e",
    b"i+1e",
    b"ie",
    b"05:hello",
    b"5:hell",
    b"5:helloo",
    b"d1:b0:1:a0:e",
    b"d1:a0:1:a0:e",
    b"di1e0:e",
    b"i9223372036854775808e",
    b"l",
    b"hello",
    b"l" * 33 + b"e" * 33,
    b"l" * 500 + b"e" * 500,
]


def parts(item: SignedItem) -> dict[str, Any]:
    return {
        "target": item.target,
        "public_key": item.public_key,
        "salt": item.salt,
        "seq": item.seq,
        "v": item.v,
        "sig": item.sig,
    }


def signed(v: bytes, seq: int, salt: bytes = b"") -> dict[str, Any]:
    """Sign whatever it is, as another implementation could."""
    public_key, secret = crypto_sign_seed_keypair(SEED)
    message = (b"4:salt%d:%s" % (len(salt), salt) if salt else b"") + b"3:seqi%de1:v%s" % (seq, v)
    return {
        "target": hashlib.sha1(public_key + salt).digest(),
        "public_key": public_key,
        "salt": salt,
        "seq": seq,
        "v": v,
        "sig": crypto_sign(message, secret)[:64],
    }


@pytest.mark.parametrize("vector", BEP44["mutable"], ids=lambda vector: str(vector["name"]))
def test_the_vectors_of_bep_44_verify(vector: dict[str, Any]) -> None:
    item = SignedItem.verified(
        bytes.fromhex(vector["target"]),
        bytes.fromhex(vector["public_key"]),
        vector["salt"].encode(),
        vector["seq"],
        vector["value"].encode(),
        bytes.fromhex(vector["signature"]),
    )
    assert item.value == b"Hello World!"
    assert item.target.hex() == vector["target"]


@pytest.mark.parametrize("seq", [0, 1, 2**31, 2**53 + 1, MAX_SEQ])
@pytest.mark.parametrize("salt", [b"", b"s", b"\0\xff", b"3:seqi1e", b"x" * 64])
@pytest.mark.parametrize("v", [b"0:", b"i0e", b"le", b"de", b"996:" + b"x" * 996])
def test_what_is_signed_verifies_and_equals_what_another_would_sign(
    v: bytes, salt: bytes, seq: int
) -> None:
    item = SignedItem.sign(ALICE, v, seq, salt)
    assert parts(item) == signed(v, seq, salt)
    assert SignedItem.verified(**parts(item)) == item


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"public_key": b""}, "32 bytes"),
        ({"public_key": ITEM.public_key[:31]}, "32 bytes"),
        ({"public_key": ITEM.public_key + b"\0"}, "32 bytes"),
        ({"public_key": Identity(bytes(32)).public_key}, "target"),
        ({"sig": b""}, "64 bytes"),
        ({"sig": ITEM.sig[:63]}, "64 bytes"),
        ({"sig": ITEM.sig + b"\0"}, "64 bytes"),
        ({"sig": bytes(64)}, "signature"),
        ({"target": b""}, "target"),
        ({"target": bytes(20)}, "target"),
        ({"target": ITEM.target[:19]}, "target"),
        ({"target": ITEM.target + b"\0"}, "target"),
        ({"target": hashlib.sha1(ITEM.public_key).digest()}, "target"),
        ({"salt": b""}, "target"),
        ({"salt": b"Salt"}, "target"),
        ({"salt": b"x" * 65}, "limits"),
        ({"seq": -1}, "limits"),
        ({"seq": 2**63}, "limits"),
        ({"seq": 2**64 + 7}, "limits"),
        ({"seq": -(2**63)}, "limits"),
        ({"seq": 8}, "signature"),
        ({"seq": 6}, "signature"),
        ({"v": b"d1:a5:helloe" + b"\0"}, "canonical"),
        ({"v": b"d1:a5:hellpe"}, "signature"),
        ({"v": b"de"}, "signature"),
        ({"v": b"997:" + b"x" * 997}, "limits"),
    ],
)
def test_one_wrong_part_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidItem, match=said):
        SignedItem.verified(**parts(ITEM) | wrong)


def test_what_is_too_large_or_too_small_is_refused_though_the_signature_holds() -> None:
    for wrong in (signed(b"997:" + b"x" * 997, 1), signed(b"0:", -1), signed(b"0:", 2**63)):
        with pytest.raises(InvalidItem, match="limits"):
            SignedItem.verified(**wrong)
    with pytest.raises(InvalidItem, match="limits"):
        SignedItem.verified(**signed(b"0:", 1, b"x" * 65))


@pytest.mark.parametrize("v", NOT_CANONICAL, ids=lambda v: repr(v[:20]))
def test_a_v_that_is_not_canonical_is_refused_though_the_signature_holds(v: bytes) -> None:
    with pytest.raises(InvalidItem, match=r"v is not canonical bencode: .* at byte"):
        SignedItem.verified(**signed(v, 1))


@pytest.mark.parametrize("name", ["sig", "v", "public_key", "target", "salt"])
def test_every_flipped_bit_is_refused(name: str) -> None:
    right: bytes = parts(ITEM)[name]
    for i in range(8 * len(right)):
        flipped = bytearray(right)
        flipped[i // 8] ^= 1 << i % 8
        with pytest.raises(InvalidItem):
            SignedItem.verified(**parts(ITEM) | {name: bytes(flipped)})


def test_every_flipped_bit_of_the_seq_is_refused() -> None:
    for i in range(64):
        with pytest.raises(InvalidItem):
            SignedItem.verified(**parts(ITEM) | {"seq": ITEM.seq ^ 1 << i})


def test_the_salt_cannot_be_moved_into_the_value() -> None:
    """A target of its own for each salt, and signed bytes that say where the salt ends."""
    one = SignedItem.sign(ALICE, b"0:", 1, b"ab")
    for salt in (b"a", b"abc", b"", b"ab3:seqi1e1:v"):
        target = hashlib.sha1(ALICE.public_key + salt).digest()
        with pytest.raises(InvalidItem, match="signature"):
            SignedItem.verified(**parts(one) | {"salt": salt, "target": target})


@pytest.mark.parametrize(
    ("v", "seq", "salt", "error"),
    [
        (b"0:", 1, b"x" * 65, InvalidSalt),
        (b"0:", -1, b"", InvalidValue),
        (b"0:", 2**63, b"", InvalidValue),
        (b"997:" + b"x" * 997, 1, b"", ValueTooLarge),
        *((v, 1, b"", InvalidValue) for v in NOT_CANONICAL),
    ],
)
def test_what_no_node_would_take_is_not_signed(
    v: bytes, seq: int, salt: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        SignedItem.sign(ALICE, v, seq, salt)


def test_an_item_is_made_in_no_other_way_and_does_not_change() -> None:
    made_by_hand: Any = SignedItem
    for arguments in ((), tuple(parts(ITEM).values())):
        with pytest.raises(TypeError):
            made_by_hand(*arguments)
    for name in ("public_key", "salt", "seq", "v", "sig", "target", "value", "other"):
        with pytest.raises(AttributeError, match="does not change"):
            setattr(ITEM, name, b"")
        with pytest.raises(AttributeError, match="does not change"):
            delattr(ITEM, name)
    with pytest.raises(TypeError):
        vars(ITEM)
    assert SignedItem.verified(**parts(ITEM)) == ITEM


@pytest.mark.parametrize("name", ["public_key", "salt", "v", "sig"])
def test_bytes_that_could_change_later_are_not_taken(name: str) -> None:
    with pytest.raises(TypeError):
        SignedItem.verified(**parts(ITEM) | {name: bytearray(parts(ITEM)[name])})


def unpickled(item: SignedItem) -> Any:
    return pickle.loads(pickle.dumps(item))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, unpickled])
def test_a_copy_is_a_verified_item(duplicate: Any) -> None:
    twin = duplicate(ITEM)
    assert type(twin) is SignedItem
    assert parts(twin) == parts(ITEM)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_was_tampered_with_does_not_verify(protocol: int) -> None:
    raw = pickle.dumps(ITEM, protocol)
    assert raw.count(b"hello") == 1
    assert pickle.loads(raw) == ITEM
    with pytest.raises(InvalidItem):
        pickle.loads(raw.replace(b"hello", b"hallo"))


def test_items_are_equal_and_hashed_by_what_was_signed() -> None:
    again = SignedItem.sign(ALICE, ITEM.v, ITEM.seq, ITEM.salt)
    others = [
        SignedItem.sign(ALICE, ITEM.v, ITEM.seq + 1, ITEM.salt),
        SignedItem.sign(ALICE, b"0:", ITEM.seq, ITEM.salt),
        SignedItem.sign(ALICE, ITEM.v, ITEM.seq, b""),
        SignedItem.sign(Identity(bytes(32)), ITEM.v, ITEM.seq, ITEM.salt),
    ]
    assert again == ITEM
    assert {again, ITEM, *others} == {ITEM, *others}
    assert len({ITEM, *others}) == 5
    assert ITEM.v != ITEM
    assert ITEM.public_key.hex() in repr(ITEM)
    assert "seq=7" in repr(ITEM)


def test_the_value_is_made_anew_each_time() -> None:
    value = ITEM.value
    assert isinstance(value, dict)
    value[b"a"] = b"changed"
    assert ITEM.value == {b"a": b"hello"}


def test_a_higher_seq_is_better_and_of_equal_ones_the_smaller_bytes() -> None:
    low, small, large = (SignedItem.sign(ALICE, v, seq) for v, seq in B_ORDER)
    assert better(None, low)
    assert better(low, small)
    assert not better(small, low)
    assert better(large, small)
    assert not better(small, large)
    assert not better(small, small)


B_ORDER = [(b"1:a", 1), (b"1:a", 2), (b"1:b", 2)]

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=8), inner),
    max_leaves=12,
)


@given(VALUES)
def test_a_value_is_encoded_canonically_and_read_back(value: Any) -> None:
    try:
        raw = encode_value(value)
    except ValueTooLarge:
        raw = bencode.encode(value)
        assert len(raw) > 1000
    assert decode_value(raw) == value


@given(st.binary(max_size=64))
def test_what_is_decoded_encodes_to_the_same_bytes_or_is_an_invalid_value(raw: bytes) -> None:
    try:
        value = decode_value(raw)
    except InvalidValue:
        return
    assert encode_value(value) == raw


@settings(max_examples=200)
@given(
    st.binary(max_size=70),
    st.binary(max_size=40),
    st.integers(-(2**64), 2**64),
    st.binary(max_size=40),
    st.binary(max_size=70),
)
def test_rubbish_is_an_invalid_item(
    target: bytes, key: bytes, seq: int, v: bytes, sig: bytes
) -> None:
    for wrong in ({"public_key": key}, {"seq": seq}, {"v": v}, {"sig": sig}, {"target": target}):
        given_parts = parts(ITEM) | wrong
        if given_parts != parts(ITEM):
            with pytest.raises(InvalidItem):
                SignedItem.verified(**given_parts)


class Text(str):
    """A str that is none of ours."""


HOLDS_ITSELF: dict[str, Any] = {}
HOLDS_ITSELF["self"] = HOLDS_ITSELF
DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [
        None,
        1.5,
        float("nan"),
        object(),
        {1, 2},
        2**63,
        -(2**63) - 1,
        10**5000,
        "\ud800",
        {"\udc80": 1},
        {1: 2},
        {None: 2},
        {b"a": 1, "a": 2},
        HOLDS_ITSELF,
        DEEP,
        [[None]],
        {"a": {"b": 1.5}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_bencode_cannot_say_is_an_invalid_value(value: Any) -> None:
    with pytest.raises(InvalidValue, match="cannot be bencoded"):
        encode_value(value)


@pytest.mark.parametrize("value", [True, False, "text", Text("text"), b"", (), (1, "a"), "\0"])
def test_what_python_says_otherwise_is_taken(value: Any) -> None:
    assert encode_value(value) == bencode.encode(value)


def test_the_limits_are_exact() -> None:
    check_salt(b"x" * 64)
    with pytest.raises(InvalidSalt, match=r"at most 64 bytes .* takes 65"):
        check_salt(b"x" * 65)
    for seq in (0, MAX_SEQ):
        check_seq(seq)
    for seq in (-1, 2**63):
        with pytest.raises(InvalidValue, match="seq"):
            check_seq(seq)
    assert len(encode_value(b"x" * 996)) == 1000
    with pytest.raises(ValueTooLarge, match="1,001 bytes encoded, 1 more than the 1,000"):
        encode_value(b"x" * 997)


LARGE = {
    "topic": "x" * 90,
    "peer_id": "y" * 20,
    "network_info": {"public_ip": "z" * 200, "relays": ["a" * 50] * 10, "port": 1},
    "extensions": {"blob": "b" * 300},
}
COSTS = [
    ("network_info.relays", 8 + 2 + 10 * 53),
    ("extensions.blob", 6 + 304),
    ("network_info.public_ip", 11 + 204),
    ("topic", 7 + 93),
    ("peer_id", 9 + 23),
    ("network_info.port", 6 + 3),
]


def test_a_value_that_is_too_large_names_the_largest_fields_with_their_sizes() -> None:
    with pytest.raises(ValueTooLarge) as refused:
        encode_value(LARGE)
    error = refused.value
    assert error.costs == COSTS
    assert (error.size, error.limit) == (len(bencode.encode(LARGE)), 1000)
    assert str(error).endswith(
        "the largest fields: network_info.relays 540 bytes, extensions.blob 310 bytes, "
        "network_info.public_ip 215 bytes, topic 100 bytes"
    )


def test_a_dict_that_is_only_too_large_in_its_string_names_its_fields_too() -> None:
    value = {"network_info": {"a": "x" * 500, "b": "y" * 465}}
    assert len(encode_value(value)) <= 1000
    with pytest.raises(ValueTooLarge) as refused:
        encode_value(wrap(value))
    assert refused.value.costs == [("network_info.a", 507), ("network_info.b", 472)]


@pytest.mark.parametrize(
    ("raw", "costs"),
    [
        (b"1000:" + b"x" * 1000, [("value", 1005)]),
        (b"1000:d" + b"x" * 999, [("value", 1005)]),
        (b"l" + b"1:x" * 400 + b"e", [("value", 1202)]),
        (b"d2:\xff\xfe1000:" + b"x" * 1000 + b"e", [("\\xff\\xfe", 1009)]),
        (b"x" * 2000, []),
        (b"l" * 2000 + b"e" * 2000, []),
    ],
    ids=["string", "string like a dict", "list", "key that is no text", "rubbish", "deep"],
)
def test_whatever_is_too_large_is_said_to_be(raw: bytes, costs: list[tuple[str, int]]) -> None:
    with pytest.raises(ValueTooLarge) as refused:
        SignedItem.sign(ALICE, raw, 1)
    assert refused.value.costs == costs
