"""What direct lookups are measured under: the network, how many of each, which keys from where."""

import heapq
from dataclasses import dataclass
from hashlib import sha1
from random import Random
from typing import NamedTuple

from bench.libtorrent_rules import DEAD, LOSS, NODES, SEED
from dhtmeta._fast import ed25519
from dhtmeta.const import NODE_ID_BYTES, PUBLIC_KEY_BYTES, SEED_BYTES
from dhtmeta.krpc.compact import Contact
from dhtmeta.testing.simnet import SimNet
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

LOSSES = (LOSS, 0.0, 0.20)  # the one that bars are for comes first
VALUE_BYTES = 600  # about a NodeRecord


@dataclass(frozen=True, slots=True)
class Size:
    """How many of everything, drawn by which seed; `on_swarm` are those on a real swarm."""

    lookups: int = 5000
    puts: int = 2000
    bulk: int = 3000
    trials: int = 1000  # with liars, and with conflicts
    rounds: int = 9
    on_swarm: int = 20
    seed: int = SEED


QUICK = Size(lookups=300, puts=100, bulk=300, trials=50, rounds=3, on_swarm=5)


class Question(NamedTuple):
    """A key, where its item lives, and whom a lookup that starts cold knows."""

    public_key: bytes
    target: bytes
    start: list[Contact]


def network(loss: float = LOSS, seed: int = SEED) -> SimNet:
    """Return the network: the same nodes, dead ones and tables each time."""
    return SimNet(NODES, seed=seed, dead=DEAD, loss=loss)


def ask(net: SimNet, public_key: bytes, rng: Random) -> Question:
    """Return the question for a key, started from what a random live node knows."""
    target = ed25519.target(public_key)
    return Question(public_key, target, net.contacts_of(net.random_live(rng), target))


def questions(count: int, seed: int = SEED) -> list[Question]:
    """Return questions for random keys, the same each time."""
    rng, net = random(seed), network(seed=seed)
    return [ask(net, rng.randbytes(PUBLIC_KEY_BYTES), rng) for _ in range(count)]


def neighbours(count: int, of: int, seed: int = SEED) -> list[bytes]:
    """Return `count` of so many random keys: those that follow each other in target order."""
    rng = random(seed)
    start = rng.getrandbits(8 * NODE_ID_BYTES)

    def after_start(key: bytes) -> int:
        return (int.from_bytes(sha1(key).digest(), "big") - start) % (1 << 8 * NODE_ID_BYTES)

    return heapq.nsmallest(count, (rng.randbytes(PUBLIC_KEY_BYTES) for _ in range(of)), after_start)


def signed(rng: Random, identity: Identity, seq: int, salt: bytes = b"") -> SignedItem:
    """Return an item with a random value."""
    return SignedItem.sign(identity, encode_value(rng.randbytes(VALUE_BYTES)), seq, salt)


def new_identity(rng: Random) -> Identity:
    """Return an identity, the same each time."""
    return Identity(rng.randbytes(SEED_BYTES))


def random(what: object, seed: int = SEED) -> Random:
    """Return randomness that repeats; the usual seed is not part of it, so that old runs do."""
    return Random(str(what) if seed == SEED else f"{seed} {what}")
