"""A NodeRecord reads what other nodes write, keeps what it does not know, and names what is wrong.

What holds of a round trip: where a canonical dict reads as a NodeRecord, writing that gives the
same bytes, but for fields that are equal to their default. Those are gone from the record itself,
from network_info, which goes with its last field, and from each entry of protocols, which stays.
Inside `extensions`, `meta` and unknown keys nothing changes.
"""

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhtmeta._fast import bencode
from dhtmeta._fast.bencode import Value
from dhtmeta.errors import DhtmetaError, InvalidRecord
from dhtmeta.values.record import (
    NetworkInfo,
    NodeRecord,
    Protocol,
    record_value,
    split_endpoint,
)

KEY = b"k" * 32
PEER_ID = hashlib.sha1(KEY).hexdigest()
OTHER_ID = "ab" * 20
FULL: dict[bytes, Any] = {
    b"peer_id": PEER_ID.encode(),
    b"node_id": OTHER_ID.encode(),
    b"topic": "tópico".encode(),
    b"version": -3,
    b"timestamp": 1_800_000_000,
    b"capabilities": [b"relay", b""],
    b"files_count": 2**63 - 1,
    b"apps_count": 1,
    b"extensions": {b"\xff": b"\xfe", b"extra": {}, b"network_info": {}, b"zero": 0},
    b"network_info": {
        b"public_ip": b"8.8.8.8",
        b"public_port": 65535,
        b"private_ip": b"fd00::1",
        b"private_port": 1,
        b"node_type": b"private",
        b"nat_type": b"symmetric",
        b"supports_upnp": 1,
        b"relay_endpoints": [b"8.8.4.4:1", b"[2606:4700::1]:65535"],
        b"is_relay": 1,
        b"relay_endpoint": b"8.8.8.8:30906",
        b"relay_pricing": 1_000_000,
        b"relay_capacity": 5,
        b"reputation_score": 10_000,
        b"using_relay": 1,
        b"connected_relay": OTHER_ID.encode(),
        b"relay_session_id": b"\0session",
        b"relay_address": b"[2606:4700::1]:30906",
        b"protocols": [{b"name": b"http", b"port": 80, b"meta": {b"a": [b"\xff"]}}, {}],
    },
}
DEFAULTS: list[Value] = [b"", 0, [], {}]


def test_every_field_is_read_and_written() -> None:
    record = NodeRecord.from_value(FULL, KEY)
    assert record.to_value() == FULL
    info = record.network_info
    assert set(FULL) == {name.encode() for name in record.__struct_fields__} - {b"extra"}
    assert set(FULL[b"network_info"]) == {n.encode() for n in info.__struct_fields__} - {b"extra"}
    assert (record.topic, record.version, record.capabilities) == ("tópico", -3, ["relay", ""])
    assert (info.supports_upnp, info.is_relay, info.using_relay) == (True, True, True)
    assert info.protocols == [Protocol(name="http", port=80, meta={"a": [b"\xff"]}), Protocol()]
    assert record.extensions["\udcff"] == b"\xfe"
    assert record.extra == info.extra == {}


def test_an_empty_record_is_an_empty_dict() -> None:
    assert NodeRecord().to_value() == {}
    assert NodeRecord.from_value({}) == NodeRecord()
    assert NodeRecord(network_info=NetworkInfo(protocols=[])).to_value() == {}
    assert NodeRecord().to_plain() == {}


# Whatever is in a record, from right to wrong, with unknown keys everywhere.
def mostly(*right: Any, wrong: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([*right * 12, wrong])


IPS = mostly(b"8.8.8.8", b"127.0.0.1", b"::1", b"2606:4700::1", b"", wrong=b"fe80::1%a")
ENDPOINTS = mostly(b"8.8.8.8:1", b"[::1]:65535", b"1.2.3.4:00080", wrong=b"8.8.8.8:0")
HEX_IDS = mostly(OTHER_ID.encode(), b"", wrong=b"AB" * 20)
PORTS = mostly(1, 80, 65535, wrong=0)
COUNTS = mostly(0, 1, 10_000, wrong=-1)
BITS = mostly(0, 1, wrong=2)
TEXTS = mostly(b"", b"text", "é".encode(), b"\0", wrong=b"\xff")
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=6) | st.sampled_from(DEFAULTS),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.binary(max_size=4), inner),
    max_leaves=4,
)
DICTS = st.dictionaries(
    st.sampled_from([b"a", b"\xff", b"extra", b"", b"peer_id"]), ANYTHING, max_size=3
)
UNKNOWN = st.dictionaries(
    st.sampled_from([b"extra", b"zzz", b"\xff\xfe", b"", b"Topic", b"self", "é".encode()])
    | st.binary(min_size=30, max_size=31),
    ANYTHING,
    max_size=2,
)


