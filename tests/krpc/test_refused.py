"""What makes a datagram malformed, kind by kind, and what is said of it."""

import re

import pytest

from dhtmeta.errors import DhtmetaError, MalformedMessage, RemoteError
from dhtmeta.krpc.codec import decode
from tests.krpc.datagrams import (
    ANNOUNCE,
    ID,
    INFO_HASH,
    NODES,
    PUT,
    SIGNED,
    TARGET,
    TOKEN,
    WANTED,
    WRITTEN,
    K,
    error,
    query,
    response,
)

ID_FIELD = b"2:id20:" + ID
PING, ANSWER = query(b"ping", b""), response(b"")
TOO_LARGE = b"i9223372036854775808e"
DEEP = b"l" * 35 + b"e" * 35

NOT_BENCODE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "truncated at byte 0"),
    "text": (b"hello", "not a dict at byte 0"),
    "a list": (b"le", "not a dict at byte 0"),
    "an int": (b"i1e", "not a dict at byte 0"),
    "trailing byte": (ANSWER + b"e", f"trailing bytes at byte {len(ANSWER)}"),
    "two at once": (ANSWER + ANSWER, f"trailing bytes at byte {len(ANSWER)}"),
    "trailing newline": (PING + b"\n", f"trailing bytes at byte {len(PING)}"),
    "leading zero of a length": (response(b"5:token02:ab"), "leading zero"),
    "leading zero of an int": (response(b"3:seqi01e"), "leading zero"),
    "minus zero": (response(b"3:seqi-0e"), "negative zero"),
    "key that is no string": (response(b"i1ei2e"), "key is not a string"),
    "length past the end": (response(b"5:token999:ab"), "string longer than the data"),
    "length that wraps": (response(b"5:token18446744073709551617:a"), "longer than the data"),
    "seq past 64 bits": (response(b"3:seq" + TOO_LARGE), "int outside 64 bits"),
    "seq past 64 bits in a query": (query(b"get", b"3:seq" + TOO_LARGE + WANTED), "64 bits"),
    "cas past 64 bits": (query(b"put", b"3:cas" + TOO_LARGE + PUT), "int outside 64 bits"),
    "port past 64 bits": (
        query(b"announce_peer", ANNOUNCE.replace(b"i6881e", TOO_LARGE)),
        "64 bit",
    ),
    "unknown int past 64 bits": (response(b"1:x" + TOO_LARGE), "int outside 64 bits"),
    "code past 64 bits": (error(b"l" + TOO_LARGE + b"0:e"), "int outside 64 bits"),
    "ro past 64 bits": (query(b"ping", b"", b"2:ro" + TOO_LARGE), "int outside 64 bits"),
    "deep v": (response(b"1:v" + DEEP), "nested too deep"),
    "deep unknown key": (response(b"1:x" + DEEP), "nested too deep"),
    "deep values": (response(b"6:values" + DEEP), "nested too deep"),
    "deep e": (error(b"li201e" + DEEP + b"e"), "nested too deep"),
    "deep argument": (query(b"ping", b"1:x" + DEEP), "nested too deep"),
    "very deep": (b"d1:r" * 1000, "nested too deep"),
    "lists only": (b"l" * 4096, "not a dict"),
    "too large": (b"d1:x5000:" + b"x" * 5000 + b"e", "more than 4096"),
}

TWICE: dict[str, tuple[bytes, str]] = {
    "y": (b"d1:rd" + ID_FIELD + b"e1:t2:aa1:y1:r1:y1:re", "duplicate key"),
    "t": (b"d1:rd" + ID_FIELD + b"e1:t2:aa1:t2:bb1:y1:re", "duplicate key"),
    "t far apart": (b"d1:t2:bb1:rd" + ID_FIELD + b"e1:t2:aa1:y1:re", "duplicate key"),
    "r": (b"d1:rd" + ID_FIELD + b"e1:rd" + ID_FIELD + b"e1:t2:aa1:y1:re", "duplicate key"),
    "a and r": (b"d1:ad" + ID_FIELD + b"e1:rd" + ID_FIELD + b"e1:t2:aa1:y1:re", "duplicate key"),
    "id": (response(ID_FIELD), "duplicate key"),
    "id far apart": (response(TOKEN + ID_FIELD), "duplicate key"),
    "seq": (response(b"3:seqi1e3:seqi2e"), "duplicate key"),
    "seq far apart": (response(b"3:seqi1e5:token0:3:seqi2e"), "duplicate key"),
    "v": (response(b"1:v0:1:v0:"), "duplicate key"),
    "unknown key": (response(b"1:xi1e1:xi1e"), "duplicate key"),
    "unknown key in v": (response(b"1:vd1:ai1e1:ai1ee"), "duplicate key"),
    "argument": (query(b"get", WANTED + WANTED), "duplicate key"),
    "ro": (query(b"ping", b"", b"2:roi1e2:roi1e"), "duplicate key"),
    "ro far apart": (query(b"ping", b"", b"2:roi1e1:s0:2:roi1e"), "duplicate key"),
    "port far apart": (query(b"announce_peer", ANNOUNCE + b"4:porti1e"), "duplicate key"),
    "unknown argument far apart": (query(b"ping", b"1:xi1e1:yi1e1:xi1e"), "duplicate key"),
    "argument deep inside": (query(b"ping", b"1:xd1:ai1e1:bi1e1:ai1ee"), "duplicate key"),
    "key in e": (error(b"li201e0:d1:ai1e1:bi1e1:ai1eee"), "duplicate key"),
}

