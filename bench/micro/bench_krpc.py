"""The codec on what a lookup reads and sends, beside bencode2 building or writing the bare dict."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dhtmeta._fast import bencode
from dhtmeta.krpc import codec
from dhtmeta.krpc.compact import Contact, split_contacts
from dhtmeta.krpc.messages import Get, Response

PEER = "bencode2"  # which checks no field, and unpacks no contact
LIBRARIES = ("dhtmeta", PEER)

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


def bencode2() -> Any:
    try:
        return importlib.import_module(PEER)
    except ImportError:
        pytest.skip(f"{PEER} is not installed: not measured")


def label(benchmark: BenchmarkFixture, group: str, library: str) -> None:
    benchmark.group = group
    benchmark.extra_info = {"library": library, "peer": PEER}


@pytest.mark.parametrize("library", LIBRARIES)
def bench_decode_response(benchmark: BenchmarkFixture, library: str) -> None:
    data = codec.encode(RESPONSE)
    decode: Callable[[bytes], Any] = codec.decode if library == "dhtmeta" else bencode2().bdecode
    expected = RESPONSE if library == "dhtmeta" else bencode.decode(data)
    assert decode(data) == expected
    label(benchmark, "krpc decode, get response with item and 8 nodes", library)
    benchmark(decode, data)


@pytest.mark.parametrize("library", LIBRARIES)
def bench_encode_get(benchmark: BenchmarkFixture, library: str) -> None:
    data = codec.encode(GET)
    encode: Callable[[Any], bytes] = codec.encode if library == "dhtmeta" else bencode2().bencode
    message = GET if library == "dhtmeta" else bencode.decode(data)
    assert codec.decode(data) == GET
    assert encode(message) == data
    label(benchmark, "krpc encode, get", library)
    benchmark(encode, message)