def struct(
    fields: dict[bytes, st.SearchStrategy[Any]],
) -> st.SearchStrategy[dict[bytes, Any]]:
    known = st.fixed_dictionaries({}, optional=fields)
    return st.tuples(known, UNKNOWN).map(lambda both: {**both[1], **both[0]})


PROTOCOLS = st.lists(struct({b"name": TEXTS, b"port": PORTS, b"meta": DICTS}), max_size=2)
INFOS = struct(
    {
        b"public_ip": IPS,
        b"private_ip": IPS,
        b"public_port": PORTS,
        b"node_type": mostly(b"public", b"private", b"", wrong=b"other"),
        b"is_relay": BITS,
        b"using_relay": BITS,
        b"relay_endpoints": st.lists(ENDPOINTS, max_size=2),
        b"relay_endpoint": ENDPOINTS | st.just(b""),
        b"relay_pricing": COUNTS,
        b"reputation_score": COUNTS,
        b"connected_relay": HEX_IDS,
        b"relay_session_id": TEXTS,
        b"protocols": PROTOCOLS,
    }
)
RECORDS = struct(
    {
        b"peer_id": HEX_IDS,
        b"topic": TEXTS,
        b"version": COUNTS,
        b"timestamp": COUNTS,
        b"capabilities": st.lists(TEXTS, max_size=2),
        b"extensions": DICTS,
        b"network_info": INFOS,
    }
)
WILD = st.dictionaries(
    st.sampled_from(list(FULL)),
    ANYTHING | st.dictionaries(st.sampled_from(list(FULL[b"network_info"])), ANYTHING),
)
KNOWN = {name.encode() for name in NodeRecord.__struct_fields__} - {b"extra"}
KNOWN_INFO = {name.encode() for name in NetworkInfo.__struct_fields__} - {b"extra"}
KNOWN_PROTOCOL = {name.encode() for name in Protocol.__struct_fields__} - {b"extra"}


def without(value: dict[bytes, Any], known: set[bytes]) -> dict[bytes, Any]:
    return {key: one for key, one in value.items() if key not in known or one not in DEFAULTS}


def without_defaults(value: dict[bytes, Any]) -> dict[bytes, Any]:
    """Say in its own words what a record may leave out."""
    value = dict(value)
    if b"network_info" in value:
        info = dict(value[b"network_info"])
        if b"protocols" in info:
            info[b"protocols"] = [without(one, KNOWN_PROTOCOL) for one in info[b"protocols"]]
        value[b"network_info"] = without(info, KNOWN_INFO)
    return without(value, KNOWN)


@settings(max_examples=400)
@given(RECORDS | WILD)
def test_a_round_trip_loses_nothing_but_defaults(value: dict[bytes, Any]) -> None:
    try:
        record = NodeRecord.from_value(value)
    except InvalidRecord as error:
        assert error.field.partition(".")[0].partition("[")[0].encode() in KNOWN  # noqa: PT017
        return
    written = record.to_value()
    assert bencode.encode(written) == bencode.encode(without_defaults(value))
    assert NodeRecord.from_value(written) == record


@pytest.mark.parametrize(
    "unknown",
    [
        {b"extra": 5},
        {b"extra": {}},
        {b"extra": {b"extra": {b"topic": b"x"}}},
        {b"extra": {b"topic": 7}},
        {b"\xff": b"\xfe"},
        {"é".encode(): "é".encode()},
        {b"": b""},
        {b"\0": [0, {}, [], b""]},
        {b"zero": 0, b"empty": b"", b"list": [], b"dict": {}},
        {b"self": 1, b"__class__": 1, b"__post_init__": 1},
    ],
    ids=repr,
)
def test_unknown_keys_survive_in_every_dict(unknown: dict[bytes, Any]) -> None:
    info = unknown | {b"nat_type": b"none", b"protocols": [unknown | {b"port": 1}, unknown]}
    values: list[Any] = [
        unknown,
        {b"network_info": unknown},
        {b"network_info": {b"protocols": [unknown]}},
        {b"extensions": unknown},
        unknown | {b"topic": b"t", b"network_info": info},
    ]
    for value in values:
        record = NodeRecord.from_value(value)
        assert bencode.encode(record.to_value()) == bencode.encode(value)
    assert len(record.extra) == len(unknown)


