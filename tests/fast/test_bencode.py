"""The compiled bencode and its plain twin: the same bytes taken, refused and named alike."""

from __future__ import annotations

import array
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Any, Protocol, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhtmeta._fast import bencode as compiled
from tests.reference import bencode as twin

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)

Span = tuple[int, int]


class Bencode(Protocol):
    """What both modules offer."""

    decode: Callable[..., Any]
    encode: Callable[..., bytes]
    scan: Callable[..., Any]


MODULES = {"compiled": cast("Bencode", compiled), "twin": cast("Bencode", twin)}
STRINGS = ("t", "y", "q")
INSIDE_STRINGS = ("id", "token", "nodes", "nodes6", "target", "info_hash", "k", "salt", "sig")
INSIDE_SPANS = (*INSIDE_STRINGS, "values", "v")
INTS = ("seq", "cas")
FIELDS = (*STRINGS, "e", *INSIDE_SPANS, *INTS)


@pytest.fixture(scope="module", params=MODULES.values(), ids=list(MODULES))
def bencode(request: pytest.FixtureRequest) -> Bencode:
    return cast("Bencode", request.param)


def outcome(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a call returns, or the text of its ValueError."""
    try:
        return call(*args, **options)
    except ValueError as error:
        return f"refused: {error}"


def fields_of(spans: Any) -> dict[str, Any]:
    return {name: getattr(spans, name) for name in FIELDS}


def scanned(module: Bencode, data: bytes) -> Any:
    return outcome(lambda: fields_of(module.scan(data)))


def reversed_keys(value: Any) -> Any:
    if isinstance(value, list):
        return [reversed_keys(item) for item in value]
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return value


def encoded_as_is(value: Any) -> bytes:
    """Bencode with dict keys in the order in which they stand."""
    if isinstance(value, dict):
        pairs = [encoded_as_is(key) + encoded_as_is(value[key]) for key in value]
        return b"d%be" % b"".join(pairs)
    if isinstance(value, list):
        return b"l%be" % b"".join(map(encoded_as_is, value))
    return twin.encode(value)


# What is refused whatever the order of keys: the bytes, what is wrong, and where.
MALFORMED = [
    (b"", "truncated", 0),
    (b"i", "truncated", 1),
    (b"i-", "truncated", 2),
    (b"i12", "truncated", 3),
    (b"5", "truncated", 1),
    (b"12", "truncated", 2),
    (b"l", "truncated", 1),
    (b"li1e", "truncated", 4),
    (b"d", "truncated", 1),
    (b"d1:a", "truncated", 4),
    (b"d1:ai1e", "truncated", 7),
    (b"d1:al", "truncated", 5),
    (b"ie", "not a digit", 1),
    (b"i-e", "not a digit", 2),
    (b"i--1e", "not a digit", 2),
    (b"i+1e", "not a digit", 1),
    (b"i 1e", "not a digit", 1),
    (b"i1 e", "not a digit", 2),
    (b"i1.0e", "not a digit", 2),
    (b"i1_0e", "not a digit", 2),
    (b"i0xFe", "not a digit", 2),
    (b"i1-e", "not a digit", 2),
    (b"i\xb2e", "not a digit", 1),
    (b"i00e", "leading zero", 1),
    (b"i007e", "leading zero", 1),
    (b"i-0e", "negative zero", 0),
    (b"i-01e", "negative zero", 0),
    (b"i9223372036854775808e", "int outside 64 bits", 0),
    (b"i-9223372036854775809e", "int outside 64 bits", 0),
    (b"i9999999999999999999e", "int outside 64 bits", 0),
    (b"i18446744073709551616e", "int outside 64 bits", 0),
    (b"i18446744073709551617e", "int outside 64 bits", 0),
    (b"i-18446744073709551617e", "int outside 64 bits", 0),
    (b"i" + b"9" * 5000 + b"e", "int outside 64 bits", 0),
    (b"li1ei9223372036854775808ee", "int outside 64 bits", 4),
    (b"1", "truncated", 1),
    (b"1a", "not a digit", 1),
    (b"1 :a", "not a digit", 1),
    (b"1;a", "not a digit", 1),
    (b"1/a", "not a digit", 1),
    (b"00:", "leading zero", 0),
    (b"01:a", "leading zero", 0),
    (b"05:hello", "leading zero", 0),
    (b"-1:a", "not a value", 0),
    (b"+1:a", "not a value", 0),
    (b":", "not a value", 0),
    (b"1:", "string longer than the data", 0),
    (b"2:a", "string longer than the data", 0),
    (b"l4:abe", "string longer than the data", 1),
    (b"999999999999999999:a", "string longer than the data", 0),
    (b"1000000000000000000:a", "string longer than the data", 0),
    (b"9223372036854775807:a", "string longer than the data", 0),
    (b"9223372036854775808:a", "string longer than the data", 0),
    (b"18446744073709551615:a", "string longer than the data", 0),
    (b"18446744073709551616:", "string longer than the data", 0),
    (b"18446744073709551617:a", "string longer than the data", 0),
    (b"340282366920938463463374607431768211457:a", "string longer than the data", 0),
    (b"l18446744073709551617:ae", "string longer than the data", 1),
    (b"d18446744073709551617:ai1ee", "string longer than the data", 1),
    (b"9" * 5000 + b":a", "string longer than the data", 0),
    (b"e", "not a value", 0),
    (b"x", "not a value", 0),
    (b"\x00", "not a value", 0),
    (b"I1e", "not a value", 0),
    (b"L e", "not a value", 0),
    (b"null", "not a value", 0),
    (b"lxe", "not a value", 1),
    (b"d1:ae", "not a value", 4),
    (b"d1:a1:b1:ce", "not a value", 10),
    (b"di1ei2ee", "key is not a string", 1),
    (b"dlei1ee", "key is not a string", 1),
    (b"ddei1ee", "key is not a string", 1),
    (b"d-1:ai1ee", "key is not a string", 1),
    (b"d01:ai1ee", "leading zero", 1),
    (b"d2:a", "string longer than the data", 1),
    (b"d1:ai1e1:ai1ee", "duplicate key", 7),
    (b"d1:ai1e1:ai2ee", "duplicate key", 7),
    (b"d0:i1e0:i2ee", "duplicate key", 6),
    (b"ld1:ai1e1:ai2eee", "duplicate key", 8),
    (b"d1:ad1:bi1e1:bi2eee", "duplicate key", 11),
    (b"i1ei2e", "trailing bytes", 3),
    (b"i1e\x00", "trailing bytes", 3),
    (b"i1e\n", "trailing bytes", 3),
    (b"1:ab", "trailing bytes", 3),
    (b"0:0:", "trailing bytes", 2),
    (b"lee", "trailing bytes", 2),
    (b"dee", "trailing bytes", 2),
    (b" i1e", "not a value", 0),
]

# What is refused for the order of keys alone: the bytes, where, and what they mean in any order.
UNSORTED = [
    (b"d1:bi1e1:ai2ee", 7, {b"b": 1, b"a": 2}),
    (b"d2:aai1e1:ai2ee", 8, {b"aa": 1, b"a": 2}),
    (b"d1:ai1e0:i2ee", 7, {b"a": 1, b"": 2}),
    (b"d2:abi1e2:aai2ee", 8, {b"ab": 1, b"aa": 2}),
    (b"d1:\xffi1e1:\x7fi2ee", 7, {b"\xff": 1, b"\x7f": 2}),
    (b"d1:ai1e1:ci2e1:bi3ee", 13, {b"a": 1, b"c": 2, b"b": 3}),
    (b"ld1:bi1e1:ai2eee", 8, [{b"b": 1, b"a": 2}]),
    (b"d1:ad1:bi1e1:ai2eee", 11, {b"a": {b"b": 1, b"a": 2}}),
]

VALID = [
    (b"i0e", 0),
    (b"i-1e", -1),
    (b"i10e", 10),
    (b"i9223372036854775807e", INT64_MAX),
    (b"i-9223372036854775808e", INT64_MIN),
    (b"0:", b""),
    (b"4:spam", b"spam"),
    (b"10:0123456789", b"0123456789"),
    (b"2:i1", b"i1"),
    (b"le", []),
    (b"de", {}),
    (b"l0:i0elee", [b"", 0, []]),
    (b"d0:0:e", {b"": b""}),
    (b"d1:ai1e2:aai2e1:bi3ee", {b"a": 1, b"aa": 2, b"b": 3}),
    (b"d1:\x7fi1e1:\x80i2ee", {b"\x7f": 1, b"\x80": 2}),
    (b"d4:infod6:lengthi5eee", {b"info": {b"length": 5}}),
]


@pytest.mark.parametrize(("data", "value"), VALID)
def test_valid_bencode_is_decoded_and_encoded_back(
    bencode: Bencode, data: bytes, value: Any
) -> None:
    assert bencode.decode(data) == value
    assert bencode.decode(data, canonical=False) == value
    assert bencode.encode(value) == data


@pytest.mark.parametrize("canonical", [True, False])
@pytest.mark.parametrize(("data", "wrong", "where"), MALFORMED)
def test_malformed_bencode_is_refused_with_its_offset(
    bencode: Bencode, data: bytes, wrong: str, where: int, canonical: bool
) -> None:
    refused = f"refused: {wrong} at byte {where}"
    assert outcome(bencode.decode, data, canonical=canonical) == refused


@pytest.mark.parametrize(
    ("data", "wrong", "where"), [row for row in MALFORMED if row[1] != "trailing bytes"]
)
def test_malformed_bencode_is_refused_inside_a_datagram(
    bencode: Bencode, data: bytes, wrong: str, where: int
) -> None:
    around = b"d1:ad1:v"
    assert scanned(bencode, around + data) == f"refused: {wrong} at byte {where + len(around)}"


@pytest.mark.parametrize(("data", "where", "value"), UNSORTED)
def test_unsorted_keys_are_refused_unless_asked_for(
    bencode: Bencode, data: bytes, where: int, value: Any
) -> None:
    assert outcome(bencode.decode, data) == f"refused: unsorted key at byte {where}"
    assert bencode.decode(data, canonical=False) == value


def test_distant_duplicate_keys_are_refused_in_any_order(bencode: Bencode) -> None:
    data = b"d1:ai1e1:bi2e1:ai3ee"
    assert outcome(bencode.decode, data) == "refused: unsorted key at byte 13"
    assert outcome(bencode.decode, data, canonical=False) == "refused: duplicate key at byte 13"


def test_decoded_keys_keep_the_order_of_the_data(bencode: Bencode) -> None:
    assert list(bencode.decode(b"d1:bi1e1:ai2ee", canonical=False)) == [b"b", b"a"]


def as_array(data: bytes) -> array.array[int]:
    return array.array("B", data)


@pytest.mark.parametrize("kind", [bytearray, memoryview, as_array])
def test_any_bytes_like_object_is_read(bencode: Bencode, kind: Callable[[bytes], Any]) -> None:
    data = b"d1:rd2:id3:abce1:t2:xxe"
    assert bencode.decode(kind(data)) == {b"r": {b"id": b"abc"}, b"t": b"xx"}
    assert bencode.scan(kind(data)).id == (11, 14)
    assert outcome(bencode.scan, kind(b"di1e")) == "refused: key is not a string at byte 1"


def test_a_bytearray_is_free_again_after_reading(bencode: Bencode) -> None:
    for data in (bytearray(b"d1:t1:xe"), bytearray(b"d1:t1:x")):
        outcome(bencode.decode, data)
        outcome(bencode.scan, data)
        data.extend(b"!")  # BufferError while exported


@pytest.mark.parametrize("data", ["i1e", None, 1, ["i1e"], memoryview(b"i__1__e")[::3]])
def test_what_is_not_bytes_is_a_type_error(bencode: Bencode, data: Any) -> None:
    with pytest.raises(TypeError):
        bencode.decode(data)
    with pytest.raises(TypeError):
        bencode.scan(data)


def nested(depth: int) -> bytes:
    return b"l" * depth + b"e" * depth


def test_nesting_is_allowed_to_max_depth_and_no_deeper(bencode: Bencode) -> None:
    for depth in (1, 32, 256):
        value = bencode.decode(nested(depth), max_depth=depth)
        assert bencode.encode(value, max_depth=depth) == nested(depth)
        refused = f"refused: nested too deep at byte {depth - 1}"
        assert outcome(bencode.decode, nested(depth), max_depth=depth - 1) == refused
        assert outcome(bencode.encode, value, max_depth=depth - 1) == "refused: nested too deep"
    assert outcome(bencode.decode, nested(33)) == "refused: nested too deep at byte 32"
    assert bencode.decode(b"i1e", max_depth=0) == 1
    assert bencode.encode(1, max_depth=0) == b"i1e"


def test_depth_is_counted_along_one_branch_only(bencode: Bencode) -> None:
    data = b"l" + b"lledee" * 50 + b"d1:a" + nested(2) + b"e" + nested(2) + b"e"
    assert bencode.encode(bencode.decode(data, max_depth=4), max_depth=4) == data
    datagram = b"d1:ad1:v" + data + b"2:xx" + nested(4) + b"e2:xx" + nested(5) + b"e"
    assert bencode.scan(datagram, max_depth=6).v == (8, 8 + len(data))
    assert outcome(bencode.scan, datagram, max_depth=5) != bencode.scan(datagram, max_depth=6)


@pytest.mark.parametrize("max_depth", [-1, 257, 100_000])
def test_a_max_depth_that_could_exhaust_the_stack_is_refused(
    bencode: Bencode, max_depth: int
) -> None:
    refused = f"refused: max_depth must be 0 to 256, not {max_depth}"
    assert outcome(bencode.decode, b"i1e", max_depth=max_depth) == refused
    assert outcome(bencode.scan, b"de", max_depth=max_depth) == refused
    assert outcome(bencode.encode, 1, max_depth=max_depth) == refused


@pytest.mark.parametrize("level", [b"l", b"d1:a"])
def test_a_hundred_thousand_levels_are_refused_at_the_first_too_many(
    bencode: Bencode, level: bytes
) -> None:
    data = level * 100_000
    where = 32 * len(level)
    assert outcome(bencode.decode, data) == f"refused: nested too deep at byte {where}"
    datagram = b"d1:v" + data
    where = 4 + 31 * len(level)
    assert outcome(bencode.scan, datagram) == f"refused: nested too deep at byte {where}"


class Port(IntEnum):
    EXCHANGE = 30906


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (True, b"i1e"),
        (False, b"i0e"),
        (Port.EXCHANGE, b"i30906e"),
        (bytearray(b"ab"), b"2:ab"),
        (memoryview(b"abcd"), b"4:abcd"),
        (memoryview(b"abcd")[::2], b"2:ac"),
        (memoryview(array.array("H", [1, 2])), b"4:" + array.array("H", [1, 2]).tobytes()),
        ("h\u00e9", b"3:h\xc3\xa9"),
        ("", b"0:"),
        ((1, (2,)), b"li1eli2eee"),
        ({"b": 1, b"a": 2}, b"d1:ai2e1:bi1ee"),
        ({"\u00e9": 1, "z": 2}, b"d1:zi2e2:\xc3\xa9i1ee"),
        (OrderedDict([("b", 1), ("a", 2)]), b"d1:ai2e1:bi1ee"),
        ({"": {"": []}}, b"d0:d0:leee"),
    ],
)
def test_what_stands_for_bencode_is_encoded(bencode: Bencode, value: Any, data: bytes) -> None:
    assert bencode.encode(value) == data


@pytest.mark.parametrize("size", [0, 9, 10, 99, 100, 999, 1000, 2030, 2048, 65_536, 1_000_000])
def test_strings_of_every_size_are_encoded(bencode: Bencode, size: int) -> None:
    data = b"%d:" % size + b"x" * size
    assert bencode.encode(b"x" * size) == data
    assert bencode.encode([b"x" * size] * 3) == b"l" + data * 3 + b"e"
    assert bencode.decode(data) == b"x" * size


@pytest.mark.parametrize("size", [1, 31, 32, 33, 63, 64, 65, 1000])
def test_dicts_of_every_size_are_sorted(bencode: Bencode, size: int) -> None:
    keys = [b"%d" % (n * 7919 % 100_003) for n in range(size)]
    pairs = [twin.encode(key) + b"d1:a1:b1:c1:de" for key in sorted(keys)]
    data = b"d%be" % b"".join(pairs)
    assert bencode.encode({key: {"c": "d", "a": "b"} for key in keys}) == data


def test_growing_dicts_inside_dicts_keep_their_entries(bencode: Bencode) -> None:
    value: dict[str, Any] = {}
    for size in range(1, 30):
        value = {"zz": value, **{f"k{n:03}": n for n in range(size * 9, 0, -1)}, "a": size}
    assert bencode.decode(bencode.encode(value)) == bencode.decode(twin.encode(value))


@pytest.mark.parametrize("value", [INT64_MAX + 1, INT64_MIN - 1, 2**64, 2**64 + 1, -(2**200)])
def test_ints_outside_64_bits_are_not_encoded(bencode: Bencode, value: int) -> None:
    assert outcome(bencode.encode, value) == "refused: int outside 64 bits"
    assert outcome(bencode.encode, {"a": [value]}) == "refused: int outside 64 bits"


@pytest.mark.parametrize("value", [None, 1.5, {1}, object(), array.array("B"), Ellipsis, range(2)])
def test_what_has_no_bencode_is_a_type_error_that_names_it(bencode: Bencode, value: Any) -> None:
    for around in (value, [value], {"a": value}):
        with pytest.raises(TypeError, match=f"^{type(value).__name__} cannot be bencoded$"):
            bencode.encode(around)


@pytest.mark.parametrize("key", [1, None, (b"a",), memoryview(b"a")])
def test_keys_that_are_not_strings_are_a_type_error(bencode: Bencode, key: Any) -> None:
    with pytest.raises(TypeError, match=f"bytes or str, not {type(key).__name__}$"):
        bencode.encode({key: 1})


@pytest.mark.parametrize("others", [0, 1, 40])
def test_one_key_as_str_and_as_bytes_is_refused(bencode: Bencode, others: int) -> None:
    value = {"k": 1} | {f"o{n}": n for n in range(others)} | {b"k": 2}
    assert outcome(bencode.encode, value) == "refused: the same key as str and as bytes"


def test_a_str_without_utf8_is_refused(bencode: Bencode) -> None:
    for value in ("\ud800", {"\ud800": 1}):
        assert outcome(bencode.encode, value).startswith("refused: 'utf-8' codec can't encode")


def test_values_that_hold_themselves_are_refused(bencode: Bencode) -> None:
    items: list[Any] = []
    items.append(items)
    pairs: dict[str, Any] = {}
    pairs["self"] = pairs
    for value in (items, pairs, [pairs], {"items": items}):
        assert outcome(bencode.encode, value) == "refused: nested too deep"


def test_a_refused_value_leaves_nothing_behind(bencode: Bencode) -> None:
    for bad in (None, 2**64, {1: 1}):
        value = {"big": b"x" * 5000, "z": [bad], **{f"k{n}": n for n in range(200)}}
        with pytest.raises((TypeError, ValueError)):
            bencode.encode(value)
    assert bencode.encode({"a": 1}) == b"d1:ai1ee"


def test_refusals_keep_no_memory() -> None:
    bad_data = (b"d1:ali1000e3:abcd1:b2:cc", b"d1:bi1e1:ai2ee", b"d1:a1:b1:a1:ce", b"li1000ee!")
    bad_values = ({"a": [None]}, [b"x" * 5000, 2**64], {f"k{n}": n for n in range(200)} | {1: 1})

    def refuse() -> None:
        for data in bad_data:
            outcome(compiled.decode, data)
            outcome(compiled.decode, bytearray(data), canonical=False)
            outcome(compiled.scan, data)
        for value in bad_values:
            with suppress(TypeError):
                outcome(compiled.encode, value)

    refuse()
    before = sys.getallocatedblocks()
    for _ in range(2000):
        refuse()
    assert sys.getallocatedblocks() - before < 1000


def test_nested_dicts_out_of_order_take_no_longer_than_their_size(bencode: Bencode) -> None:
    value: Any = 0
    for _ in range(200):  # twice the work a level would be 2**200 times the work
        value = {"b": value, "a": 1}
    assert len(bencode.encode(value, max_depth=200)) == 200 * 11 + 3


def test_hostile_keys_change_no_later_key(bencode: Bencode) -> None:
    known = {b"k": 1, b"seq": 2, b"sig": 3, b"token": 4, b"network_info": 5, b"x" * 33: 6}
    data = bencode.encode(known)
    for start in range(0, 20_000, 500):
        flood = {b"%x" % (n * 0x9E3779B1 % 2**32): n for n in range(start, start + 500)}
        assert bencode.decode(bencode.encode(flood)) == flood
        assert bencode.decode(data) == known


# Datagrams.

QUERY = b"d1:ad2:id4:abcd6:target4:wxyz1:v8:not thise1:q3:get1:t2:xx1:v4:LT011:y1:qe"


def test_a_query_is_scanned(bencode: Bencode) -> None:
    spans = bencode.scan(QUERY)
    found = {name: QUERY[slice(*at)] for name, at in fields_of(spans).items() if at is not None}
    assert found == {
        "id": b"abcd",
        "target": b"wxyz",
        "v": b"8:not this",
        "q": b"get",
        "t": b"xx",
        "y": b"q",
    }


def test_the_clients_version_is_no_items_value(bencode: Bencode) -> None:
    spans = bencode.scan(b"d1:rd2:id1:ae1:t1:x1:v4:LT011:y1:re")
    assert spans.v is None
    assert spans.id == (11, 12)


def test_fields_of_one_place_are_none_of_the_other(bencode: Bencode) -> None:
    inside = {"t": 1, "y": 2, "q": 3, "e": 4, "a": 5, "r": 6, "x": {"k": 1, "id": 2, "seq": "3"}}
    outside = dict.fromkeys((*INSIDE_SPANS, *INTS), 7)
    spans = bencode.scan(bencode.encode({"a": inside, **outside}))
    assert set(fields_of(spans).values()) == {None}


def test_ints_are_values_and_zero_is_not_absence(bencode: Bencode) -> None:
    for seq in (0, 1, -1, INT64_MAX, INT64_MIN):
        spans = bencode.scan(b"d1:ad3:casi0e3:seqi%deee" % seq)
        assert (spans.cas, spans.seq) == (0, seq)
    absent = bencode.scan(b"d1:adee")
    assert (absent.cas, absent.seq) == (None, None)


def test_empty_strings_and_lists_are_not_absence(bencode: Bencode) -> None:
    spans = bencode.scan(b"d1:ele1:rd4:salt0:6:valueslee1:t0:e")
    assert (spans.e, spans.salt, spans.values, spans.t) == ((4, 6), (18, 18), (26, 28), (34, 34))


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [b"i1e", b"1:x", b"li1ee", b"d1:xi1ee"])
def test_a_field_of_a_wrong_type_is_refused(bencode: Bencode, name: str, value: bytes) -> None:
    key = b"%d:%b" % (len(name), name.encode())
    before, after = (b"d", b"e") if name in {*STRINGS, "e"} else (b"d1:rd", b"ee")
    answer = scanned(bencode, before + key + value + after)
    wanted = {"e": b"l", "values": b"l", "seq": b"i", "cas": b"i", "v": value[:1]}.get(name, b"1")
    if value[:1] == wanted:
        assert answer[name] is not None
        return
    what = {b"l": "a list", b"i": "an int", b"1": "a string"}[wanted]
    assert answer == f"refused: not {what} at byte {len(before + key)}"


@pytest.mark.parametrize(
    ("data", "refused"),
    [
        (b"i1e", "not a dict at byte 0"),
        (b"le", "not a dict at byte 0"),
        (b"1:a", "not a dict at byte 0"),
        (b"", "truncated at byte 0"),
        (b"de0:", "trailing bytes at byte 2"),
        (b"d1:ai1ee", "not a dict at byte 4"),
        (b"d1:rlee", "not a dict at byte 4"),
        (b"d1:r0:e", "not a dict at byte 4"),
        (b"d1:ade1:rdee", "duplicate key at byte 6"),
        (b"d1:ade1:x0:1:adee", "duplicate key at byte 11"),
        (b"d1:t1:x1:u0:1:t1:xe", "duplicate key at byte 12"),
        (b"d1:rd1:k1:x1:l0:1:k1:xee", "duplicate key at byte 16"),
        (b"d1:rd3:seqi1e1:x0:3:seqi1eee", "duplicate key at byte 18"),
        (b"d1:rd1:vi1e1:x0:1:vi1eee", "duplicate key at byte 16"),
        (b"d2:xx0:2:xx0:e", "duplicate key at byte 7"),
        (b"d1:rd1:vd1:ai1e1:ai2eeee", "duplicate key at byte 15"),
        (b"d1:rd3:seqi-0eee", "negative zero at byte 10"),
        (b"d1:rd3:seqi9223372036854775808eee", "int outside 64 bits at byte 10"),
        (b"d1:rd1:k99:xee", "string longer than the data at byte 8"),
        (b"d1:rd1:k", "truncated at byte 8"),
        (b"d1:r", "truncated at byte 4"),
    ],
)
def test_malformed_datagrams_are_refused(bencode: Bencode, data: bytes, refused: str) -> None:
    assert scanned(bencode, data) == f"refused: {refused}"


def test_unsorted_and_unknown_keys_of_sloppy_nodes_are_taken(bencode: Bencode) -> None:
    data = b"d1:y1:r2:ip4:abcd1:t2:xx1:rd5:token1:t2:id1:i7:unknownd1:bi1e1:ai2eeee"
    spans = bencode.scan(data)
    assert [data[slice(*span)] for span in (spans.t, spans.id, spans.token)] == [b"xx", b"i", b"t"]


def test_spans_come_from_scan_only_and_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        compiled.Spans()
    with pytest.raises(AttributeError):
        compiled.scan(b"de").t = (0, 1)  # type: ignore[misc]


# Properties. No deadlines: how long an example takes is the machine's business.

steady = settings(deadline=None)
thorough = settings(deadline=None, max_examples=500)

int64 = st.integers(INT64_MIN, INT64_MAX)
short = st.binary(max_size=12)
values = st.recursive(
    int64 | short | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(short, inner, max_size=8),
    max_leaves=25,
)
# Bytes that get further into a parser than random ones.
tokens = st.sampled_from(
    b"i e l d - 0 1 9 : 0: 1:a 1:b 2:aa le de i0e i1e i-1e i9223372036854775807e "
    b"i-9223372036854775808e 1:k 1:v 1:t 3:seq 1:rd 1:ad 18446744073709551617:".split()
)
soup = st.lists(tokens, max_size=30).map(b"".join)
opened_soup = soup.map(lambda inner: b"d" + inner + b"e")


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """A KRPC message: some of the fields, some keys that are none."""
    inside: dict[str, Any] = {
        **dict.fromkeys(INSIDE_STRINGS, short),
        **dict.fromkeys(INTS, int64),
        "values": st.lists(short, max_size=3),
        "v": values,
    }
    outside: dict[str, Any] = {**dict.fromkeys(STRINGS, short), "e": st.lists(int64 | short)}
    noise = st.dictionaries(st.text(min_size=10, max_size=12), values, max_size=3)
    body = draw(st.fixed_dictionaries({}, optional=inside)) | draw(noise)
    message = draw(st.fixed_dictionaries({}, optional={**outside, "v": short})) | draw(noise)
    return message | draw(st.sampled_from([{}, {"r": body}, {"a": body}]))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid encoding in which some bytes were replaced, lost, added or said twice."""
    data = twin.encode(draw(values | messages()))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 8)))
        middle = draw(tokens | st.binary(max_size=2) | st.just(data[start:end] * 2))
        data = data[:start] + middle + data[end:]
    return data


