"""What goes into a byte string comes out of it, whoever put it there."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dhtmeta._fast import bencode
from dhtmeta.errors import InvalidValue, ValueTooLarge
from dhtmeta.values.wrapping import unwrap, wrap

TRICKY = [
    b"",
    b"0:",
    b"2:0:",
    b"1:a",
    b"3:1:a",
    b"i5e",
    b"3:i5e",
    b"5:3:i5e",
    b"le",
    b"de",
    b"2:le",
    b"4:2:le",
    b"2:de",
    b"i05e",
    b"d1:ai1ee",
    b"8:d1:ai1ee",
    b"lelee",
    b"lleee"[:4],
    b"5:helloo",
]
STRINGS = st.sampled_from(TRICKY) | st.binary(max_size=20)
NESTED_STRINGS = st.recursive(STRINGS, lambda inner: inner.map(bencode.encode), max_leaves=3)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | NESTED_STRINGS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.binary(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(VALUES)
@example([])
@example({})
def test_every_value_but_an_empty_list_or_dict_is_unwrapped_as_it_was(value: Any) -> None:
    wrapped = wrap(value)
    assert type(wrapped) is bytes
    if value in ([], {}) and not isinstance(value, bytes):
        assert unwrap(wrapped) == bencode.encode(value)  # the two exceptions: text to a reader
    else:
        assert unwrap(wrapped) == value


@pytest.mark.parametrize("text", TRICKY, ids=repr)
def test_tricky_strings_are_unwrapped_as_they_were(text: bytes) -> None:
    assert unwrap(wrap(text)) == text


@given(NESTED_STRINGS, NESTED_STRINGS)
def test_different_strings_are_wrapped_differently(one: bytes, other: bytes) -> None:
    assert (wrap(one) == wrap(other)) == (one == other)


@pytest.mark.parametrize("text", [b"hello", "hello", b"", b"5:hello", b"3:1:a", b"i05e", b"le"])
def test_text_travels_as_itself(text: bytes | str) -> None:
    raw = text.encode() if isinstance(text, str) else text
    assert wrap(text) == raw
    assert unwrap(raw) == raw


@pytest.mark.parametrize(
    ("value", "wrapped"),
    [
        (5, b"i5e"),
        (True, b"i1e"),
        ({b"a": 1}, b"d1:ai1ee"),
        ({"a": 1}, b"d1:ai1ee"),
        ([b"x"], b"l1:xe"),
        (b"i5e", b"3:i5e"),
        (b"3:i5e", b"5:3:i5e"),
        (bytearray(b"hi"), b"hi"),
        (memoryview(b"i5e"), b"3:i5e"),
    ],
)
def test_other_values_travel_bencoded(value: Any, wrapped: bytes) -> None:
    assert wrap(value) == wrapped


@pytest.mark.parametrize("value", [0, -5, [], {}, [b"i5e"], {b"a": b"i5e"}, {b"peer_id": b"x"}])
def test_a_value_that_is_no_string_is_read_as_it_is(value: Any) -> None:
    assert unwrap(value) is value


@given(st.binary(max_size=40))
def test_what_others_put_is_always_read(raw: bytes) -> None:
    value = unwrap(raw)
    assert value == raw or bencode.encode(value) == raw


@pytest.mark.parametrize("core", [b"text", b"i5e", b"le"])
def test_strings_in_strings_in_strings_are_read_however_deep(core: bytes) -> None:
    deep = core
    while len(deep) < 20_000:
        deep = bencode.encode(deep)
    assert unwrap(deep) == (deep if core != b"i5e" else bencode.decode(deep))


@pytest.mark.parametrize(
    "value", ["\ud800", None, 1.5, 2**63, {1: 2}, [None], {"a": object()}, ["\udc80"]]
)
def test_what_cannot_be_bencoded_is_an_invalid_value(value: Any) -> None:
    with pytest.raises(InvalidValue):
        wrap(value)


def test_what_is_too_large_for_an_item_is_refused() -> None:
    with pytest.raises(ValueTooLarge):
        wrap([b"x" * 1000])
