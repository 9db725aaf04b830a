"""What other nodes' datagrams may have wrong, and are understood all the same."""

import pytest

from dhtmeta.const import MAX_CONTACTS, MAX_TOKEN_BYTES, MAX_TRANSACTION_BYTES
from dhtmeta.krpc.codec import decode
from dhtmeta.krpc.compact import split_contacts
from dhtmeta.krpc.messages import (
    AnnouncePeer,
    Error,
    FindNode,
    Get,
    Message,
    Ping,
    Put,
    PutImmutable,
    Response,
    UnknownQuery,
)
from tests.krpc.datagrams import (
    ANNOUNCE,
    HERE,
    ID,
    INFO_HASH,
    NODE,
    NODE6,
    NODES,
    NODES6,
    PUT,
    PUT_FIELDS,
    TARGET,
    TOKEN,
    WANTED,
    K,
    error,
    query,
    response,
)

ANSWER = Response(**HERE)
PING = Ping(**HERE)
GET = Get(**HERE, target=TARGET)
ANNOUNCED = AnnouncePeer(**HERE, info_hash=TARGET, port=6881, token=b"aoeusnth")
ID_FIELD = b"2:id20:" + ID
DEAD = TARGET + b"\x01\x02\x03\x04\x00\x00"

UNSORTED: dict[str, tuple[bytes, Message]] = {
    "a response": (b"d1:y1:r1:t2:aa1:rd" + ID_FIELD + b"ee", ANSWER),
    "a query": (b"d1:y1:q1:t2:aa1:q4:ping1:ad" + ID_FIELD + b"ee", PING),
    "an error": (b"d1:y1:e1:t2:aa1:eli203e3:badee", Error(t=b"aa", code=203, message="bad")),
    "in r": (
        b"d1:rd" + TOKEN + NODES + ID_FIELD + b"e1:t2:aa1:y1:re",
        Response(**HERE, token=b"aoeusnth", **split_contacts([NODE])),
    ),
    "in a": (b"d1:ad" + WANTED + ID_FIELD + b"e1:q3:get1:t2:aa1:y1:qe", GET),
    "in an announce": (
        b"d1:ad" + TOKEN + b"4:porti6881e" + INFO_HASH + ID_FIELD + b"e"
        b"1:q13:announce_peer1:t2:aa1:y1:qe",
        ANNOUNCED,
    ),
    "in v": (
        response(b"1:vd1:bi1e1:ai2ee"),
        Response(**HERE, v=b"d1:bi1e1:ai2ee"),
    ),
}

UNKNOWN_KEYS: dict[str, tuple[bytes, Message]] = {
    "version": (response(b"", after=b"1:v4:LT\x02\x01"), ANSWER),
    "version of a query": (query(b"ping", b"").replace(b"1:y1:q", b"1:v4:UT\x00\x001:y1:q"), PING),
    "version that is a list": (response(b"", after=b"1:vli1ee"), ANSWER),
    "our address": (response(b"", before=b"2:ip6:\x01\x02\x03\x04\x1a\xe1"), ANSWER),
    "our address before an error": (
        b"d1:eli203e3:bade2:ip6:\x01\x02\x03\x04\x1a\xe11:t2:aa1:y1:ee",
        Error(t=b"aa", code=203, message="bad"),
    ),
    "one of the top level": (response(b"", before=b"1:bd1:ci1ee"), ANSWER),
    "in r": (response(b"1:pi6881e" + TOKEN), Response(**HERE, token=b"aoeusnth")),
    "nested in r": (response(b"2:zzd1:ald1:bleee1:c0:e"), ANSWER),
    "in a": (query(b"get", b"5:extrali1ei2ee" + WANTED), GET),
    "in e's neighbour": (
        b"d1:eli201e0:e1:rd2:id20:" + ID + b"e1:t2:aa1:y1:ee",
        Error(t=b"aa", code=201, message=""),
    ),
    "fields of r at the top": (
        b"d" + ID_FIELD + b"1:rd2:id20:" + TARGET + b"e1:t2:aa5:token0:1:y1:re",
        Response(t=b"aa", node_id=TARGET),
    ),
    "q in a response": (response(b"").replace(b"1:rd", b"1:q4:ping1:rd"), ANSWER),
    "e in a response": (response(b"", before=b"1:eli201e0:e"), ANSWER),
    "arguments of other queries": (
        query(b"ping", PUT + WANTED).replace(b"1:k32", b"4:port0:1:k32"),
        PING,
    ),
    "want": (query(b"find_node", WANTED + b"4:wantl2:n42:n6e"), FindNode(**HERE, target=TARGET)),
    "want that is a string": (query(b"get", WANTED + b"4:want2:n4"), GET),
    "twice in a response, far apart, where it means nothing": (
        response(b"1:xi1e1:yi1e1:xi1e"),
        ANSWER,
    ),
    "a dict inside r that is called a": (response(b"1:ad1:xi1ee"), ANSWER),
    "the bytes of an a dict in a token": (
        response(b"5:token4:1:ad"),
        Response(**HERE, token=b"1:ad"),
    ),
}

