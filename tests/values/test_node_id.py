"""Ids read from hex, and how far apart they are."""

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtmeta.errors import InvalidKey
from dhtmeta.values.node_id import (
    closest,
    distance,
    parse_hex,
    parse_id,
    parse_public_key,
    peer_id,
)

IDS = st.binary(min_size=20, max_size=20)


@given(IDS, st.binary(min_size=32, max_size=32))
def test_hex_of_either_case_is_read_back(node_id: bytes, key: bytes) -> None:
    assert parse_id(node_id.hex()) == parse_id(node_id.hex().upper()) == node_id
    assert parse_public_key(key.hex()) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ab" * 19,
        "ab" * 21,
        "a" * 39,
        "ab" * 19 + "a ",
        " " + "ab" * 19 + "a",
        "ab " * 20,
        "zz" * 20,
        "0x" + "ab" * 19,
        "\u0661" * 40,
        "ab" * 19 + "\ud800\ud800",
        "\0" * 40,
        "ab" * 20 + "\n",
        "ab" * 1_000_000,
    ],
    ids=lambda text: repr(text[:16]),
)
@pytest.mark.parametrize(("parse", "digits"), [(parse_id, 40), (parse_public_key, 64)])
def test_what_is_not_so_many_hex_digits_is_refused_briefly(
    text: str, parse: Callable[[str], bytes], digits: int
) -> None:
    with pytest.raises(InvalidKey, match=f"is {digits} hex digits") as refused:
        parse(text)
    assert len(str(refused.value)) < 600


def test_the_message_says_what_was_expected() -> None:
    with pytest.raises(InvalidKey, match=r"a nonce is 4 hex digits \(2 bytes\), got 'xy'"):
        parse_hex("xy", 2, "a nonce")


def test_a_peer_id_is_sha1_of_the_key() -> None:
    assert peer_id(b"k" * 32) == hashlib.sha1(b"k" * 32).digest()


@given(IDS, IDS, IDS)
def test_distance_is_the_xor_metric(one: bytes, other: bytes, third: bytes) -> None:
    assert distance(one, other) == distance(other, one)
    assert (distance(one, other) == 0) == (one == other)
    assert distance(one, third) ^ distance(third, other) == distance(one, other)


@given(st.lists(IDS, max_size=20), IDS, st.integers(min_value=0, max_value=25))
def test_the_closest_are_the_nearest_in_order(ids: list[bytes], target: bytes, count: int) -> None:
    found = closest(iter(ids), target, count)
    distances = [distance(one, target) for one in found]
    assert distances == sorted(distance(one, target) for one in ids)[:count]


def test_distance_counts_the_highest_bit_most() -> None:
    target = bytes(20)
    near, far = bytes(19) + b"\xff", b"\x01" + bytes(19)
    assert closest([far, near], target, 1) == [near]
