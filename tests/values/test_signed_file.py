"""A signed file gives back the very item, and whatever is wrong with one is named by its field."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtmeta.const import MAX_SEQ, MAX_SIGNED_FILE_BYTES
from dhtmeta.errors import CallerError, InvalidValue
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.signed_file import from_signed_file, to_signed_file

IDENTITY = Identity(b"i" * 32)
ITEM = SignedItem.sign(IDENTITY, encode_value({b"a": [1, b"\xff"]}), 7, b"salt")
FIELDS: dict[str, Any] = json.loads(to_signed_file(ITEM))


@given(
    st.integers(0, MAX_SEQ),
    st.binary(max_size=64),
    st.one_of(st.binary(max_size=900), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9)),
)
def test_what_is_written_is_read_back(seq: int, salt: bytes, value: Any) -> None:
    item = SignedItem.sign(IDENTITY, encode_value(value), seq, salt)
    assert from_signed_file(to_signed_file(item)) == item


def test_the_largest_item_fits_into_a_file() -> None:
    largest = SignedItem.sign(IDENTITY, encode_value(b"v" * 995), MAX_SEQ, b"s" * 64)
    assert len(largest.v) == 999
    assert len(json.dumps(json.loads(to_signed_file(largest)), indent=4)) < MAX_SIGNED_FILE_BYTES


def test_the_format_is_hex_fields() -> None:
    assert json.loads(to_signed_file(ITEM)) == {
        "public_key": IDENTITY.public_key.hex(),
        "salt": b"salt".hex(),
        "seq": 7,
        "v": b"d1:ali1e1:\xffee".hex(),
        "sig": ITEM.sig.hex(),
        "target": ITEM.target.hex(),
    }


def test_upper_case_and_a_missing_target_are_well() -> None:
    plain = {name: str(one).upper() if name != "seq" else one for name, one in FIELDS.items()}
    del plain["target"]
    assert from_signed_file(json.dumps(plain)) == ITEM


def changed(**fields: Any) -> dict[str, Any]:
    return FIELDS | fields


def without(name: str) -> dict[str, Any]:
    return {key: one for key, one in FIELDS.items() if key != name}


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ([FIELDS], "a signed file is a JSON object, this is ["),
        (5, "a signed file is a JSON object, this is 5"),
        (changed(k="00"), '"k": is no field of a signed file; it has public_key, salt, seq'),
        (without("sig"), "sig: is missing"),
        (without("salt"), "salt: is missing"),
        (changed(seq="7"), 'seq: expected an int, got "7"'),
        (changed(seq=7.0), "seq: expected an int, got 7.0"),
        (changed(seq=True), "seq: expected an int, got true"),
        (changed(seq=-1), "a seq is 0 … 2^63-1"),
        (changed(seq=2**63), "a seq is 0 … 2^63-1"),
        (changed(seq=10**30), "64 bits"),
        (changed(sig="zz" * 64), "sig: expected hex digits"),
        (changed(sig=None), "sig: expected hex digits, got null"),
        (changed(sig="00" * 63), "sig: expected 64 bytes in hex, got 63"),
        (changed(sig=FIELDS["sig"] + " "), "sig: expected hex digits"),
        (changed(public_key="00"), "public_key: expected 32 bytes in hex, got 1"),
        (changed(public_key="0"), "public_key: expected hex digits"),
        (changed(salt="00" * 65), "salt: expected 0 … 64 bytes in hex, got 65"),
        (changed(v=""), "v: expected 1 … 1,000 bytes in hex, got 0"),
        (changed(v="00" * 1001), "v: expected 1 … 1,000 bytes in hex, got 1,001"),
        (changed(v=b"i007e".hex()), "v is not canonical bencode"),
        (changed(target="00" * 20), f"target: SHA1(public_key + salt) is {ITEM.target.hex()}"),
        (changed(target="00"), "target: expected 20 bytes in hex, got 1"),
        (changed(seq=8), "the signature does not hold"),
        (changed(v=b"le".hex()), "the signature does not hold"),
        (without("target") | {"salt": ""}, "the signature does not hold"),
        (changed(sig="00" * 64), "the signature does not hold"),
        (changed(**{"x" * 5000: 1}), "xxx…: is no field of a signed file"),
    ],
    ids=lambda one: str(one)[:40],
)
def test_what_is_wrong_is_named(plain: Any, said: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        from_signed_file(json.dumps(plain))
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 5000, "not JSON"),
        ('{"seq": 1, "seq": 2}', "'seq' is there twice"),
        ("\0", "not JSON"),
    ],
)
def test_what_is_no_json_is_said(text: str, said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        from_signed_file(text)


@given(
    st.dictionaries(
        st.sampled_from(sorted(FIELDS)),
        st.none() | st.integers() | st.text("0123456789abcdefx", max_size=130) | st.floats(),
    )
)
def test_any_other_fields_are_an_error_of_the_caller(other: dict[str, Any]) -> None:
    try:
        item = from_signed_file(json.dumps(FIELDS | other))
    except CallerError:
        return
    assert item == ITEM
