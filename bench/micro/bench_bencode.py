"""Bencode side by side with the libraries that Python programs use, on what a node reads most."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dhtmeta._fast import bencode

Codec = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]

# The name on the package index, and where its two functions are.
LIBRARIES = {
    "dhtmeta": ("dhtmeta._fast.bencode", "decode", "encode"),
    "bencode2": ("bencode2", "bdecode", "bencode"),
    "bencoder.pyx": ("bencoder", "bdecode", "bencode"),
    "bencode-rs": ("bencode_rs", "bdecode", "bencode"),
    "fastbencode": ("fastbencode", "bdecode", "bencode"),
    "bencode.py": ("bencodepy", "decode", "encode"),
    "libtorrent": ("libtorrent", "bdecode", "bencode"),
}
PEER = "bencode2"
DECODE_BAR = 0.85
ENCODE_BAR = 0.60
SCAN_BAR = 0.25

# A peer behind a relay, with one service of its own: 601 bytes.
NODE_RECORD = bencode.encode(
    {
        "apps_count": 2,
        "capabilities": ["chat", "files"],
        "files_count": 128,
        "network_info": {
            "connected_relay": "8f1d0c5be2a94763b15d7e09c4f2a6385d70e1bb",
            "nat_type": "port_restricted",
            "node_type": "private",
            "private_ip": "192.168.1.23",
            "private_port": 30906,
            "protocols": [{"name": "files", "port": 30907}],
            "public_ip": "203.0.113.57",
            "public_port": 41822,
            "relay_address": "198.51.100.7:30906",
            "relay_session_id": "5b0e6f3c9a",
            "reputation_score": 8120,
            "using_relay": True,
        },
        "node_id": "3b7c1e90ad24f8561fe2d0b9a7c6435812fe90cd",
        "peer_id": "c0ffee17d2a94763b15d7e09c4f2a6385d70e1bb",
        "timestamp": 1795000000,
        "topic": "remotenet0",
        "version": 1,
    }
)

# What a node that holds a record answers to a get: 1,020 bytes.
KRPC_REPLY = bencode.encode(
    {
        "ip": bytes(range(6)),
        "r": {
            "id": bytes(range(20)),
            "k": bytes(range(32, 64)),
            "nodes": bytes(range(208)),
            "seq": 41,
            "sig": bytes(range(64, 128)),
            "token": b"tokntokn",
            "v": bencode.decode(NODE_RECORD),
        },
        "t": b"\x01\x02\x03\x04",
        "y": "r",
    }
)

SAMPLES = {"KRPC reply": KRPC_REPLY, "NodeRecord": NODE_RECORD}


def codec(library: str) -> Codec:
    module, decode, encode = LIBRARIES[library]
    try:
        found = importlib.import_module(module)
    except ImportError:
        pytest.skip(f"{library} is not installed: not measured")
    return getattr(found, decode), getattr(found, encode)


def label(benchmark: BenchmarkFixture, group: str, library: str, peer: str, bar: float) -> None:
    benchmark.group = group
    benchmark.extra_info = {"library": library, "peer": peer, "bar": bar}


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("library", LIBRARIES)
def bench_decode(benchmark: BenchmarkFixture, library: str, sample: str) -> None:
    data = SAMPLES[sample]
    decode = codec(library)[0]
    assert decode(data) == bencode.decode(data)
    label(benchmark, f"bencode decode, {sample}", library, PEER, DECODE_BAR)
    benchmark(decode, data)


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("library", LIBRARIES)
def bench_encode(benchmark: BenchmarkFixture, library: str, sample: str) -> None:
    data = SAMPLES[sample]
    value = bencode.decode(data)
    encode = codec(library)[1]
    assert encode(value) == data
    label(benchmark, f"bencode encode, {sample}", library, PEER, ENCODE_BAR)
    benchmark(encode, value)


@pytest.mark.parametrize("library", ["dhtmeta", "dhtmeta decode"])
def bench_scan(benchmark: BenchmarkFixture, library: str) -> None:
    spans = bencode.scan(KRPC_REPLY)
    assert spans.v is not None
    assert KRPC_REPLY[slice(*spans.v)] == NODE_RECORD
    assert spans.seq == 41
    label(benchmark, "bencode scan, KRPC reply", library, "dhtmeta decode", SCAN_BAR)
    benchmark(bencode.scan if library == "dhtmeta" else bencode.decode, KRPC_REPLY)
