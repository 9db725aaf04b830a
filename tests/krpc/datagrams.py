"""Datagrams of every kind, written out by hand as BEP 5, 32 and 44 show them, and what they say."""

from typing import Any

from dhtmeta.krpc.compact import Contact, split_contacts
from dhtmeta.krpc.messages import (
    AnnouncePeer,
    Error,
    FindNode,
    Get,
    GetPeers,
    Message,
    Ping,
    Put,
    PutImmutable,
    Response,
    UnknownQuery,
)

ID = b"abcdefghij0123456789"
TARGET = b"mnopqrstuvwxyz123456"
K = b"k" * 32
SIG = b"s" * 64
HERE: Any = {"t": b"aa", "node_id": ID}

NODE = Contact(TARGET, ("97.120.106.101", 11893))  # "axje.u" of BEP 5
NODES = b"5:nodes26:" + TARGET + b"axje.u"
NODE6 = Contact(TARGET, ("2001:db8::1", 6881))
NODES6 = b"6:nodes638:" + TARGET + b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x1a\xe1"
PEER6 = b"18:" + b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x1a\xe1"


def query(name: bytes, arguments: bytes, after: bytes = b"") -> bytes:
    """Return a query of ID with these further arguments, and what stands between q and t."""
    q = b"%d:%b" % (len(name), name)
    return b"d1:ad2:id20:" + ID + arguments + b"e1:q" + q + after + b"1:t2:aa1:y1:qe"


def response(fields: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a response of ID with these further fields, and what stands around r and t."""
    return b"d" + before + b"1:rd2:id20:" + ID + fields + b"e1:t2:aa" + after + b"1:y1:re"


def error(said: bytes) -> bytes:
    """Return an error that says this."""
    return b"d1:e" + said + b"1:t2:aa1:y1:ee"


WANTED = b"6:target20:" + TARGET
INFO_HASH = b"9:info_hash20:" + TARGET
TOKEN = b"5:token8:aoeusnth"
SIGNED = b"3:sig64:" + SIG
PUT = b"1:k32:" + K + b"3:seqi4e" + SIGNED + TOKEN + b"1:v12:Hello World!"
ANNOUNCE = INFO_HASH + b"4:porti6881e" + TOKEN

PUT_FIELDS: dict[str, Any] = {
    **HERE,
    "token": b"aoeusnth",
    "k": K,
    "salt": b"",
    "seq": 4,
    "v": b"12:Hello World!",
    "sig": SIG,
}

# What we send, byte for byte, and what it is read as.
WRITTEN: dict[str, tuple[bytes, Message]] = {
    "ping": (
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
        Ping(**HERE),
    ),
    "ping of a read-only node": (query(b"ping", b"", b"2:roi1e"), Ping(**HERE, read_only=True)),
    "answer to a ping": (
        b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
        Response(t=b"aa", node_id=TARGET),
    ),
    "find_node": (
        b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e"
        b"1:q9:find_node1:t2:aa1:y1:qe",
        FindNode(**HERE, target=TARGET),
    ),
    "answer with a node": (response(NODES), Response(**HERE, **split_contacts([NODE]))),
    "answer with nodes of both families": (
        response(NODES + NODES6),
        Response(**HERE, **split_contacts([NODE, NODE6])),
    ),
    "get_peers": (
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e"
        b"1:q9:get_peers1:t2:aa1:y1:qe",
        GetPeers(**HERE, info_hash=TARGET),
    ),
    "answer with peers": (
        b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee"
        b"1:t2:aa1:y1:re",
        Response(
            **HERE,
            token=b"aoeusnth",
            peers=[("97.120.106.101", 11893), ("105.100.104.116", 28269)],
        ),
    ),
    "answer with a peer over IPv6": (
        response(b"6:valuesl" + PEER6 + b"e"),
        Response(**HERE, peers=[("2001:db8::1", 6881)]),
    ),
    "announce_peer": (
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti6881e"
        b"5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
        AnnouncePeer(**HERE, info_hash=TARGET, port=6881, token=b"aoeusnth"),
    ),
    "announce_peer of the port it comes from": (
        query(b"announce_peer", b"12:implied_porti1e" + INFO_HASH + b"4:porti1e" + TOKEN),
        AnnouncePeer(**HERE, info_hash=TARGET, port=None, token=b"aoeusnth"),
    ),
    "error": (
        b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
        Error(t=b"aa", code=201, message="A Generic Error Ocurred"),
    ),
    "get": (query(b"get", WANTED), Get(**HERE, target=TARGET)),
    "get of what is newer": (
        query(b"get", b"3:seqi4e" + WANTED),
        Get(**HERE, target=TARGET, seq=4),
    ),
    "get of what is newer than 0": (
        query(b"get", b"3:seqi0e" + WANTED),
        Get(**HERE, target=TARGET, seq=0),
    ),
    "answer with a mutable item": (
        response(b"1:k32:" + K + NODES + b"3:seqi4e" + SIGNED + TOKEN + b"1:v12:Hello World!"),
        Response(
            **HERE,
            token=b"aoeusnth",
            **split_contacts([NODE]),
            k=K,
            seq=4,
            v=b"12:Hello World!",
            sig=SIG,
        ),
    ),
    "answer with an immutable item": (
        response(TOKEN + b"1:vd1:ai1ee"),
        Response(**HERE, token=b"aoeusnth", v=b"d1:ai1ee"),
    ),
    "answer with seq only": (
        response(b"3:seqi0e" + TOKEN),
        Response(**HERE, token=b"aoeusnth", seq=0),
    ),
    "put": (query(b"put", PUT), Put(**PUT_FIELDS)),
    "put with salt and cas": (
        (
            b"d1:ad3:casi3e2:id20:abcdefghij01234567891:k32:" + K + b"4:salt6:foobar3:seqi4e"
            b"3:sig64:" + SIG + b"5:token8:aoeusnth1:vlee1:q3:put1:t2:aa1:y1:qe"
        ),
        Put(**(PUT_FIELDS | {"salt": b"foobar", "cas": 3, "v": b"le"})),
    ),
    "put of an immutable value": (
        query(b"put", TOKEN + b"1:v12:Hello World!"),
        PutImmutable(**HERE, token=b"aoeusnth", v=b"12:Hello World!"),
    ),
    "query of another kind": (query(b"vote", b""), UnknownQuery(**HERE, name=b"vote")),
}