READ_ONLY: dict[str, tuple[bytes, Message]] = {
    "absent": (query(b"ping", b""), PING),
    "0": (query(b"ping", b"", b"2:roi0e"), PING),
    "1": (query(b"ping", b"", b"2:roi1e"), Ping(**HERE, read_only=True)),
    "2": (query(b"ping", b"", b"2:roi2e"), PING),
    "a string": (query(b"ping", b"", b"2:ro1:1"), PING),
    "in a": (query(b"ping", b"2:roi1e"), PING),
    "in a response": (response(b"", before=b"2:roi1e"), ANSWER),
}

NODE_LISTS: dict[str, tuple[bytes, Message]] = {
    "empty": (response(b"5:nodes0:6:nodes60:"), ANSWER),
    "IPv6 only": (response(NODES6), Response(**HERE, **split_contacts([NODE6]))),
    "IPv6 first": (response(NODES6 + NODES), Response(**HERE, **split_contacts([NODE, NODE6]))),
    "more than the cap": (
        response(b"5:nodes1040:" + NODES[-26:] * 40),
        Response(**HERE, **split_contacts([NODE] * MAX_CONTACTS)),
    ),
    "more than the cap in both families": (
        response(b"5:nodes1040:" + NODES[-26:] * 40 + b"6:nodes61520:" + NODES6[-38:] * 40),
        Response(**HERE, **split_contacts([NODE] * MAX_CONTACTS + [NODE6] * MAX_CONTACTS)),
    ),
    "no values": (response(b"6:valuesle"), ANSWER),
    "a peer with port 0": (
        response(b"6:valuesl6:\x01\x02\x03\x04\x00\x006:axje.ue"),
        Response(**HERE, peers=[NODE.endpoint]),
    ),
    "peers of both families": (
        response(b"6:valuesl18:" + NODES6[-18:] + b"6:axje.ue"),
        Response(**HERE, peers=[NODE6.endpoint, NODE.endpoint]),
    ),
    "nodes with values": (
        response(NODES + b"6:valuesl6:axje.ue"),
        Response(**HERE, **split_contacts([NODE]), peers=[NODE.endpoint]),
    ),
}

ITEMS: dict[str, tuple[bytes, Message]] = {
    "seq only": (response(b"3:seqi7e"), Response(**HERE, seq=7)),
    "negative seq": (response(b"3:seqi-1e"), Response(**HERE, seq=-1)),
    "k of any length": (response(b"1:k3:kkk"), Response(**HERE, k=b"kkk")),
    "sig of any length": (response(b"3:sig0:"), Response(**HERE, sig=b"")),
    "v without the rest": (response(b"1:v0:"), Response(**HERE, v=b"0:")),
    "v as deep as a value may be": (
        response(b"1:v" + b"l" * 32 + b"e" * 32),
        Response(**HERE, v=b"l" * 32 + b"e" * 32),
    ),
    "empty salt": (query(b"put", PUT.replace(b"3:seq", b"4:salt0:3:seq")), Put(**PUT_FIELDS)),
    "put of wrong lengths, which BEP 44 has codes for": (
        query(b"put", PUT.replace(b"1:k32:" + K, b"1:k1:k")),
        Put(**(PUT_FIELDS | {"k": b"k"})),
    ),
    "put with negative seq": (
        query(b"put", PUT.replace(b"i4e", b"i-4e")),
        Put(**(PUT_FIELDS | {"seq": -4})),
    ),
    "immutable put with seq and cas": (
        query(b"put", b"3:casi1e3:seqi1e" + TOKEN + b"1:v0:"),
        PutImmutable(**HERE, token=b"aoeusnth", v=b"0:"),
    ),
}

