"""Who held a kept record at the last look, and since when: 8 bytes each in the ledger.

Bytes 4 … 7 of a node id (neighbours share those before), then Unix seconds, big-endian.
"""

import struct
from collections.abc import Mapping, Sequence

from dhtmeta.const import CLOSEST

_HOLDER = struct.Struct(">4sI")


def holder(node_id: bytes) -> bytes:
    """Return what stands for a node here: 4 bytes."""
    return node_id[4:8]


def pack_holders(since: Mapping[bytes, float]) -> bytes:
    """Return the column for holders (4 bytes each) and since when they are (Unix s)."""
    return b"".join(_HOLDER.pack(one, _seconds(then)) for one, then in since.items())


def _seconds(then: float) -> int:
    """Return what fits into 4 bytes, whatever the clock says."""
    return min(max(0, int(then)), 2**32 - 1)


def unpack_holders(packed: bytes | None) -> dict[bytes, float]:
    """Return holder -> since when (Unix s); nothing where that was never noted, or is damaged."""
    if not packed or len(packed) % _HOLDER.size:
        return {}
    return {one: float(then) for one, then in _HOLDER.iter_unpack(packed)}


def packed_anew(node_ids: Sequence[bytes], now: float) -> bytes:
    """Return the column for nodes that took it just now, closest first: those a look will ask."""
    return pack_holders({holder(one): now for one in node_ids[:CLOSEST]})
