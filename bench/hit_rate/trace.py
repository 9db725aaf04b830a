"""The workload: who is there, when whose record changes, and when somebody asks for it.

Each peer is looked at every 30 s, as networks of this kind do, at a time of its own; beside that an
application asks for peers, some of them far more often than others (Zipf). Records change by
Poisson processes, some often and most hardly ever, and state no lifetime. Everything follows from
the seed. Times are in seconds from the start; those before it are negative.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from random import Random

from msgspec import structs

from dhtmeta._fast import ed25519
from dhtmeta.const import SEED_BYTES
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NetworkInfo, NodeRecord

DAY, HOUR = 86_400.0, 3600.0  # s
TOPIC = "bench"
EPOCH = 1_800_000_000.0  # Unix s at which every trace starts


@dataclass(frozen=True, slots=True)
class Law:
    """Shares of the peers, and how often the records of each change: every so many seconds."""

    shares: tuple[tuple[float, float], ...] = ((0.80, DAY), (0.15, HOUR), (0.05, 300.0))
    signed_anew: float | None = None  # s after which a record is signed again, saying the same
    look_every: float = 30.0
    asked_per_second: float = 2.0  # by the application, of all peers together
    zipf: float = 1.0


@dataclass(frozen=True, slots=True)
class Version:
    """One signing: when, and the number of changes there were until then."""

    at: float
    content: int


@dataclass(slots=True)
class Peer:
    """A peer and all versions of its record; the first is from before the start."""

    identity: Identity
    info: NetworkInfo
    versions: list[Version]
    _signed: dict[int, SignedItem] = field(default_factory=dict)

    def version(self, at: float) -> int:
        """Return the number of the version that is on the DHT at this time."""
        return bisect_right(self.versions, at, key=lambda one: one.at) - 1

    def item(self, number: int) -> SignedItem:
        """Return the signed record; its seq is the number + 1."""
        if number not in self._signed:
            self._signed[number] = SignedItem.sign(self.identity, self.value(number), number + 1)
        return self._signed[number]

    def value(self, number: int) -> bytes:
        """Return what the record says, bencoded."""
        version = self.versions[number]
        record = NodeRecord(topic=TOPIC, network_info=self.info, apps_count=version.content)
        done = record.completed(self.identity.public_key, int(EPOCH + version.at))
        return encode_value(done.to_value())

    def outdated_for(self, seq: int, at: float) -> float:
        """Return for how long (s) what `seq` says has been out of date; 0 where it is not."""
        said = self.versions[seq - 1].content
        for version in self.versions[seq : self.version(at) + 1]:
            if version.content > said:
                return at - version.at
        return 0.0


class Trace:
    """`peers` peers for `seconds`, the first `warm_up` of which do not count."""

    def __init__(
        self, peers: int, seed: int, law: Law, seconds: float = HOUR, warm_up: float = 300.0
    ) -> None:
        self.law, self.seconds, self.warm_up = law, seconds, warm_up
        self.end = warm_up + seconds
        self._seed = seed
        rng = Random(f"{seed} peers")
        self.peers = [self._peer(rng, (i + 0.5) / peers) for i in range(peers)]
        rng.shuffle(self.peers)

    @cached_property
    def by_target(self) -> dict[bytes, Peer]:
        """The peers by where their records live."""
        return {ed25519.target(one.identity.public_key, b""): one for one in self.peers}

    def _peer(self, rng: Random, place: float) -> Peer:
        bounds = accumulate(share for share, _ in self.law.shares)
        every = next(
            every
            for bound, (_, every) in zip(bounds, self.law.shares, strict=True)
            if place < bound + 1e-9
        )
        changes = self._changes(rng, every)
        versions = [Version(at, number) for number, at in enumerate(changes)]
        if self.law.signed_anew is not None:
            versions = _with_renewals(versions, rng, self.law.signed_anew, self.end)
        return Peer(Identity(rng.randbytes(SEED_BYTES)), _info(rng), versions)

    def _changes(self, rng: Random, every: float) -> list[float]:
        """Return when a record changes, and once before the start."""
        found, at = [-rng.expovariate(1 / every)], rng.expovariate(1 / every)
        while at < self.end:
            found.append(at)
            at += rng.expovariate(1 / every)
        return found

    def changes(self) -> list[tuple[float, int, Peer]]:
        """Return when which version of whose record is stored, in order."""
        found = [
            (version.at, number, peer)
            for peer in self.peers
            for number, version in enumerate(peer.versions)
            if version.at > 0
        ]
        return sorted(found, key=lambda one: one[:2])

    def queries(self) -> Iterator[tuple[float, Peer]]:
        """Yield when whose record is asked for, in order."""
        rng = Random(f"{self._seed} queries")
        every = self.law.look_every
        looks = sorted((rng.uniform(0, every), i) for i in range(len(self.peers)))
        weights = list(
            accumulate(1 / rank**self.law.zipf for rank in range(1, len(self.peers) + 1))
        )
        start = 0.0
        while start < self.end:
            asked = rng.choices(
                range(len(self.peers)), cum_weights=weights, k=_poisson(rng, self.law)
            )
            mine = [(rng.uniform(0, every), i) for i in asked]
            for at, i in sorted([*looks, *mine]):
                if start + at < self.end:
                    yield start + at, self.peers[i]
            start += every


def _poisson(rng: Random, law: Law) -> int:
    """Return how many queries of the application fall into one round."""
    count, at = 0, rng.expovariate(law.asked_per_second)
    while at < law.look_every:
        count, at = count + 1, at + rng.expovariate(law.asked_per_second)
    return count


def _with_renewals(changes: list[Version], rng: Random, every: float, end: float) -> list[Version]:
    """Add signings of the same content, each `every` seconds since the last signing."""
    found, due = [], -rng.uniform(0, every)  # the last one before the start
    for version, until in zip(changes, [*(one.at for one in changes[1:]), end], strict=True):
        found.append(version)
        due = max(due, version.at) if version.at > 0 else due
        while due < until:
            if due > version.at:
                found.append(Version(due, version.content))
            due += every
    return found


def _info(rng: Random) -> NetworkInfo:
    """Return what a peer says of itself: 60 % public, 30 % behind NAT and relay, 10 % NAT."""
    ip, kind = f"198.51.{rng.randrange(256)}.{rng.randrange(256)}", rng.random()
    if kind < 0.6:
        where = f"{ip}:30906"
        return NetworkInfo(
            node_type="public",
            public_ip=ip,
            public_port=30906,
            is_relay=True,
            relay_endpoint=where,
            relay_capacity=64,
        )
    behind = NetworkInfo(
        node_type="private",
        public_ip=ip,
        public_port=30906,
        private_ip=f"192.168.1.{rng.randrange(256)}",
        private_port=30906,
        nat_type="cone",
    )
    if kind >= 0.9:
        return behind
    return structs.replace(
        behind,
        using_relay=True,
        connected_relay=rng.randbytes(20).hex(),
        relay_session_id=rng.randbytes(16).hex(),
        relay_address=f"203.0.113.{rng.randrange(256)}:30906",
    )
