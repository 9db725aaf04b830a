"""Whether a put hears of a newer item that few of the closest nodes hold."""

from random import Random

from bench.direct.conditions import Size, ask, network, new_identity, random, signed
from bench.report import Bar, Part, Row
from bench.scenario import counted
from bench.simulated import Client
from dhtmeta.const import DIRECT_COPIES
from dhtmeta.testing.simnet import SimNet

HOLDERS = 4  # of the DIRECT_COPIES closest live nodes hold the newer item


def run(part: Part, how_many: Size) -> None:
    """Try with an item that was there before the lookup, and with one that came after it."""
    count = how_many.trials
    for what, late in (("there before", False), ("stored between lookup and put", True)):
        seed = how_many.seed
        net, rng = network(seed=seed), random(f"conflicts {late}", seed)
        trials = counted(f"conflicts: {what}", range(count), count)
        reported = sum(trial(net, rng, number, late=late) for number in trials)
        what = f"conflicts: newer seq on {HOLDERS} of {DIRECT_COPIES}, {what}"
        part.add(Row(what, reported, f" of {count:,}", bar=Bar(">=", count)))


def trial(net: SimNet, rng: Random, number: int, *, late: bool) -> bool:
    """Put an older item as the carrier does; returns whether the newer one was noticed.

    The carrier asks what to store once the lookup is over, and gets a Conflict if that found
    something newer; after the put `other` is what it raises a Conflict for.
    """
    identity = new_identity(rng)
    older, newer = signed(rng, identity, 1), signed(rng, identity, 2)
    holders = rng.sample(net.closest(newer.target, DIRECT_COPIES), HOLDERS)
    client = Client(net, number)
    client.remember(ask(net, identity.public_key, rng).start)
    if not late:
        net.store(newer, holders)
    search, _ = client.get(identity.public_key, closest=DIRECT_COPIES)
    if search.best is not None:
        return search.best == newer
    if late:
        net.store(newer, holders)
    put = client.core.store(search, older, copies=DIRECT_COPIES, cas=None)
    client.finish(put)
    return put.other == newer
