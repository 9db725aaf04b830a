"""Bencode beside the libraries that Python programs use, on what a node reads most."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from bench.micro.peers import CODECS, MODULES, installed
from bench.micro.samples import KRPC_REPLY, NODE_RECORD, SAMPLES
from bench.micro.turns import Claim, calling, turn_about, turn_of
from bench.report import Bar
from bench.scenario import Options
from dhtmeta._fast import bencode

Codec = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]

PEER = "bencode2"  # the fastest on PyPI, which the bars name
DECODE_BAR = Bar("<=", 0.85)
ENCODE_BAR = Bar("<=", 0.60)
SCAN_BAR = Bar("<=", 0.25)  # of decoding the datagram
MSGPACK = "msgspec msgpack"
NOTES = {MSGPACK: "another format, for scale"}
FUNCTIONS = {"bencode.py": ("decode", "encode"), MSGPACK: ("decode", "encode")}
USUAL = ("bdecode", "bencode")


def codec(peer: str) -> Codec:
    module, (decode, encode) = import_module(MODULES[peer]), FUNCTIONS.get(peer, USUAL)
    return getattr(module, decode), getattr(module, encode)


def claimed(what: str, peer: str, bar: Bar) -> Claim:
    return Claim(what, peer, bar if peer == PEER else None, note=NOTES.get(peer, ""))


def rounds(options: Options) -> int:
    return 60 if options.quick else 300


def written(peer: str, value: Any, data: bytes) -> bytes:
    """Return the value as the peer writes it."""
    return codec(peer)[1](value) if peer == MSGPACK else data


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("peer", installed(CODECS))
def bench_decode(benchmark: Any, options: Options, peer: str, sample: str) -> None:
    data, decode = SAMPLES[sample], codec(peer)[0]
    value = bencode.decode(data)
    theirs = written(peer, value, data)
    assert decode(theirs) == value
    claim = claimed(f"bencode decode, {sample}", peer, DECODE_BAR)
    turns = turn_of(calling(bencode.decode, data)), turn_of(calling(decode, theirs))
    turn_about(benchmark, claim, *turns, rounds(options))


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("peer", installed(CODECS))
def bench_encode(benchmark: Any, options: Options, peer: str, sample: str) -> None:
    data, encode = SAMPLES[sample], codec(peer)[1]
    value = bencode.decode(data)
    assert bencode.encode(value) == data
    assert encode(value) == written(peer, value, data)
    claim = claimed(f"bencode encode, {sample}", peer, ENCODE_BAR)
    turns = turn_of(calling(bencode.encode, value)), turn_of(calling(encode, value))
    turn_about(benchmark, claim, *turns, rounds(options))


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("peer", ["dhtmeta", *installed([PEER])])
def bench_scan(benchmark: Any, options: Options, peer: str, sample: str) -> None:
    """No library scans: beside it stands decoding all to get at the fields."""
    data = SAMPLES[sample]
    spans = bencode.scan(KRPC_REPLY)
    assert spans.v is not None
    assert KRPC_REPLY[slice(*spans.v)] == NODE_RECORD
    assert spans.seq == 41
    decode = bencode.decode if peer == "dhtmeta" else codec(peer)[0]
    bar = SCAN_BAR if (peer, data) == ("dhtmeta", KRPC_REPLY) else None
    claim = Claim(f"bencode scan, {sample}", f"{peer} decode", bar)
    turns = turn_of(calling(bencode.scan, data)), turn_of(calling(decode, data))
    turn_about(benchmark, claim, *turns, rounds(options))
