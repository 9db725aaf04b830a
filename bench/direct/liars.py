"""Whether the valid newest item comes back while 8 of the 20 closest nodes lie."""

from collections.abc import Iterable, Sequence
from random import Random

from bench.direct.conditions import Size, ask, new_identity, random, signed
from bench.libtorrent_rules import DEAD, LOSS, NODES
from bench.report import Bar, Part, Row
from bench.scenario import counted
from bench.simulated import Client
from dhtmeta.const import CLOSEST, DIRECT_COPIES
from dhtmeta.testing.sim_liars import Lie
from dhtmeta.testing.simnet import SimNet
from dhtmeta.values.item import SignedItem

LIARS = 8  # of the DIRECT_COPIES closest
WORST = Lie.HUGE_SEQ  # of those that count as having answered


def run(part: Part, how_many: Size) -> None:
    """Try all kinds mixed, each kind alone, and, which has no bar, those that are nearest."""
    count, seed = how_many.trials, how_many.seed
    part.add(_row("of any kind", list(Lie), count, seed))
    part.add(*(_row(_name(one), [one], count, seed) for one in Lie))
    for what, kinds in {"of any kind": list(Lie), _name(WORST): [WORST]}.items():
        for closest in (CLOSEST, DIRECT_COPIES):
            part.add(_nearest(what, kinds, closest, count, seed))


def _nearest(what: str, kinds: Sequence[Lie], closest: int, count: int, seed: int) -> Row:
    """Let the nearest lie: those that a get of the CLOSEST closest waits for, and no others."""
    what = f"{what}, the {LIARS} nearest, lookup of the {closest} closest"
    trials = _trials(what, count)
    right = sum(trial(seed, number, kinds, closest, nearest=True) for number in trials)
    return Row(f"liars: {what}", right, f" of {count:,}")


def trial(
    seed: int, number: int, kinds: Sequence[Lie], closest: int = CLOSEST, *, nearest: bool = False
) -> bool:
    """Look an item up that the honest hold, and liars an older one; say whether it came back."""
    rng, liars = random(f"liars {number}", seed), dict[int, Lie]()
    net = SimNet(NODES, seed=seed + number, dead=DEAD, loss=LOSS, liars=liars)
    newest, nodes = _planted(net, rng)
    lying = nodes[:LIARS] if nearest else rng.sample(nodes, LIARS)
    liars.update({i: rng.choice(kinds) for i in lying})
    net.store(newest, [i for i in nodes if i not in liars])
    client = Client(net, number)
    client.remember(ask(net, newest.public_key, rng).start)
    return client.get(newest.public_key, closest=closest)[0].best == newest


def _planted(net: SimNet, rng: Random) -> tuple[SignedItem, list[int]]:
    """Store an older item; return the newest one, and the nodes closest to it."""
    identity = new_identity(rng)
    older, newest = signed(rng, identity, 1), signed(rng, identity, 2)
    nodes = net.closest(newest.target, DIRECT_COPIES)
    net.store(signed(rng, identity, 9, b"elsewhere"), nodes)  # for those who mix salts up
    net.store(older, nodes)
    return newest, nodes


def _row(what: str, kinds: Sequence[Lie], count: int, seed: int) -> Row:
    right = sum(trial(seed, number, kinds) for number in _trials(what, count))
    what = f"liars: {LIARS} of {DIRECT_COPIES}, {what}"
    return Row(what, right, f" of {count:,}", bar=Bar(">=", count))


def _trials(what: str, count: int) -> Iterable[int]:
    return counted(f"liars {what}", range(count), count)


def _name(kind: Lie) -> str:
    return kind.name.lower().replace("_", " ")
