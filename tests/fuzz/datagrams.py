"""The codec's promise, for any bytes: a complete message that survives a round trip, or one error.

The bytes go through the plain twin of the scanner first: it refuses what the compiled one refuses,
and shows the fuzzer, which cannot look into compiled code, how far they came.
"""

from collections.abc import Callable
from typing import Any

from dhtmeta._fast import bencode
from dhtmeta.const import MAX_DATAGRAM_BYTES, MAX_KRPC_DEPTH
from dhtmeta.errors import MalformedMessage
from dhtmeta.krpc.codec import decode, encode
from tests.krpc.datagrams import WRITTEN
from tests.reference import bencode as twin

SEEDS = [data for data, _ in WRITTEN.values()]
MAX_BYTES = 1200


def check(data: bytes) -> None:
    """Decode `data`; AssertionError, or whatever comes, where the promise is broken."""
    refused = _refusal(twin.scan, data)
    assert refused == _refusal(bencode.scan, data)
    try:
        message = decode(data)
    except MalformedMessage:
        return
    assert refused is None
    again = encode(message)
    if len(again) <= MAX_DATAGRAM_BYTES:  # an error text grows where it is no UTF-8
        assert decode(again) == message


def _refusal(scan: Callable[..., Any], data: bytes) -> str | None:
    try:
        scan(data, max_depth=MAX_KRPC_DEPTH)
    except ValueError as error:
        return str(error)
    return None
