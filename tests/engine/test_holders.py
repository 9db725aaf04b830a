"""What the ledger says of holders: it comes back as it was, and damage is taken for nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhtmeta.const import CLOSEST, DIRECT_COPIES, MAX_HOLDERS_BYTES
from dhtmeta.engine.holders import holder, pack_holders, packed_anew, unpack_holders

steady = settings(deadline=None)
NOW = 1_800_000_000.0
SINCE = st.dictionaries(st.binary(min_size=4, max_size=4), st.integers(0, 2**32 - 1), max_size=32)


@steady
@given(SINCE)
def test_who_held_it_and_since_when_comes_back(since: dict[bytes, int]) -> None:
    packed = pack_holders({one: float(then) for one, then in since.items()})
    assert unpack_holders(packed) == since
    assert len(packed) == 8 * len(since) <= MAX_HOLDERS_BYTES


def test_the_bytes_are_those_that_the_ledger_has_always_had() -> None:
    assert pack_holders({b"abcd": 258.9}) == b"abcd\x00\x00\x01\x02"


def test_neighbours_that_share_their_first_bytes_are_told_apart() -> None:
    one, other = (b"same" + mark + bytes(12) for mark in (b"abcd", b"abce"))
    assert holder(one) == b"abcd" != holder(other)


@pytest.mark.parametrize("packed", [None, b"", b"abcd", b"abcd\x00\x00\x01\x02\x03"], ids=repr)
def test_what_was_never_noted_or_is_damaged_is_nothing(packed: bytes | None) -> None:
    assert unpack_holders(packed) == {}


@pytest.mark.parametrize(("then", "kept"), [(-5.0, 0), (1e12, 2**32 - 1)])
def test_a_clock_that_is_far_off_is_no_error(then: float, kept: int) -> None:
    assert unpack_holders(pack_holders({b"abcd": then})) == {b"abcd": kept}


def test_of_a_put_those_are_noted_that_a_look_will_ask() -> None:
    nodes = [bytes([n]) * 20 for n in range(DIRECT_COPIES)]
    assert unpack_holders(packed_anew(nodes, NOW)) == {bytes([n]) * 4: NOW for n in range(CLOSEST)}