NI, PROTOCOL = "network_info", "network_info.protocols[1]"


def at(field: str, wrong: Any) -> dict[bytes, Any]:
    """Put `wrong` at a dotted path of a record that is right otherwise."""
    name = field.rpartition(".")[2].encode()
    if field.startswith("network_info.protocols[1]."):
        return {b"network_info": {b"protocols": [{b"name": b"right"}, {name: wrong}]}}
    return {b"network_info": {name: wrong}} if field.startswith("network_info.") else {name: wrong}


STR_FIELDS = [
    "peer_id",
    "node_id",
    "topic",
    *(f"{NI}.{n}" for n in ("public_ip", "private_ip", "node_type", "nat_type", "relay_endpoint")),
    *(f"{NI}.{n}" for n in ("connected_relay", "relay_session_id", "relay_address")),
    f"{PROTOCOL}.name",
]
PORT_FIELDS = [f"{NI}.public_port", f"{NI}.private_port", f"{PROTOCOL}.port"]
COUNT_FIELDS = [
    "timestamp",
    "files_count",
    "apps_count",
    f"{NI}.relay_pricing",
    f"{NI}.relay_capacity",
    f"{NI}.reputation_score",
]
INT_FIELDS = ["version", *PORT_FIELDS, *COUNT_FIELDS]
BOOL_FIELDS = [f"{NI}.{name}" for name in ("supports_upnp", "is_relay", "using_relay")]
LIST_FIELDS = ["capabilities", f"{NI}.relay_endpoints", f"{NI}.protocols"]
DICT_FIELDS = ["extensions", NI, f"{PROTOCOL}.meta"]
ADDRESS_FIELDS = [f"{NI}.public_ip", f"{NI}.private_ip"]
ENDPOINT_FIELDS = [f"{NI}.relay_endpoint", f"{NI}.relay_address"]
ID_FIELDS = ["peer_id", "node_id", f"{NI}.connected_relay"]
INJECTED = "x - at `$.other`"  # what msgspec puts before the path of its message
NO_ADDRESSES = ["x", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "[::1]", " 1.2.3.4", "\0"]
NO_ADDRESSES += [
    "::1%eth0",
    "2606:4700::1%\x1b[31m",
    "\uff11.2.3.4",
    "localhost",
    "16843009",
    INJECTED,
]
NO_ENDPOINTS = ["1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:+1"]
NO_ENDPOINTS += [":80", "::1:80", "[1.2.3.4]:80", "[::1]", "[::1:80", "::1]:80", "host:80"]
NO_ENDPOINTS += [
    "1.2.3.4:\uff11",
    "1.2.3.4: 1",
    "1.2.3.4:" + "9" * 5000,
    "[fe80::1%a]:80",
    INJECTED,
]
NO_IDS = ["x", "a" * 39, "a" * 41, "A" * 40, "g" * 40, "a" * 39 + "\n", "a" * 40 + "\n", INJECTED]
NO_TYPES = ["Public", "relay", " ", INJECTED]


def each(fields: list[str], *wrong: Any) -> list[tuple[str, Any]]:
    return [(field, one) for field in fields for one in wrong]


def each_text(fields: list[str], wrong: list[str]) -> list[tuple[str, Any]]:
    return each(fields, *(one.encode() for one in wrong))


WRONG = [
    *each(STR_FIELDS, 0, 1, [], [b"a"], {}, b"\xff"),
    *each(INT_FIELDS, b"", b"1", b"\xff", [], {}, [1], 2**63, -(2**63) - 1, 2**64, 10**40),
    *each(COUNT_FIELDS, -1, -(2**63)),
    *each(PORT_FIELDS, 0, -1, 65536, 2**32 + 80),
    *each([f"{NI}.reputation_score"], 10_001),
    *each(BOOL_FIELDS, 2, -1, 2**63, b"", b"1", [], {}),
    *each(LIST_FIELDS, 0, b"", b"a", {}, {b"a": 1}),
    *each(DICT_FIELDS, 0, b"", b"\xff", [], [{}]),
    *each_text(ADDRESS_FIELDS, NO_ADDRESSES),
    *each_text(ENDPOINT_FIELDS, NO_ENDPOINTS),
    *each_text(ID_FIELDS, NO_IDS),
    *each_text([f"{NI}.node_type"], NO_TYPES),
]


