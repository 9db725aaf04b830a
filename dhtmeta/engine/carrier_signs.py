"""How a put goes where the carrier signs and chooses the seq: network + 1 (libtorrent's binding).

Going on where the ledger is above the network would lower the seq: so look first, and refuse.
"""

import asyncio
import logging

from dhtmeta.dht.carrier import Carrier, PutOutcome
from dhtmeta.errors import Conflict, DeadlineExceeded
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity

log = logging.getLogger(__name__)


async def put_above(
    carrier: Carrier,
    published: SignedItem | None,
    identity: Identity,
    v: bytes,
    salt: bytes,
    end: float,
) -> PutOutcome:
    """Have the carrier store `v` above `published`, the ledger's newest, until loop time `end`.

    Raises Conflict where the network is below that, and what `Carrier.put` does.
    """
    if published is not None:
        await _refuse_to_fall(carrier, published, _left(end))
    outcome = await carrier.put(identity, v, salt, _left(end))
    if published is not None and outcome.item.seq <= published.seq:
        raise Conflict(
            f"the last copies went away in between: libtorrent stored seq {outcome.item.seq}, "
            f"below seq {published.seq} of the ledger, so that readers will refuse it",
            published.seq,
            outcome.item.seq,
            outcome,
        )
    return outcome


async def _refuse_to_fall(carrier: Carrier, published: SignedItem, deadline: float) -> None:
    """Raise Conflict if the network is below what we published before."""
    on_network = await _network_seq(carrier, published, deadline)
    if on_network is None or on_network < published.seq:
        seen = "nothing" if on_network is None else f"seq {on_network}"
        raise Conflict(
            f"the ledger says seq {published.seq} was published, the network holds {seen}: "
            f"libtorrent would restart below it and readers would refuse that. If this is "
            f"another network, use another --store; else try again when copies are found, or use "
            f"--carrier direct, which goes on from the ledger",
            published.seq,
            on_network,
        )
    if on_network > published.seq:
        log.warning(
            "seq %d on the network is above the ledger's %d: someone else publishes with this "
            "key, or the store is an old copy",
            on_network,
            published.seq,
        )


async def _network_seq(carrier: Carrier, published: SignedItem, deadline: float) -> int | None:
    """Return the highest seq found, or at once one that is not below `published`."""
    key, salt, enough = published.public_key, published.salt, published.seq
    outcome = await carrier.get(key, salt, lambda item: None, deadline, enough=enough)
    seq = None if outcome.item is None else outcome.item.seq
    if not outcome.converged and (seq is None or seq < enough):
        raise DeadlineExceeded(f"the look before the put took more than {deadline:g} s")
    return seq


def _left(end: float) -> float:
    return max(0.0, end - asyncio.get_running_loop().time())