hostile = st.binary(max_size=40) | soup | opened_soup | mutated()


@given(value=values)
@steady
def test_what_is_encoded_decodes_to_the_same(bencode: Bencode, value: Any) -> None:
    data = bencode.encode(value)
    decoded = bencode.decode(data)
    assert decoded == value
    assert outcome(bencode.decode, data, canonical=False) == value


@given(data=hostile)
@thorough
def test_bytes_are_refused_or_come_back_the_same(bencode: Bencode, data: bytes) -> None:
    try:
        value = bencode.decode(data)
    except ValueError:
        return
    assert bencode.encode(value) == data


@given(data=hostile)
@thorough
def test_any_order_is_decoded_as_the_canonical_one(bencode: Bencode, data: bytes) -> None:
    value = outcome(bencode.decode, data, canonical=False)
    if isinstance(value, str):
        assert re.fullmatch(r"refused: .+ at byte \d+", value)
        assert outcome(bencode.decode, data).startswith("refused: ")
        return
    assert bencode.decode(bencode.encode(value)) == value
    assert len(bencode.encode(value)) == len(data)


@given(value=values)
@steady
def test_reversed_dicts_mean_the_same(bencode: Bencode, value: Any) -> None:
    data = encoded_as_is(reversed_keys(value))
    assert bencode.decode(data, canonical=False) == value
    assert bencode.encode(reversed_keys(value)) == bencode.encode(value)
    if data != bencode.encode(value):
        assert "unsorted key" in outcome(bencode.decode, data)