@pytest.mark.parametrize(("field", "wrong"), WRONG)
def test_a_wrong_field_is_named_by_its_full_path(field: str, wrong: Any) -> None:
    with pytest.raises(InvalidRecord) as refused:
        NodeRecord.from_value(at(field, wrong))
    assert refused.value.field == field
    assert str(refused.value) == f"{field}: {refused.value.reason}"
    assert "`$" not in refused.value.reason.replace(INJECTED, "")


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({b"capabilities": [b"a", 1]}, "capabilities[1]"),
        ({b"capabilities": [b"a", b"\xff"]}, "capabilities[1]"),
        ({b"network_info": {b"relay_endpoints": [b"8.8.8.8:1", 1]}}, f"{NI}.relay_endpoints[1]"),
        ({b"network_info": {b"relay_endpoints": [b"8.8.8.8:1", b""]}}, f"{NI}.relay_endpoints[1]"),
        ({b"network_info": {b"relay_endpoints": [b"8.8.8.8:1", b"x"]}}, f"{NI}.relay_endpoints[1]"),
        ({b"network_info": {b"protocols": [{}, 5]}}, f"{NI}.protocols[1]"),
        ({b"network_info": {b"protocols": [{}, []]}}, f"{NI}.protocols[1]"),
        ({b"network_info": {b"protocols": [[{}]]}}, f"{NI}.protocols[0]"),
    ],
)
def test_a_wrong_entry_of_a_list_is_named(value: Any, field: str) -> None:
    with pytest.raises(InvalidRecord) as refused:
        NodeRecord.from_value(value)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "field",
    [*ADDRESS_FIELDS, *ENDPOINT_FIELDS, *ID_FIELDS, f"{NI}.node_type", "topic"],
)
def test_an_empty_text_is_an_absent_field(field: str) -> None:
    assert NodeRecord.from_value(at(field, b"")).to_value() == {}


@pytest.mark.parametrize(
    ("field", "right"),
    [
        *((field, one) for field in PORT_FIELDS for one in (1, 65535)),
        *((field, one) for field in COUNT_FIELDS for one in (1, 10_000)),
        *(("version", one) for one in (-(2**63), -1, 2**63 - 1)),
        *((field, 1) for field in BOOL_FIELDS),
        *(
            (field, one)
            for field in ADDRESS_FIELDS
            for one in (b"0.0.0.0", b"::", b"::ffff:1.2.3.4")
        ),
        *((field, one) for field in ENDPOINT_FIELDS for one in (b"1.2.3.4:1", b"[::]:65535")),
        *((field, b"0123456789" * 4) for field in ID_FIELDS),
        ("topic", b"\0"),
    ],
)
def test_the_edges_of_what_is_right_are_taken(field: str, right: Any) -> None:
    record = NodeRecord.from_value(at(field, right))
    written = record.to_value()
    assert NodeRecord.from_value(written) == record
    assert bencode.encode(right) in bencode.encode(written)


@pytest.mark.parametrize("value", [0, -1, b"", b"de", [], [{}], [FULL]], ids=repr)
def test_what_is_no_dict_is_no_record(value: Any) -> None:
    with pytest.raises(InvalidRecord, match="a NodeRecord is a dict"):
        NodeRecord.from_value(value)


def test_the_peer_id_must_be_that_of_the_key() -> None:
    assert NodeRecord.from_value({b"peer_id": PEER_ID.encode()}, KEY).peer_id == PEER_ID
    wrongs: list[dict[bytes, Value]] = [{}, {b"peer_id": b""}, {b"peer_id": OTHER_ID.encode()}]
    for wrong in wrongs:
        with pytest.raises(InvalidRecord, match="is not SHA1 of the public key") as refused:
            NodeRecord.from_value(wrong, KEY)
        assert refused.value.field == "peer_id"


def test_completed_fills_in_what_is_missing_and_nothing_else() -> None:
    record = NodeRecord(topic="t")
    done = record.completed(KEY, 1_800_000_000)
    assert done == NodeRecord(topic="t", peer_id=PEER_ID, timestamp=1_800_000_000)
    assert record == NodeRecord(topic="t")
    assert done.completed(KEY, 5) == done
    with pytest.raises(InvalidRecord, match="SHA1") as refused:
        NodeRecord(peer_id=OTHER_ID).completed(KEY, 5)
    assert refused.value.field == "peer_id"


HOLDS_ITSELF: dict[str, Any] = {}
HOLDS_ITSELF["self"] = HOLDS_ITSELF
DEEP: dict[str, Any] = {}
for _ in range(600):
    DEEP = {"a": DEEP}
