"""The one door for datagrams: bytes to a complete typed message or MalformedMessage, and back.

Envelopes of others may have unsorted and unknown keys, never trailing bytes or a key twice (only
of those that mean nothing in a response, two far apart are not noticed: it is scanned, not built).
What we send is canonical.
"""

from typing import Any

from dhtmeta._fast import bencode
from dhtmeta.const import (
    MAX_CONTACTS,
    MAX_DATAGRAM_BYTES,
    MAX_KRPC_DEPTH,
    MAX_TOKEN_BYTES,
    MAX_TRANSACTION_BYTES,
    NODE_ID_BYTES,
)
from dhtmeta.errors import MalformedMessage
from dhtmeta.krpc.compact import (
    NODE6_BYTES,
    NODE_BYTES,
    Endpoint,
    pack_endpoint,
    unpack_endpoint,
)
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

_R, _IP = b"1:rd", b"d2:ip6:"  # libtorrent's responses begin with the asker's address


def decode(data: bytes) -> Message:
    """Return the message that a datagram holds; MalformedMessage says what is wrong with it."""
    if len(data) > MAX_DATAGRAM_BYTES:
        raise MalformedMessage(f"a datagram of {len(data)} bytes, more than {MAX_DATAGRAM_BYTES}")
    try:
        spans = bencode.scan(data, max_depth=MAX_KRPC_DEPTH)
        t, kind, *fields = spans.cut(data)
        if t is None or kind is None:
            raise MalformedMessage("y is missing" if kind is None else "t is missing")
        if len(t) > MAX_TRANSACTION_BYTES:
            raise MalformedMessage(f"t takes {len(t)} bytes")
        if kind == b"r":
            return _response(data, spans, t, fields)
        if kind == b"q":
            return _query(data, spans, t)
        if kind == b"e":
            return _error(data, spans, t)
    except ValueError as error:
        raise MalformedMessage(str(error)) from error
    raise MalformedMessage(f"y is {kind[:8]!r}, not q, r or e")


def _response(data: bytes, spans: bencode.Spans, t: bytes, fields: list[bytes | None]) -> Response:
    # an a dict is scanned like an r one; where r does not begin the datagram, it is looked for
    begins_with_r = data.startswith(_R, 1) or (data.startswith(_IP) and data.startswith(_R, 13))
    if not begins_with_r and b"1:ad" in data and b"r" not in _whole(data):
        raise MalformedMessage("r is missing")
    node_id, token, nodes, nodes6, values, k, sig, v = fields
    if node_id is None or len(node_id) != NODE_ID_BYTES:
        _id(data, spans.id, "id")  # says what is wrong
        raise AssertionError
    if token is not None:
        _token(token)
    return Response(
        t=t,
        node_id=node_id,
        token=token,
        nodes=b"" if nodes is None else _whole_nodes(nodes, NODE_BYTES),
        nodes6=b"" if nodes6 is None else _whole_nodes(nodes6, NODE6_BYTES),
        peers=[] if values is None else _peers(values),
        k=k,
        seq=spans.seq,
        v=v,
        sig=sig,
    )


def _whole_nodes(nodes: bytes, size: int) -> bytes:
    """Return compact node info of so many nodes as are read, if it is whole."""
    if len(nodes) % size:
        raise MalformedMessage(f"compact node info of {len(nodes)} bytes is no multiple of {size}")
    return nodes if len(nodes) <= MAX_CONTACTS * size else nodes[: MAX_CONTACTS * size]


def _peers(raw: bytes) -> list[Endpoint]:
    """Return the peers of a `values` list; what is no compact address makes it malformed."""
    values = _whole(raw)
    if not all(isinstance(one, bytes) for one in values):
        raise MalformedMessage("values holds something that is no compact address")
    peers = [unpack_endpoint(one) for one in values]
    return [one for one in peers if one[1]]


def _error(data: bytes, spans: bencode.Spans, t: bytes) -> Error:
    """Read [code, message]; nodes that leave the message out are understood, too."""
    if spans.e is None:
        raise MalformedMessage("e is missing")
    said = _whole(data[spans.e[0] : spans.e[1]])
    if not said or not isinstance(said[0], int):
        raise MalformedMessage("e does not begin with a code")
    text = said[1] if len(said) > 1 and isinstance(said[1], bytes) else b""
    return Error(t=t, code=said[0], message=text.decode("utf-8", "backslashreplace"))


def _query(data: bytes, spans: bencode.Spans, t: bytes) -> Query:
    name = _bytes(data, spans.q, "q")
    whole = _whole(data)
    said = whole.get(b"a")
    if said is None:
        raise MalformedMessage("a is missing")
    common: dict[str, Any] = {
        "t": t,
        "node_id": _id(data, spans.id, "id"),
        "read_only": whole.get(b"ro") == 1,
    }
    if name == b"ping":
        return Ping(**common)
    if name == b"find_node":
        return FindNode(**common, target=_id(data, spans.target, "target"))
    if name == b"get":
        return Get(**common, target=_id(data, spans.target, "target"), seq=spans.seq)
    if name == b"get_peers":
        return GetPeers(**common, info_hash=_id(data, spans.info_hash, "info_hash"))
    if name == b"announce_peer":
        return _announce(data, spans, said, common)
    if name == b"put":
        return _put(data, spans, common)
    return UnknownQuery(**common, name=name)


