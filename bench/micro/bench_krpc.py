"""The codec on what a lookup reads and sends, beside bencode2 building or writing the bare dict."""

from importlib import import_module
from typing import Any

import pytest

from bench.micro.peers import installed
from bench.micro.turns import Claim, calling, turn_about, turn_of
from bench.scenario import Options
from dhtmeta._fast import bencode
from dhtmeta.krpc import codec
from dhtmeta.krpc.compact import Contact, split_contacts
from dhtmeta.krpc.messages import Get, Response

PEER = "bencode2"
NOTE = "which checks no field, and unpacks no contact"

RESPONSE = Response(
    t=b"\x01\x02\x03\x04",
    node_id=bytes(range(20)),
    token=b"tokn",
    **split_contacts(Contact(bytes([i] * 20), (f"198.51.100.{i}", 6881 + i)) for i in range(8)),
    k=bytes(range(32, 64)),
    seq=41,
    v=bencode.encode(bytes(600)),
    sig=bytes(range(64, 128)),
)
GET = Get(t=b"\x01\x02\x03\x04", node_id=bytes(range(20)), read_only=True, target=bytes(20))


def rounds(options: Options) -> int:
    return 100 if options.quick else 500


@pytest.mark.parametrize("peer", installed([PEER]))
def bench_decode_response(benchmark: Any, options: Options, peer: str) -> None:
    data, decode = codec.encode(RESPONSE), import_module(peer).bdecode
    assert codec.decode(data) == RESPONSE
    assert decode(data) == bencode.decode(data)
    claim = Claim("krpc decode, response with an item and 8 nodes", peer, note=NOTE)
    turns = turn_of(calling(codec.decode, data)), turn_of(calling(decode, data))
    turn_about(benchmark, claim, *turns, rounds(options))


@pytest.mark.parametrize("peer", installed([PEER]))
def bench_encode_get(benchmark: Any, options: Options, peer: str) -> None:
    encode, data = import_module(peer).bencode, codec.encode(GET)
    message = bencode.decode(data)
    assert codec.decode(data) == GET
    assert encode(message) == data
    turns = turn_of(calling(codec.encode, GET)), turn_of(calling(encode, message))
    turn_about(benchmark, Claim("krpc encode, get", peer), *turns, rounds(options))