BAD: Any = "\ud800"
PYTHON: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"topic": 5}, {}, "topic"),
    ({"topic": None}, {}, "topic"),
    ({"topic": b"\xff"}, {}, "topic"),
    ({"topic": BAD}, {}, "topic"),
    ({"peer_id": 5}, {}, "peer_id"),
    ({"peer_id": None}, {}, "peer_id"),
    ({"node_id": [1]}, {}, "node_id"),
    ({"version": 2**63}, {}, "version"),
    ({"version": 1.5}, {}, "version"),
    ({"timestamp": "now"}, {}, "timestamp"),
    ({"timestamp": -1}, {}, "timestamp"),
    ({"capabilities": "abc"}, {}, "capabilities"),
    ({"capabilities": None}, {}, "capabilities"),
    ({"capabilities": ["a", BAD]}, {}, "capabilities[1]"),
    ({"extensions": None}, {}, "extensions"),
    ({"extensions": {"a": {"b": [1, 1.5]}}}, {}, "extensions.a.b[1]"),
    ({"extensions": {"a": None}}, {}, "extensions.a"),
    ({"extensions": {"a": 2**63}}, {}, "extensions.a"),
    ({"extensions": {"a": {1: 2}}}, {}, "extensions.a"),
    ({"extensions": {"a": {b"b": 2}}}, {}, "extensions.a"),
    ({"extensions": {"a": {BAD: 2}}}, {}, "extensions.a"),
    ({"extensions": {"a": object()}}, {}, ""),
    ({"extensions": HOLDS_ITSELF}, {}, ""),
    ({"extensions": DEEP}, {}, ""),
    ({"extra": None}, {}, "extra"),
    ({"extra": {"topic": "again"}}, {}, "extra.topic"),
    ({"extra": {"a": 1.5}}, {}, "a"),
    ({"extra": {1: 2}}, {}, ""),
    ({"network_info": None}, {}, "network_info"),
    ({"network_info": 5}, {}, "network_info"),
    ({"network_info": {"public_ip": "x"}}, {}, "network_info.public_ip"),
    ({}, {"public_ip": 5}, "public_ip"),
    ({}, {"public_ip": b"\x08\x08\x08\x08"}, "public_ip"),
    ({}, {"relay_address": 5}, "relay_address"),
    ({}, {"relay_endpoints": None}, "relay_endpoints"),
    ({}, {"relay_endpoints": "8.8.8.8:1"}, "relay_endpoints"),
    ({}, {"relay_endpoints": [5]}, "relay_endpoints[0]"),
    ({}, {"public_port": 0}, "network_info.public_port"),
    ({}, {"public_port": "80"}, "network_info.public_port"),
    ({}, {"is_relay": 2}, "network_info.is_relay"),
    ({}, {"is_relay": None}, "network_info.is_relay"),
    ({}, {"node_type": "relay"}, "network_info.node_type"),
    ({}, {"protocols": None}, "network_info.protocols"),
    ({}, {"protocols": {"name": "x"}}, "network_info.protocols"),
    ({}, {"protocols": [Protocol(), None]}, "network_info.protocols[1]"),
    ({}, {"protocols": [Protocol(port=70_000)]}, "network_info.protocols[0].port"),
    ({}, {"protocols": [Protocol(meta={"a": 1.5})]}, "network_info.protocols[0].meta.a"),
    ({}, {"protocols": [Protocol(extra={"port": 1})]}, "network_info.protocols[0].extra.port"),
    ({}, {"extra": {"public_ip": "8.8.8.8"}}, "network_info.extra.public_ip"),
    ({}, {"extra": [1]}, "network_info.extra"),
]


@pytest.mark.parametrize(("fields", "info", "field"), PYTHON)
def test_what_is_wrong_in_a_record_made_in_python_is_named(
    fields: dict[str, Any], info: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRecord) as refused:
        NodeRecord(**{"network_info": NetworkInfo(**info)} | fields).to_value()
    assert refused.value.field == field


@pytest.mark.parametrize("part", [NodeRecord(), NetworkInfo(), Protocol()], ids=repr)
def test_no_field_can_be_assigned_to(part: msgspec.Struct) -> None:
    for name in part.__struct_fields__:
        with pytest.raises(AttributeError, match="immutable"):
            setattr(part, name, getattr(part, name))


