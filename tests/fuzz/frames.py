"""The promise of the exchange's codec, for any bytes that come in on a stream, cut anywhere.

The first byte says how the rest is cut. Cut in another way it means the same, what is held never
exceeds one message and one read, and each message survives a round trip. The plain twin of the
decoder reads it, too: it refuses what the compiled one refuses, and shows the fuzzer, which cannot
look into compiled code, how far a message came.
"""

from collections.abc import Callable
from typing import Any

from dhtmeta._fast import bencode
from dhtmeta.const import EXCHANGE_DEPTH, EXCHANGE_MESSAGE_BYTES
from dhtmeta.errors import MalformedMessage
from dhtmeta.krpc.exchange import Frames, Message, decode, encode
from tests.krpc.exchange_written import WRITTEN
from tests.reference import bencode as twin

_STREAM = b"".join(map(encode, WRITTEN))
SEEDS = [bytes([cut]) + encode(one) for cut, one in enumerate(WRITTEN)] + [b"\x07" + _STREAM]
MAX_BYTES = 8192


def check(data: bytes) -> None:
    """Read `data` as a stream; AssertionError, or whatever comes, where the promise is broken."""
    cut, stream = data[:1], data[1:]
    assert _refusal(twin.decode, stream[4:]) == _refusal(bencode.decode, stream[4:])
    whole, wrong = read(stream, len(stream) or 1)
    pieces, also_wrong = read(stream, 1 + sum(cut))
    assert (pieces, also_wrong) == (whole, wrong)
    for message in whole:
        body = encode(message)[4:]
        assert decode(body) == message
        assert bencode.encode(bencode.decode(body, max_depth=EXCHANGE_DEPTH)) == body


def read(stream: bytes, size: int) -> tuple[list[Message], str | None]:
    """Return the messages in a stream that comes `size` bytes at a time, and what is wrong."""
    frames, messages = Frames(), list[Message]()
    for start in range(0, len(stream), size):
        try:
            for message in frames.feed(stream[start : start + size]):
                messages.append(message)
        except MalformedMessage as error:
            return messages, str(error)
        assert len(frames._buffer) < 4 + EXCHANGE_MESSAGE_BYTES
    return messages, None


def _refusal(read_body: Callable[..., Any], body: bytes) -> str | None:
    try:
        read_body(body, max_depth=EXCHANGE_DEPTH)
    except ValueError as error:
        return str(error)
    return None