INCOMPLETE: dict[str, tuple[bytes, str]] = {
    "nothing at all": (b"de", "y is missing"),
    "no y": (b"d1:rd" + ID_FIELD + b"e1:t2:aae", "y is missing"),
    "unknown y": (ANSWER.replace(b"1:y1:r", b"1:y1:x"), "y is b'x', not q, r or e"),
    "empty y": (ANSWER.replace(b"1:y1:r", b"1:y0:"), "y is b'', not q, r or e"),
    "long y": (ANSWER.replace(b"1:y1:r", b"1:y9:responses"), "y is b'response', not q, r or e"),
    "no t": (ANSWER.replace(b"1:t2:aa", b""), "t is missing"),
    "no t in a query": (PING.replace(b"1:t2:aa", b""), "t is missing"),
    "no t in an error": (b"d1:eli201e0:e1:y1:ee", "t is missing"),
    "t too long": (ANSWER.replace(b"1:t2:aa", b"1:t33:" + b"t" * 33), "t takes 33 bytes"),
    "no r": (b"d1:t2:aa1:y1:re", "id is missing"),
    "no id in r": (b"d1:rde1:t2:aa1:y1:re", "id is missing"),
    "a for r": (ANSWER.replace(b"1:rd", b"1:ad"), "r is missing"),
    "a for r, unsorted": (b"d1:t2:aa1:y1:r1:ad" + ID_FIELD + b"1:r0:ee", "r is missing"),
    "no q": (b"d1:ad" + ID_FIELD + b"e1:t2:aa1:y1:qe", "q is missing"),
    "no a": (b"d1:q4:ping1:t2:aa1:y1:qe", "a is missing"),
    "r for a": (PING.replace(b"1:ad", b"1:rd"), "a is missing"),
    "no id in a": (b"d1:ade1:q4:ping1:t2:aa1:y1:qe", "id is missing"),
    "no id in an unknown query": (b"d1:ade1:q4:vote1:t2:aa1:y1:qe", "id is missing"),
    "find_node without target": (query(b"find_node", b""), "target is missing"),
    "get without target": (query(b"get", INFO_HASH), "target is missing"),
    "get_peers without info_hash": (query(b"get_peers", WANTED), "info_hash is missing"),
    "announce without info_hash": (
        query(b"announce_peer", b"4:porti6881e" + TOKEN),
        "info_hash is missing",
    ),
    "announce without token": (
        query(b"announce_peer", INFO_HASH + b"4:porti6881e"),
        "token is missing",
    ),
    "announce without port": (query(b"announce_peer", INFO_HASH + TOKEN), "port is not 1 … 65535"),
    "put without token": (query(b"put", b"1:v0:"), "token is missing"),
    "put without v": (query(b"put", TOKEN), "v is missing"),
    "put without seq": (query(b"put", PUT.replace(b"3:seqi4e", b"")), "seq is missing"),
    "put without k": (query(b"put", PUT.replace(b"1:k32:" + K, b"")), "k is missing"),
    "put without sig": (query(b"put", PUT.replace(SIGNED, b"")), "sig is missing"),
    "no e": (b"d1:t2:aa1:y1:ee", "e is missing"),
    "empty e": (error(b"le"), "e does not begin with a code"),
    "e without code": (error(b"l3:bade"), "e does not begin with a code"),
    "e with a list for a code": (error(b"llee"), "e does not begin with a code"),
}

