"""JSON and bencode stand for each other: every value comes back as it was."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtmeta._fast import bencode
from dhtmeta.errors import InvalidValue
from dhtmeta.values.plain import from_builtins, from_json, to_builtins

KEYS = st.sampled_from([b"hex", b"a", b"\xff", b"", b"extra", "é".encode()]) | st.binary(max_size=4)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=12) | st.text(max_size=8).map(str.encode),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)
HEX_DICTS: list[Any] = [
    {b"hex": b"ff"},
    {b"hex": b"zz"},
    {b"hex": b"\xff"},
    {b"hex": b""},
    {b"hex": 1},
    {b"hex": [b"ff"]},
    {b"hex": {b"hex": b"ff"}},
    {b"hex": {b"hex": {b"hex": b"\xff"}}},
    {b"hex": b"ff", b"a": 1},
    [{b"hex": b"ff"}, b"\xff"],
]


@given(VALUES)
def test_every_value_comes_back_through_json(value: Any) -> None:
    plain = to_builtins(value)
    for ascii_only in (True, False):
        again = from_json(json.dumps(plain, ensure_ascii=ascii_only))
        assert bencode.encode(again) == bencode.encode(value)


@pytest.mark.parametrize("value", HEX_DICTS, ids=repr)
def test_a_dict_that_looks_like_hex_comes_back(value: Any) -> None:
    assert from_json(json.dumps(to_builtins(value))) == value


def test_no_two_values_look_the_same_in_json() -> None:
    shown = [json.dumps(to_builtins(value)) for value in [*HEX_DICTS, b"\xff", b"ff"]]
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("true", 1),
        ("false", 0),
        ('"é"', b"\xc3\xa9"),
        ('"\\u00e9"', b"\xc3\xa9"),
        ('"\\ud83d\\ude00"', b"\xf0\x9f\x98\x80"),
        ('"\\u0000"', b"\0"),
        ('{"\\u0000": "a\\u0000"}', {b"\0": b"a\0"}),
        ('{"hex": "00fF"}', b"\0\xff"),
        ('{"hex": ""}', b""),
        ('{"hex": 5}', {b"hex": 5}),
        ('{"hex": "zz", "a": 1}', {b"hex": b"zz", b"a": 1}),
        ('{"a": {"hex": "ff"}}', {b"a": b"\xff"}),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        (" [ ] ", []),
        ("{}", {}),
        ("[" * 32 + "]" * 32, from_builtins(json.loads("[" * 32 + "]" * 32))),
    ],
)
def test_json_is_read_as(text: str, value: Any) -> None:
    read = from_json(text)
    assert read == value
    assert type(read) is type(value)
    assert bencode.encode(read) == bencode.encode(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("'a'", "not JSON"),
        ("01", "not JSON"),
        ("1 2", "not JSON"),
        ("\ufeff1", "not JSON"),
        ("\0", "not JSON"),
        ('"\t"', "not JSON"),
        ("null", "value: bencode has no null"),
        ("NaN", "value: bencode has no nan"),
        ("Infinity", "value: bencode has no inf"),
        ("-Infinity", "value: bencode has no -inf"),
        ("1e999", "value: bencode has no inf"),
        ("1.0", "value: bencode has no 1.0"),
        ("1e2", "value: bencode has no 100.0"),
        ('{"a": [1, {"b": null}]}', "a[1].b: bencode has no null"),
        ("[[1, 2.5]]", "[0][1]: bencode has no 2.5"),
        ("9223372036854775808", "value: an int of bencode has 64 bits"),
        ('{"a": [-9223372036854775809]}', "a[0]: an int of bencode has 64 bits"),
        ("1" * 5000, "64 bits, this one has 5000 digits"),
        ("[-" + "1" * 100_000 + "]", "64 bits, this one has 100001 digits"),
        ('"\\ud800"', "value: not UTF-8 text"),
        ('{"a": ["\\udfff"]}', "a[0]: not UTF-8 text"),
        ('{"a": {"\\ud800": 1}}', "a: not UTF-8 text"),
        ('{"hex": "0"}', "value: not hex digits: '0'"),
        ('{"a": [{"hex": "\\ud800"}]}', "a[0]: not hex digits"),
        ('{"a": 1, "b": 2, "a": 1}', "the key 'a' is there twice"),
        ('[{"b": {"": 1, "": 2}}]', "the key '' is there twice"),
        ('{"hex": "00", "hex": "00"}', "the key 'hex' is there twice"),
        ('{"x": {"\\udcc3\\udca9": 1, "é": 2}}', "x: two of its keys are the same bytes"),
        ("[" * 33 + "]" * 33, "more than 32 lists and dicts"),
        ('{"a":' * 33 + "1" + "}" * 33, "more than 32 lists and dicts"),
        ("[" * 900 + "]" * 900, "more than 32 lists and dicts"),
        ("[" * 100_000 + "]" * 100_000, "not JSON: "),
        ('{"a":' * 100_000, "not JSON: "),
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_bencode_does_not_have_is_named_with_its_path(text: str, said: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        from_json(text)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


def test_many_keys_take_no_longer_than_few_each() -> None:
    """20,000 keys and the last of them twice: looked for one by one, this is half a minute."""
    text = "{" + ",".join(f'"{i}": 1' for i in [*range(20_000), 19_999]) + "}"
    with pytest.raises(InvalidValue, match="'19999' is there twice"):
        from_json(text)


@given(st.text(max_size=40) | st.text('[]{}":,0123456789.eE-+truefalsn\\u', max_size=40))
def test_any_text_is_a_value_or_an_invalid_value(text: str) -> None:
    try:
        value = from_json(text)
    except InvalidValue:
        return
    assert bencode.decode(bencode.encode(value)) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=8,
    )
)
def test_whatever_json_can_say_is_bencodable_or_an_invalid_value(plain: Any) -> None:
    try:
        value = from_builtins(plain)
    except InvalidValue:
        return
    assert bencode.decode(bencode.encode(value)) == value
