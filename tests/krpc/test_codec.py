"""Messages become the bytes that the BEPs show, and those bytes become the messages again."""

from typing import Any

import pytest
from hypothesis import example, given, settings

from dhtmeta._fast import bencode
from dhtmeta.const import MAX_DATAGRAM_BYTES, MAX_TOKEN_BYTES, MAX_TRANSACTION_BYTES
from dhtmeta.errors import MalformedMessage
from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.messages import Error, Message, Put, PutImmutable, Query, Response
from tests.krpc import strategies
from tests.krpc.datagrams import HERE, ID, PUT_FIELDS, TARGET, WRITTEN, query, response

thorough = settings(deadline=None, max_examples=500)


@pytest.mark.parametrize(("data", "message"), WRITTEN.values(), ids=list(WRITTEN))
def test_a_message_is_sent_as_the_beps_write_it(data: bytes, message: Message) -> None:
    assert encode(message) == data
    assert type(decode(data)) is type(message)
    assert decode(data) == message


@pytest.mark.parametrize("data", [data for data, _ in WRITTEN.values()], ids=list(WRITTEN))
def test_what_was_written_by_hand_is_canonical(data: bytes) -> None:
    assert bencode.encode(bencode.decode(data)) == data


@given(message=strategies.messages)
@thorough
def test_every_message_comes_back_as_it_was_sent(message: Message) -> None:
    data = encode(message)
    assert len(data) <= MAX_DATAGRAM_BYTES
    assert bencode.encode(bencode.decode(data, max_depth=36)) == data  # canonical
    assert decode(data) == message
    assert type(decode(data)) is type(message)


@given(data=strategies.hostile)
@example(data=b"d1:ade1:y1:qe")
@example(data=b"de")
@thorough
def test_any_bytes_are_a_complete_message_or_malformed(data: bytes) -> None:
    try:
        message = decode(data)
    except MalformedMessage:
        return
    assert_complete(message)
    again = encode(message)
    if len(again) <= MAX_DATAGRAM_BYTES:  # an error text grows where it is no UTF-8
        assert decode(again) == message


def assert_complete(message: Any) -> None:
    """Check lengths and types of what came from outside."""
    assert type(message.t) is bytes
    assert len(message.t) <= MAX_TRANSACTION_BYTES
    if isinstance(message, Error):
        assert type(message.code) is int
        assert type(message.message) is str
        return
    assert isinstance(message, Query | Response)
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if name in {"node_id", "target", "info_hash"}:
            assert type(value) is bytes
            assert len(value) == 20
        elif name in {"k", "salt", "v", "sig", "token", "name"}:
            assert value is None or type(value) is bytes
        elif name in {"seq", "cas"}:
            assert value is None or type(value) is int
    assert len(getattr(message, "token", None) or b"") <= MAX_TOKEN_BYTES
    assert all(one.endpoint[1] for one in getattr(message, "contacts", []))
    assert all(port for _, port in getattr(message, "peers", []))


@given(message=strategies.messages)
@settings(deadline=None, max_examples=30)
def test_a_datagram_cut_off_anywhere_is_malformed(message: Message) -> None:
    data = encode(message)
    for size in range(len(data)):
        with pytest.raises(MalformedMessage):
            decode(data[:size])


@pytest.mark.parametrize("data", [data for data, _ in WRITTEN.values()], ids=list(WRITTEN))
def test_each_kind_cut_off_anywhere_is_malformed(data: bytes) -> None:
    for size in range(len(data)):
        with pytest.raises(MalformedMessage):
            decode(data[:size])


@pytest.mark.parametrize("raw", [b"le", b"i0e", b"0:", b"de", b"d1:ai1e1:bi2ee"])
def test_v_is_kept_and_sent_as_it_is(raw: bytes) -> None:
    item = PUT_FIELDS | {"v": raw}
    assert decode(encode(Put(**item))).v == raw  # type: ignore[union-attr]
    assert decode(encode(PutImmutable(**HERE, token=b"", v=raw))).v == raw  # type: ignore[union-attr]
    assert decode(encode(Response(**HERE, v=raw))).v == raw  # type: ignore[union-attr]


def test_an_unsorted_v_stays_unsorted_since_its_bytes_are_signed() -> None:
    raw = b"d1:bi1e1:ai2ee"
    assert decode(response(b"1:v" + raw)) == Response(**HERE, v=raw)
    assert encode(Response(**HERE, v=raw)) == response(b"1:v" + raw)
    assert decode(query(b"put", b"5:token0:1:v" + raw)) == PutImmutable(**HERE, token=b"", v=raw)


def test_absent_is_none_and_no_item_is_shared_by_two_responses() -> None:
    first, second = (decode(response(b"")) for _ in range(2))
    assert isinstance(first, Response)
    assert isinstance(second, Response)
    assert (first.token, first.k, first.seq, first.v, first.sig) == (None,) * 5
    first.peers.append(("127.0.0.1", 1))
    assert second == Response(**HERE)


def test_an_empty_token_is_a_token() -> None:
    assert decode(response(b"5:token0:")) == Response(**HERE, token=b"")
    assert encode(Response(**HERE, token=b"")) == response(b"5:token0:")


def test_the_largest_datagram_is_read_and_one_byte_more_is_not() -> None:
    padding = MAX_DATAGRAM_BYTES - len(response(b"1:x1000:"))
    whole = response(b"1:x%d:" % padding + b"x" * padding)
    assert len(whole) == MAX_DATAGRAM_BYTES
    assert decode(whole) == Response(**HERE)
    more = response(b"1:x%d:" % (padding + 1) + b"x" * (padding + 1))
    with pytest.raises(MalformedMessage, match="a datagram of 4097 bytes, more than 4096"):
        decode(more)


def test_messages_of_different_types_are_different() -> None:
    answers = [decode(data) for data, _ in WRITTEN.values()]
    for index, one in enumerate(answers):
        assert answers.index(one) == index
    assert {one.node_id for one in answers if isinstance(one, Query | Response)} == {ID, TARGET}
