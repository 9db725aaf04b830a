"""What goes out is what readers get back, whether a carrier can put anything or strings only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtmeta._fast import bencode
from dhtmeta.errors import InvalidRecord, InvalidValue, ValueTooLarge
from dhtmeta.values.item import decode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.payload import payload
from dhtmeta.values.record import NodeRecord
from dhtmeta.values.wrapping import unwrap

KEY = Identity(b"i" * 32)
values = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=20) | st.sampled_from([b"i5e", b"le"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=5), inner),
    max_leaves=8,
)


@given(values)
def test_every_value_reads_as_it_was_and_travels_as_it_is(value: bencode.Value) -> None:
    v = payload(value, KEY.public_key, 1.0, only_strings=False)
    assert unwrap(decode_value(v)) == value
    if not isinstance(value, bytes):
        assert v == bencode.encode(value)


@pytest.mark.parametrize("value", [5, [1], {b"a": 1}, b"i5e", b"text"], ids=repr)
def test_only_strings_go_out_where_only_they_can(value: bencode.Value) -> None:
    v = payload(value, KEY.public_key, 1.0, only_strings=True)
    assert isinstance(decode_value(v), bytes)
    assert unwrap(decode_value(v)) == value


def test_a_record_says_whose_it_is_and_when() -> None:
    v = payload(NodeRecord(topic="t"), KEY.public_key, 7.9, only_strings=False)
    assert decode_value(v) == {
        b"peer_id": KEY.peer_id.hex().encode(),
        b"timestamp": 7,
        b"topic": b"t",
    }


def test_what_cannot_go_out_is_named() -> None:
    with pytest.raises(InvalidRecord, match="peer_id"):
        payload(NodeRecord(peer_id="0" * 40), KEY.public_key, 1.0, only_strings=False)
    with pytest.raises(ValueTooLarge, match=r"note 1,0\d\d bytes"):
        payload({b"note": b"n" * 1000}, KEY.public_key, 1.0, only_strings=False)
    with pytest.raises(InvalidValue):
        payload(1.5, KEY.public_key, 1.0, only_strings=False)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="UTF-8"):
        payload("\ud800", KEY.public_key, 1.0, only_strings=False)  # type: ignore[arg-type]