@pytest.mark.parametrize("name", ["public_ip", "relay_address", "connected_relay"])
def test_a_changed_copy_is_checked_like_a_new_one(name: str) -> None:
    with pytest.raises(InvalidRecord) as refused:
        msgspec.structs.replace(NetworkInfo(), **{name: "x"})
    assert refused.value.field == name


def test_what_python_says_otherwise_is_written() -> None:
    info: Any = {"is_relay": 1, "protocols": [{"name": "x"}]}
    capabilities: Any = ("a", "b")
    record = NodeRecord(
        capabilities=capabilities,
        network_info=NetworkInfo(**info),
        extensions={"b": bytearray(b"\xff"), "m": memoryview(b"m"), "t": (1, True), "s": "é"},
    )
    assert record.to_value() == {
        b"capabilities": [b"a", b"b"],
        b"network_info": {b"is_relay": 1, b"protocols": [{b"name": b"x"}]},
        b"extensions": {b"b": b"\xff", b"m": b"m", b"t": [1, 1], b"s": b"\xc3\xa9"},
    }


@pytest.mark.parametrize(
    "value",
    [
        {"topic": b"x"},
        {5: b"x"},
        {b"extensions": {"a": 1}},
        {b"network_info": {None: 1}},
        {b"topic": None},
        {b"topic": 1.5},
        {b"network_info": {b"protocols": [None]}},
    ],
)
def test_what_is_no_bencoded_dict_is_an_invalid_record(value: Any) -> None:
    with pytest.raises(InvalidRecord):
        NodeRecord.from_value(value)


def test_a_value_that_is_nested_too_deep_is_an_invalid_record() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = {b"a": deep}
    with pytest.raises(InvalidRecord, match="too deep"):
        NodeRecord.from_value({b"extensions": deep})


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from([name for name in NodeRecord.__struct_fields__ if name != "network_info"]),
        st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    )
)
def test_any_python_value_is_written_or_refused(fields: dict[str, Any]) -> None:
    try:
        value = NodeRecord(**fields).to_value()
    except DhtmetaError:
        return
    assert bencode.decode(bencode.encode(value)) == value


def test_the_plain_form_has_what_json_and_people_read() -> None:
    plain = NodeRecord.from_value(FULL).to_plain()
    assert plain["network_info"]["is_relay"] is True
    assert plain["network_info"]["protocols"][1] == {}
    assert plain["topic"] == "tópico"
    assert plain["extensions"]["\udcff"] == b"\xfe"


def test_a_record_is_recognised_by_its_peer_id_wrapped_or_not() -> None:
    value: dict[bytes, Value] = {b"peer_id": PEER_ID.encode()}
    assert record_value(value) == value
    assert record_value(bencode.encode(value)) == value
    no_records: list[Value] = [b"", 5, [], {}, {b"topic": b"x"}, b"de", b"d5:topic1:xe"]
    for plain in no_records:
        assert record_value(plain) is None


def test_fields_have_the_names_that_the_networks_use() -> None:
    """DESIGN, "NodeRecord": the keys that remote.network nodes publish, in its order."""
    names = "peer_id node_id topic version timestamp capabilities files_count apps_count extensions"
    info = (
        "public_ip public_port private_ip private_port node_type nat_type supports_upnp "
        "relay_endpoints is_relay relay_endpoint relay_pricing relay_capacity reputation_score "
        "using_relay connected_relay relay_session_id relay_address protocols extra"
    )
    assert NodeRecord.__struct_fields__ == (*names.split(), "network_info", "extra")
    assert NetworkInfo.__struct_fields__ == tuple(info.split())
    assert Protocol.__struct_fields__ == ("name", "port", "meta", "extra")
    assert all(field.default_factory or not field.required for field in fields_of(NodeRecord))


def fields_of(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


@pytest.mark.parametrize("text", [one for one in NO_ENDPOINTS if one])
def test_what_is_no_endpoint_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        split_endpoint(text)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("1.2.3.4:1", ("1.2.3.4", 1)),
        ("1.2.3.4:65535", ("1.2.3.4", 65535)),
        ("[2606:4700:0:0::1]:80", ("2606:4700::1", 80)),
        ("[::ffff:1.2.3.4]:80", ("::ffff:102:304", 80)),
    ],
)
def test_an_endpoint_is_split(text: str, endpoint: tuple[str, int]) -> None:
    host, port = split_endpoint(text)
    assert port == endpoint[1]
    assert host in {endpoint[0], "::ffff:1.2.3.4"}  # Python 3.13 writes the latter