@given(data=hostile, canonical=st.booleans(), max_depth=st.integers(0, 8))
@thorough
def test_compiled_and_twin_decode_alike(data: bytes, canonical: bool, max_depth: int) -> None:
    options = {"canonical": canonical, "max_depth": max_depth}
    answers = [outcome(module.decode, data, **options) for module in MODULES.values()]
    assert answers[0] == answers[1]
    assert repr(answers[0]) == repr(answers[1])  # the order of keys, and no bool for an int


@given(data=hostile | messages().map(reversed_keys).map(encoded_as_is))
@thorough
def test_compiled_and_twin_scan_alike(data: bytes) -> None:
    assert scanned(MODULES["compiled"], data) == scanned(MODULES["twin"], data)


@given(value=st.recursive(values | st.text() | st.booleans() | st.floats(), st.lists) | messages())
@steady
def test_compiled_and_twin_encode_alike(value: Any) -> None:
    def answer(module: Bencode) -> Any:
        try:
            return outcome(module.encode, value)
        except TypeError as error:
            return str(error)

    assert answer(MODULES["compiled"]) == answer(MODULES["twin"])


@given(message=messages())
@steady
def test_spans_are_where_decode_finds_the_fields(bencode: Bencode, message: dict[str, Any]) -> None:
    data = bencode.encode(message)
    spans = bencode.scan(data)
    decoded = bencode.decode(data)
    body = decoded.get(b"r", decoded.get(b"a", {}))
    for name in FIELDS:
        value = (decoded if name in {*STRINGS, "e"} else body).get(name.encode())
        assert from_span(bencode, data, name, getattr(spans, name)) == value


def from_span(bencode: Bencode, data: bytes, name: str, found: Any) -> Any:
    if found is None or name in INTS:
        return found
    piece = data[slice(*found)]
    return bencode.decode(piece) if name in {"e", "values", "v"} else piece


@given(data=hostile)
@thorough
def test_scan_takes_no_datagram_that_decode_refuses(bencode: Bencode, data: bytes) -> None:
    if isinstance(scanned(bencode, data), dict):
        answer = outcome(bencode.decode, data, canonical=False)
        assert isinstance(answer, dict) or "duplicate key" in answer


def test_fields_are_cut_out_of_the_data_that_was_scanned(bencode: Bencode) -> None:
    said = {"id": b"i" * 20, "k": b"K", "nodes": b"", "sig": b"S", "token": b"T", "v": [1]}
    data = bencode.encode({"r": said, "t": b"aa", "y": b"r"})
    spans = bencode.scan(data)
    assert spans.cut(data) == (b"aa", b"r", b"i" * 20, b"T", b"", None, None, b"K", b"S", b"li1ee")
    with pytest.raises(ValueError, match="other data"):
        spans.cut(data[:40])
