"""Messages of the exchange: each comes back as it was sent, and nothing else is let in."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhtmeta._fast import bencode
from dhtmeta.const import (
    ATTACHED_AT_ONCE,
    EXCHANGE_MESSAGE_BYTES,
    MAX_SEQ,
    MAX_SHARED,
    MAX_TOPICS,
    MAX_VALUE_BYTES,
)
from dhtmeta.errors import MalformedMessage
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.exchange import Frames, Message, decode, encode
from tests.krpc.exchange_strategies import messages, streams
from tests.krpc.exchange_written import KEY, NONCE, PEER, SIG, WRITTEN

thorough = settings(deadline=None, max_examples=300)
names = [one.t for one in WRITTEN]


def framed(body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + body


def test_every_kind_is_written_down_here() -> None:
    assert sorted(names) == sorted(kind.decode() for kind in wire._KINDS)


@pytest.mark.parametrize("message", WRITTEN, ids=names)
def test_a_message_comes_back_as_it_was_sent(message: Message) -> None:
    assert list(Frames().feed(encode(message))) == [message]
    assert type(decode(encode(message)[4:])) is type(message)


def test_a_frame_is_a_length_and_a_canonical_dict() -> None:
    assert encode(wire.Ping(r=7)) == b"\0\0\0\x11d1:ri7e1:t4:pinge"
    assert encode(wire.Want(keys=[KEY])) == framed(b"d4:keysl32:" + KEY + b"e1:t4:wante")
    hints = b"d5:peersll32:" + KEY + b"i5eee1:t5:hintse"
    assert encode(wire.Hints(peers=[wire.Hint(KEY, 5)])) == framed(hints)


@given(message=messages)
@thorough
def test_every_message_comes_back(message: Message) -> None:
    data = encode(message)
    assert len(data) <= EXCHANGE_MESSAGE_BYTES + 4
    (back,) = Frames().feed(data)
    assert back == message
    assert type(back) is type(message)


@given(stream=streams, size=st.integers(1, 300))
@thorough
def test_any_bytes_are_messages_or_malformed(stream: bytes, size: int) -> None:
    frames = Frames()
    for start in range(0, len(stream), size):
        try:
            heard = list(frames.feed(stream[start : start + size]))
        except MalformedMessage:
            return
        assert all(decode(encode(one)[4:]) == one for one in heard)


@pytest.mark.parametrize("message", WRITTEN, ids=names)
def test_fields_that_we_do_not_know_are_passed_by(message: Message) -> None:
    fields: Any = bencode.decode(encode(message)[4:])
    assert decode(bencode.encode(fields | {b"zz": [b"new"], b"\xff": 1})) == message


# the limits of each field: of what kind, which, the last that is let in, the first that is not

LIMITS: list[tuple[type[Message], str, Any, Any]] = [
    (wire.Hello, "k", KEY, KEY + b"k"),
    (wire.Hello, "k", KEY, KEY[:-1]),
    (wire.Hello, "n", NONCE, NONCE + b"n"),
    (wire.Hello, "n", NONCE, NONCE[:-1]),
    (wire.Hello, "topics", [PEER] * MAX_TOPICS, [PEER] * (MAX_TOPICS + 1)),
    (wire.Hello, "topics", [PEER], [PEER[:-1]]),
    (wire.Hello, "topics", [PEER], [PEER + b"p"]),
    (wire.Hello, "dht", 65535, 65536),
    (wire.Hello, "dht", 0, -1),
    (wire.Welcome, "k", KEY, KEY[:-1]),
    (wire.Welcome, "n", NONCE, NONCE[:-1]),
    (wire.Welcome, "sig", SIG, SIG[:-1]),
    (wire.Welcome, "sig", SIG, SIG + b"s"),
    (wire.Welcome, "you", bytes(6), bytes(5)),
    (wire.Welcome, "you", bytes(18), bytes(19)),
    (wire.Welcome, "topics", [PEER] * MAX_TOPICS, [PEER] * (MAX_TOPICS + 1)),
    (wire.Welcome, "dht", 65535, 65536),
    (wire.Proof, "sig", SIG, SIG[:-1]),
    (wire.Proof, "sig", SIG, SIG + b"s"),
    (wire.Hints, "peers", [[KEY, 0]] * MAX_SHARED, [[KEY, 0]] * (MAX_SHARED + 1)),
    (wire.Hints, "peers", [[KEY, MAX_SEQ]], [[KEY, -1]]),
    (wire.Hints, "peers", [[KEY, 0]], [[KEY[:-1], 0]]),
    (wire.Hints, "peers", [[KEY, 0]], [[KEY]]),
    (wire.Want, "keys", [KEY] * MAX_SHARED, [KEY] * (MAX_SHARED + 1)),
    (wire.Want, "keys", [KEY], [KEY + b"k"]),
    (wire.Items, "none", [KEY] * MAX_SHARED, [KEY] * (MAX_SHARED + 1)),
    (wire.Items, "none", [], [b""]),
    (wire.Items, "items", [[KEY, 0, b"x", SIG]] * 50, [[KEY, 0, b"x", SIG]] * 51),
    (wire.Items, "items", [[KEY, MAX_SEQ, b"x", SIG]], [[KEY, -1, b"x", SIG]]),
    (wire.Items, "items", [[KEY, 0, b"x", SIG]], [[KEY, 0, b"", SIG]]),
    (
        wire.Items,
        "items",
        [[KEY, 0, bytes(MAX_VALUE_BYTES), SIG]],
        [[KEY, 0, bytes(MAX_VALUE_BYTES + 1), SIG]],
    ),
    (wire.Items, "items", [[KEY, 0, b"x", SIG]], [[KEY, 0, b"x", SIG[:-1]]]),
    (wire.Items, "items", [[KEY, 0, b"x", SIG]], [[KEY[:-1], 0, b"x", SIG]]),
    (wire.Items, "items", [[KEY, 0, b"x", SIG]], [[KEY, 0, b"x"]]),
    (wire.Ask, "salt", 2**32 - 1, 2**32),
    (wire.Ask, "salt", 0, -1),
    (wire.Ask, "have", bytes(8000), bytes(8001)),
    (wire.Ping, "r", 2**32, 2**32 + 1),
    (wire.Ping, "r", 0, -1),
    (wire.Pong, "sessions", 2**31, 2**31 + 1),
    (wire.Pong, "capacity", 0, -1),
    (wire.Attach, "id", bytes(32), bytes(33)),
    (wire.Attached, "id", bytes(32), bytes(33)),
    (wire.Attached, "lifetime", 2**31, 2**31 + 1),
    (wire.Attached, "address", bytes(200), bytes(201)),
    (wire.Held, "peers", [PEER] * ATTACHED_AT_ONCE, [PEER] * (ATTACHED_AT_ONCE + 1)),
    (wire.Held, "peers", [PEER], [PEER + b"p"]),
    (wire.Holding, "peers", [PEER] * ATTACHED_AT_ONCE, [PEER] * (ATTACHED_AT_ONCE + 1)),
    (wire.Holding, "peers", [], [b""]),
    (wire.Probe, "p", PEER, PEER[:-1]),
    (wire.Probe, "n", NONCE, NONCE + b"n"),
    (wire.Probed, "sig", SIG, SIG[:-1]),
    (wire.Probed, "id", bytes(32), bytes(33)),
    (wire.Dial, "port", 1, 0),
    (wire.Dial, "port", 65535, 65536),
    (wire.Dialled, "ok", 1, 2),
    (wire.Dialled, "ok", 0, -1),
    (wire.Refused, "why", bytes(200), bytes(201)),
]
WHOLE: dict[str, Any] = {one.t: bencode.decode(encode(one)[4:]) for one in WRITTEN}


@pytest.mark.parametrize(("kind", "field", "last", "beyond"), LIMITS)
def test_each_limit_is_where_it_is_said_to_be(
    kind: type[Message], field: str, last: Any, beyond: Any
) -> None:
    whole = WHOLE[kind.t]
    assert type(decode(bencode.encode(whole | {field.encode(): last}))) is kind
    with pytest.raises(MalformedMessage, match=f"^{kind.t}: "):
        decode(bencode.encode(whole | {field.encode(): beyond}))


def test_each_field_has_its_limits_tried() -> None:
    tried = {(kind, field) for kind, field, _, _ in LIMITS}
    fields = {(type(one), field) for one in WRITTEN for field in one.__struct_fields__}
    alike = {(kind, field) for kind, field in fields if field == "r"}
    assert fields - alike <= tried


OTHERS: list[Any] = [b"text", 7, [b"list"], {b"a": b"dict"}]
FIELDS = [(one.t, field) for one in WRITTEN for field in WHOLE[one.t] if field != b"t"]


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_a_field_of_another_type_is_refused(name: str, field: bytes) -> None:
    whole = WHOLE[name]
    for other in OTHERS:
        if type(other) is not type(whole[field]):
            with pytest.raises(MalformedMessage, match=f"^{name}: "):
                decode(bencode.encode(whole | {field: other}))


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field) for name, field in FIELDS if field not in {b"topics", b"dht"}],
)
def test_a_field_that_is_needed_is_missed(name: str, field: bytes) -> None:
    optional = {"hints": b"peers", "items": b"items none", "holding": b"peers", "attach": b"id"}
    optional |= {"probed": b"id", "pong": b"sessions capacity", "ask": b"salt have"}
    less = {key: one for key, one in WHOLE[name].items() if key != field}
    if field in optional.get(name, b"").split():
        assert decode(bencode.encode(less)).t == name
        return
    with pytest.raises(MalformedMessage, match=f"^{name}: "):
        decode(bencode.encode(less))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"i1e",
        b"4:ping",
        b"l4:pinge",
        b"de",
        b"d1:ri1ee",  # no t
        b"d1:ri1e1:t4:pongg",  # not whole
        b"d1:ri1e1:t4:pingeX",  # and more
        b"d1:t4:ping1:ri1ee",  # keys out of order
        b"d1:ri1e1:ri1e1:t4:pinge",  # a key twice
        b"d1:ri01e1:t4:pinge",  # a leading zero
        b"d1:ri99999999999999999999e1:t4:pinge",  # no 64 bits
        b"d1:ri1e1:t4:PINGe",
        b"d1:ri1e1:t0:e",
        b"d1:ri1e1:ti4ee",
        b"d1:ri1e1:tl4:pingee",
        b"d1:t200:" + bytes(200) + b"e",
        b"d1:zlllleeee1:t3:aske",  # too deep, if sorted it were
        b"d1:alllleeee1:t3:aske",
        b"l" * 60000,
        b"d1:a" * 10000,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_no_message_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(body)
    with pytest.raises(MalformedMessage):
        list(Frames().feed(framed(body)))


# frames

STREAM = b"".join(map(encode, WRITTEN))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1200, len(STREAM)])
def test_a_stream_means_the_same_however_it_is_cut(size: int) -> None:
    frames, heard = Frames(), list[Message]()
    for start in range(0, len(STREAM), size):
        heard += frames.feed(STREAM[start : start + size])
    assert heard == WRITTEN


def test_what_came_before_something_malformed_is_heard() -> None:
    heard, frames = list[Message](), Frames()
    with pytest.raises(MalformedMessage):
        heard.extend(frames.feed(encode(wire.Ask()) * 2 + b"\xff" * 8))
    assert heard == [wire.Ask(), wire.Ask()]


def test_a_frame_that_is_too_long_is_refused_before_it_is_there() -> None:
    with pytest.raises(MalformedMessage, match="65,537 bytes"):
        list(Frames().feed(struct.pack("!I", EXCHANGE_MESSAGE_BYTES + 1)))
    with pytest.raises(MalformedMessage, match="4,294,967,295 bytes"):
        list(Frames().feed(b"\xff" * 4))
    assert not list(Frames().feed(struct.pack("!I", EXCHANGE_MESSAGE_BYTES)))


def test_the_longest_answer_there_is_fits_in_a_frame() -> None:
    item = wire.Item(KEY, MAX_SEQ, bytes(MAX_VALUE_BYTES), SIG)
    assert len(encode(wire.Items(items=[item] * MAX_SHARED))) <= EXCHANGE_MESSAGE_BYTES
    full = wire.Holding(r=2**32, peers=[PEER] * ATTACHED_AT_ONCE)
    assert len(encode(full)) <= EXCHANGE_MESSAGE_BYTES


@pytest.mark.parametrize("size", [1, 1200, 30_000])
def test_no_more_is_held_than_one_message_and_one_read(size: int) -> None:
    """Of a peer that begins the longest message there may be, again and again."""
    body = b"d1:t3:ask1:z65514:" + bytes(65_514) + b"e"
    frames, most = Frames(), 0
    stream = framed(body) * 3 + framed(body)[:-1]
    assert len(body) == EXCHANGE_MESSAGE_BYTES - 3
    for start in range(0, len(stream), size):
        assert all(one.t == "ask" for one in frames.feed(stream[start : start + size]))
        most = max(most, len(frames._buffer))
    assert 4 + EXCHANGE_MESSAGE_BYTES - size - 10 <= most < 4 + EXCHANGE_MESSAGE_BYTES