WRONG_SIZE: dict[str, tuple[bytes, str]] = {
    "id of a response": (
        b"d1:rd2:id19:" + ID[:19] + b"e1:t2:aa1:y1:re",
        "id takes 19 bytes, not 20",
    ),
    "long id of a response": (b"d1:rd2:id21:" + ID + b"!e1:t2:aa1:y1:re", "id takes 21 bytes"),
    "empty id": (b"d1:rd2:id0:e1:t2:aa1:y1:re", "id takes 0 bytes"),
    "id of a query": (b"d1:ad2:id19:" + ID[:19] + b"e1:q4:ping1:t2:aa1:y1:qe", "id takes 19"),
    "target of find_node": (query(b"find_node", b"6:target3:abc"), "target takes 3 bytes, not 20"),
    "target of get": (query(b"get", b"6:target21:" + TARGET + b"!"), "target takes 21 bytes"),
    "info_hash": (query(b"get_peers", b"9:info_hash32:" + K), "info_hash takes 32 bytes"),
    "info_hash announced": (
        query(b"announce_peer", ANNOUNCE.replace(INFO_HASH, b"9:info_hash1:x")),
        "info_hash takes 1 bytes",
    ),
    "nodes": (response(b"5:nodes25:" + NODES[-25:]), "25 bytes is no multiple of 26"),
    "nodes and a bit": (response(b"5:nodes27:" + NODES[-26:] + b"!"), "27 bytes is no multiple"),
    "nodes of IPv6 size": (response(b"5:nodes38:" + b"n" * 38), "38 bytes is no multiple of 26"),
    "nodes6": (response(b"6:nodes626:" + b"n" * 26), "26 bytes is no multiple of 38"),
    "nodes past the cap": (response(b"5:nodes1041:" + b"n" * 1041), "1041 bytes is no multiple"),
    "peer": (response(b"6:valuesl7:1234567e"), "6 or 18 bytes, got 7"),
    "empty peer": (response(b"6:valuesl0:e"), "6 or 18 bytes, got 0"),
    "token of a response": (response(b"5:token257:" + b"o" * 257), "token takes 257 bytes"),
    "token of a put": (
        query(b"put", PUT.replace(TOKEN, b"5:token257:" + b"o" * 257)),
        "token takes 257 bytes",
    ),
    "token of an immutable put": (
        query(b"put", b"5:token257:" + b"o" * 257 + b"1:v0:"),
        "token takes 257 bytes",
    ),
    "token of an announce": (
        query(b"announce_peer", ANNOUNCE.replace(TOKEN, b"5:token257:" + b"o" * 257)),
        "token takes 257 bytes",
    ),
    "port 0": (query(b"announce_peer", ANNOUNCE.replace(b"6881", b"0")), "port is not 1 … 65535"),
    "port 65536": (query(b"announce_peer", ANNOUNCE.replace(b"6881", b"65536")), "port is not"),
    "negative port": (query(b"announce_peer", ANNOUNCE.replace(b"6881", b"-1")), "port is not"),
}

# A value of every type: each field is given those that are not its own.
VALUES = {"string": b"1:x", "int": b"i1e", "list": b"le", "dict": b"de"}
STRINGS = ("token", "nodes", "nodes6", "target", "info_hash", "k", "salt", "sig")


SAID = {"string": "not a string", "int": "not an int", "list": "not a list"}


def with_field(name: str, value: bytes) -> bytes:
    """Return a response in which the field `name` is this value."""
    return response(b"%d:%b" % (len(name), name.encode()) + value)


WRONG_TYPE: dict[str, tuple[bytes, str]] = (
    {
        f"{name} is a {wrong}": (with_field(name, VALUES[wrong]), SAID[kind])
        for kind, names in (("string", STRINGS), ("int", ("seq", "cas")), ("list", ("values",)))
        for name in names
        for wrong in VALUES
        if wrong != kind
    }
    | {
        f"{name} is a {wrong}": (data.replace(old, b"1:" + name.encode() + value), said)
        for name, data, old, right, said in (
            ("y", ANSWER, b"1:y1:r", "string", "not a string"),
            ("t", ANSWER, b"1:t2:aa", "string", "not a string"),
            ("q", PING, b"1:q4:ping", "string", "not a string"),
            ("a", PING, b"1:ad" + ID_FIELD + b"e", "dict", "not a dict"),
            ("r", ANSWER, b"1:rd" + ID_FIELD + b"e", "dict", "not a dict"),
            ("e", error(b"li201e0:e"), b"1:eli201e0:e", "list", "not a list"),
        )
        for wrong, value in VALUES.items()
        if wrong != right
    }
    | {
        f"{name} is a {wrong}": (data, said)
        for wrong, value in VALUES.items()
        for name, data, right, said in (
            ("id", b"d1:rd2:id" + value + b"e1:t2:aa1:y1:re", "string", "not a string"),
            (
                "port",
                query(b"announce_peer", ANNOUNCE.replace(b"i6881e", value)),
                "int",
                "port is not 1 … 65535",
            ),
            (
                "a peer",
                response(b"6:valuesl6:axje.u" + value + b"e"),
                "string",
                "values holds something that is no compact address",
            ),
        )
        if wrong != right
    }
)

KINDS = {
    f"{kind}: {name}": row
    for kind, rows in {
        "not bencode": NOT_BENCODE,
        "twice": TWICE,
        "incomplete": INCOMPLETE,
        "size": WRONG_SIZE,
        "type": WRONG_TYPE,
    }.items()
    for name, row in rows.items()
}


@pytest.mark.parametrize(("data", "said"), KINDS.values(), ids=list(KINDS))
def test_it_is_malformed(data: bytes, said: str) -> None:
    with pytest.raises(MalformedMessage, match=re.escape(said)):
        decode(data)


@pytest.mark.parametrize("data", [data for data, _ in WRITTEN.values()], ids=list(WRITTEN))
def test_the_same_with_a_byte_behind_it_is_malformed(data: bytes) -> None:
    for byte in range(256):
        with pytest.raises(MalformedMessage, match="trailing bytes"):
            decode(data + bytes([byte]))


def test_a_malformed_datagram_is_the_remote_nodes_fault() -> None:
    with pytest.raises(RemoteError) as refused:
        decode(b"hello")
    assert isinstance(refused.value, DhtmetaError)
    assert not isinstance(refused.value, ValueError)