ERRORS: dict[str, tuple[bytes, Message]] = {
    "no text": (error(b"li203ee"), Error(t=b"aa", code=203, message="")),
    "more than code and text": (
        error(b"li203e3:bad1:xlei7ee"),
        Error(t=b"aa", code=203, message="bad"),
    ),
    "a text that is none": (error(b"li203ei7ee"), Error(t=b"aa", code=203, message="")),
    "text that is not UTF-8": (
        error(b"li203e2:\xff!e"),
        Error(t=b"aa", code=203, message="\\xff!"),
    ),
    "text in UTF-8": (error(b"li203e2:\xc3\xbce"), Error(t=b"aa", code=203, message="ü")),
    "a code of its own": (error(b"li-7e0:e"), Error(t=b"aa", code=-7, message="")),
}

OTHERS: dict[str, tuple[bytes, Message]] = {
    "empty t": (response(b"").replace(b"1:t2:aa", b"1:t0:"), Response(t=b"", node_id=ID)),
    "the longest t": (
        response(b"").replace(b"1:t2:aa", b"1:t32:" + b"t" * MAX_TRANSACTION_BYTES),
        Response(t=b"t" * MAX_TRANSACTION_BYTES, node_id=ID),
    ),
    "the longest token": (
        response(b"5:token256:" + b"o" * MAX_TOKEN_BYTES),
        Response(**HERE, token=b"o" * MAX_TOKEN_BYTES),
    ),
    "implied port, and no other": (
        query(b"announce_peer", b"12:implied_porti1e" + INFO_HASH + TOKEN),
        AnnouncePeer(**HERE, info_hash=TARGET, port=None, token=b"aoeusnth"),
    ),
    "implied port beside a wrong one": (
        query(b"announce_peer", b"12:implied_porti1e" + INFO_HASH + b"4:porti0e" + TOKEN),
        AnnouncePeer(**HERE, info_hash=TARGET, port=None, token=b"aoeusnth"),
    ),
    "the lowest port": (
        query(b"announce_peer", ANNOUNCE.replace(b"6881", b"1")),
        AnnouncePeer(**HERE, info_hash=TARGET, port=1, token=b"aoeusnth"),
    ),
    "the highest port": (
        query(b"announce_peer", ANNOUNCE.replace(b"6881", b"65535")),
        AnnouncePeer(**HERE, info_hash=TARGET, port=65535, token=b"aoeusnth"),
    ),
    "port not implied": (query(b"announce_peer", b"12:implied_porti0e" + ANNOUNCE), ANNOUNCED),
    "implied port of a wrong type": (
        query(b"announce_peer", b"12:implied_port1:1" + ANNOUNCE),
        ANNOUNCED,
    ),
    "name that is not text": (query(b"\xff\x00", b""), UnknownQuery(**HERE, name=b"\xff\x00")),
    "empty name": (query(b"", b""), UnknownQuery(**HERE, name=b"")),
    "name of another case": (query(b"PING", b""), UnknownQuery(**HERE, name=b"PING")),
}

KINDS = {
    f"{kind}: {name}": row
    for kind, rows in {
        "unsorted": UNSORTED,
        "unknown key": UNKNOWN_KEYS,
        "ro": READ_ONLY,
        "nodes": NODE_LISTS,
        "item": ITEMS,
        "error": ERRORS,
        "other": OTHERS,
    }.items()
    for name, row in rows.items()
}


@pytest.mark.parametrize(("data", "message"), KINDS.values(), ids=list(KINDS))
def test_it_is_understood(data: bytes, message: Message) -> None:
    assert decode(data) == message
    assert type(decode(data)) is type(message)


def test_nodes_at_port_0_are_not_among_the_contacts() -> None:
    between = decode(response(b"5:nodes78:" + NODES[-26:] + DEAD + NODES[-26:]))
    assert isinstance(between, Response)
    assert between.contacts == [NODE, NODE]