def _announce(
    data: bytes, spans: bencode.Spans, said: dict[bytes, Any], common: dict[str, Any]
) -> AnnouncePeer:
    port = said.get(b"port")
    if said.get(b"implied_port") == 1:
        port = None
    elif not isinstance(port, int) or not 1 <= port <= 65535:
        raise MalformedMessage("port is not 1 … 65535")
    return AnnouncePeer(
        **common,
        info_hash=_id(data, spans.info_hash, "info_hash"),
        port=port,
        token=_token(_bytes(data, spans.token, "token")),
    )


def _put(data: bytes, spans: bencode.Spans, common: dict[str, Any]) -> Query:
    token = _token(_bytes(data, spans.token, "token"))
    v = _bytes(data, spans.v, "v")
    if spans.k is None and spans.sig is None:
        return PutImmutable(**common, token=token, v=v)
    if spans.seq is None:
        raise MalformedMessage("seq is missing")
    return Put(
        **common,
        token=token,
        k=_bytes(data, spans.k, "k"),
        salt=b"" if spans.salt is None else _bytes(data, spans.salt, "salt"),
        seq=spans.seq,
        v=v,
        sig=_bytes(data, spans.sig, "sig"),
        cas=spans.cas,
    )


def _whole(raw: bytes) -> Any:
    """Return what `raw` stands for; a key that occurs twice, wherever it is, makes it malformed."""
    return bencode.decode(raw, canonical=False, max_depth=MAX_KRPC_DEPTH)


def _bytes(data: bytes, span: bencode.Span | None, name: str) -> bytes:
    if span is None:
        raise MalformedMessage(f"{name} is missing")
    return data[span[0] : span[1]]


def _id(data: bytes, span: bencode.Span | None, name: str) -> bytes:
    found = _bytes(data, span, name)
    if len(found) != NODE_ID_BYTES:
        raise MalformedMessage(f"{name} takes {len(found)} bytes, not {NODE_ID_BYTES}")
    return found


def _token(token: bytes) -> bytes:
    if len(token) > MAX_TOKEN_BYTES:
        raise MalformedMessage(f"token takes {len(token)} bytes")
    return token


def encode(message: Message) -> bytes:
    """Return the canonical bytes of a message; v and cas, seq go in as they are."""
    if type(message) is Get and message.seq is None and message.read_only:
        return _encode_plain_get(message)
    if isinstance(message, Response):
        return _encode_response(message)
    if isinstance(message, Error):
        said: dict[str, Any] = {"e": [message.code, message.message], "t": message.t, "y": b"e"}
        return bencode.encode(said)
    if isinstance(message, Put | PutImmutable):
        return _encode_put(message)
    said = {"a": _arguments(message), "q": _name(message), "t": message.t, "y": b"q"}
    if message.read_only:
        said["ro"] = 1
    return bencode.encode(said)


def _encode_plain_get(get: Get) -> bytes:
    """Write out the message that we send more often than all others."""
    a = b"d1:ad2:id20:%b6:target20:%be1:q3:get2:roi1e" % (get.node_id, get.target)
    return b"%b1:t%d:%b1:y1:qe" % (a, len(get.t), get.t)


def _name(query: Query) -> bytes:
    return query.name if isinstance(query, UnknownQuery) else query.q


def _arguments(query: Query) -> dict[str, Any]:
    said: dict[str, Any] = {"id": query.node_id}
    if isinstance(query, Get):
        said["target"] = query.target
        if query.seq is not None:
            said["seq"] = query.seq
    elif isinstance(query, FindNode):
        said["target"] = query.target
    elif isinstance(query, GetPeers):
        said["info_hash"] = query.info_hash
    elif isinstance(query, AnnouncePeer):
        said |= {"info_hash": query.info_hash, "token": query.token}
        said |= {"implied_port": 1, "port": 1} if query.port is None else {"port": query.port}
    return said


def _encode_put(put: Put | PutImmutable) -> bytes:
    """Put the raw v, which is bencoded already, between the fields before and behind it."""
    said: dict[str, Any] = {"id": put.node_id, "token": put.token}
    if isinstance(put, Put):
        said |= {"k": put.k, "seq": put.seq, "sig": put.sig}
        if put.salt:
            said["salt"] = put.salt
        if put.cas is not None:
            said["cas"] = put.cas
    arguments = bencode.encode(said)[:-1] + b"1:v" + put.v + b"e"
    rest: dict[str, Any] = {"q": put.q, "t": put.t, "y": b"q"}
    if put.read_only:
        rest["ro"] = 1
    return b"d1:a" + arguments + bencode.encode(rest)[1:]


def _encode_response(response: Response) -> bytes:
    said: dict[str, Any] = {"id": response.node_id}
    for name in ("token", "k", "seq", "sig"):
        value = getattr(response, name)
        if value is not None:
            said[name] = value
    if response.nodes:
        said["nodes"] = response.nodes
    if response.nodes6:
        said["nodes6"] = response.nodes6
    raw = bencode.encode(said)[:-1]
    if response.v is not None:
        raw += b"1:v" + response.v
    if response.peers:
        raw += b"6:values" + bencode.encode([pack_endpoint(one) for one in response.peers])
    return b"d1:r" + raw + b"e" + bencode.encode({"t": response.t, "y": b"r"})[1:]
