"""Messages of every type at random, and datagrams that somebody damaged."""

import socket

from hypothesis import strategies as st

from dhtmeta._fast import bencode
from dhtmeta.krpc.codec import encode
from dhtmeta.krpc.compact import Contact, pack_contacts
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
    Query,
    Response,
    UnknownQuery,
)

KNOWN = {b"ping", b"find_node", b"get", b"put", b"get_peers", b"announce_peer"}

ports = st.integers(1, 65535)
hosts = st.binary(min_size=4, max_size=4).map(socket.inet_ntoa)
hosts6 = st.binary(min_size=16, max_size=16).map(lambda raw: socket.inet_ntop(socket.AF_INET6, raw))
endpoints = st.tuples(hosts, ports)
endpoints6 = st.tuples(hosts6, ports)
ids = st.binary(min_size=20, max_size=20)
contacts = st.builds(Contact, ids, endpoints)
contacts6 = st.builds(Contact, ids, endpoints6)
ints = st.integers(-(2**63), 2**63 - 1)
tokens = st.binary(max_size=256)
values = st.recursive(
    ints | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
).map(bencode.encode)

t = st.binary(max_size=32)
who = {"t": t, "node_id": ids, "read_only": st.booleans()}
queries: st.SearchStrategy[Query] = st.one_of(
    st.builds(Ping, **who),
    st.builds(FindNode, **who, target=ids),
    st.builds(GetPeers, **who, info_hash=ids),
    st.builds(AnnouncePeer, **who, info_hash=ids, port=st.none() | ports, token=tokens),
    st.builds(Get, **who, target=ids, seq=st.none() | ints),
    st.builds(
        Put,
        **who,
        token=tokens,
        k=st.binary(max_size=40),
        salt=st.binary(max_size=70),
        seq=ints,
        v=values,
        sig=st.binary(max_size=70),
        cas=st.none() | ints,
    ),
    st.builds(PutImmutable, **who, token=tokens, v=values),
    st.builds(
        UnknownQuery, **who, name=st.binary(max_size=20).filter(lambda name: name not in KNOWN)
    ),
)
responses = st.builds(
    Response,
    t=t,
    node_id=ids,
    token=st.none() | tokens,
    nodes=st.lists(contacts, max_size=16).map(pack_contacts),
    nodes6=st.lists(contacts6, max_size=16).map(pack_contacts),
    peers=st.lists(endpoints | endpoints6, max_size=20),
    k=st.none() | st.binary(max_size=40),
    seq=st.none() | ints,
    v=st.none() | values,
    sig=st.none() | st.binary(max_size=70),
)
errors = st.builds(Error, t=t, code=ints, message=st.text(max_size=50))
messages: st.SearchStrategy[Message] = queries | responses | errors

# Bytes that get further into a codec than random ones.
pieces = st.sampled_from(
    b"i e l d - 0 9 : 0: le de i0e i1e i-1e 1: 20: 1:rd 1:ad 1:q 1:r 1:e 1:t 1:y 1:v 1:k 2:id "
    b"2:ro 3:seq 3:cas 3:sig 4:salt 4:port 5:nodes 6:nodes6 6:target 6:values 5:token 3:put 3:get "
    b"9:info_hash 9:get_peers 13:announce_peer 12:implied_port 18446744073709551617:".split()
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a valid datagram in which some bytes were replaced, lost, added or said twice."""
    data = encode(draw(messages))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 8)))
        middle = draw(pieces | st.binary(max_size=2) | st.just(data[start:end] * 2))
        data = data[:start] + middle + data[end:]
    return data


soup = st.lists(pieces, max_size=30).map(b"".join)
hostile = st.binary(max_size=60) | soup | soup.map(lambda inner: b"d" + inner + b"e") | damaged()
