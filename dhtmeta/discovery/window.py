"""How much a peer may have under way to us: a window that slides along with what we have read.

aioquic doubles its limits with what came in, read or not: who leaves a gap at the begin of a stream
could have us keep as much as it likes, before it has proven anything. It has no setting for that,
nor for how many streams there may be; the version is pinned.
"""

from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream


def bound(quic: QuicConnection, window: int, streams: int) -> None:
    """Let the peer open so many streams, and be at most `window` bytes ahead of what was read."""
    write_data_limit, write_stream_limit = quic._write_connection_limits, quic._write_stream_limits
    quic._local_max_streams_bidi.value = quic._local_max_streams_bidi.sent = streams
    quic._local_max_streams_uni.value = quic._local_max_streams_uni.sent = 0

    def of_connection(builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limit = quic._local_max_data
        read = sum(one.receiver.starting_offset() for one in quic._streams.values())
        limit.value = _next(limit.value, read, window)
        used, limit.used = limit.used, 0  # it would be doubled
        try:
            write_data_limit(builder, space)
        finally:
            limit.used = used

    def of_stream(builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        receiver = stream.receiver
        read = receiver.starting_offset()
        stream.max_stream_data_local = _next(stream.max_stream_data_local, read, window)
        highest, receiver.highest_offset = receiver.highest_offset, 0  # it would be doubled
        try:
            write_stream_limit(builder, space, stream)
        finally:
            receiver.highest_offset = highest

    quic._write_connection_limits = of_connection  # type: ignore[method-assign]
    quic._write_stream_limits = of_stream  # type: ignore[method-assign]


def _next(limit: int, read: int, window: int) -> int:
    """Return the limit from now on: it moves once half of the window was read."""
    return max(limit, read + window) if limit - read <= window // 2 else limit
