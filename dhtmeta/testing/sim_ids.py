"""Who is where in a simulated DHT: node ids and endpoints as arithmetic over the node's index.

Node i's id is floor((i + h(i)) * 2^160 / nodes) with a hash h in [0, 1), so that ids are sorted by
index and no table of them is needed. Ids are ints in here, 20 bytes everywhere else.
"""

import socket
from collections.abc import Callable

from dhtmeta.const import SIM_NODES
from dhtmeta.errors import CallerError
from dhtmeta.krpc.compact import Endpoint

ID_BITS = 160
_WORD = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15  # splitmix64's step: 2^64 over the golden ratio
_NEXT = 0xD1B54A32D192ED03  # another odd step: one node's generations do not meet another's nodes
_OCTETS = 2**24 - 1
_SCATTER = 0x9E3779  # odd, so it permutes 24 bits: neighbours in id do not share a /24
_GATHER = pow(_SCATTER, -1, 2**24)
_NET = "11."  # a /8 of global addresses: ours are the lower 24 bits
_FIRST_PORT, _PORTS = 1024, 60_000


def mix(x: int) -> int:
    """Return 64 well-mixed bits of any int: the output function of splitmix64."""
    x &= _WORD
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _WORD
    return x ^ (x >> 31)


def hashed(key: int, i: int, generation: int = 0) -> int:
    """Return 64 bits that depend on the key, the index and the generation."""
    return mix(key + i * _GOLDEN + generation * _NEXT)


class IdSpace:
    """The ids and endpoints of `nodes` nodes. `generation(i)` counts who lived in slot i before."""

    def __init__(self, nodes: int, seed: int, generation: Callable[[int], int] | None) -> None:
        """Take 1 … 2^24 nodes; None for a network in which nobody is ever replaced."""
        if not 1 <= nodes <= SIM_NODES:
            raise CallerError(f"a simulated network has 1 … {SIM_NODES:,} nodes, not {nodes:,}")
        self.nodes = nodes
        self._key = mix(seed ^ 0x1D5)
        self._generation = generation

    def generation(self, i: int) -> int:
        """Return how many lived in slot i before the node that lives there now."""
        return 0 if self._generation is None else self._generation(i)

    def number(self, i: int, generation: int | None = None) -> int:
        """Return the id of node i as an int; that of the node there now unless said otherwise."""
        if generation is None:
            generation = 0 if self._generation is None else self._generation(i)
        fraction = mix(self._key + i * _GOLDEN + generation * _NEXT)
        return ((i << 64 | fraction) << 96) // self.nodes

    def slot(self, number: int) -> int:
        """Return the index whose id this can be: the inverse of `number`."""
        return (number * self.nodes + self.nodes - 1) >> ID_BITS

    def first(self, bound: int) -> int:
        """Return the lowest index whose id is not below `bound`; `nodes` if there is none."""
        i = bound * self.nodes >> ID_BITS
        return i if i >= self.nodes or self.number(i) >= bound else i + 1

    def within(self, number: int, bits: int) -> range:
        """Return the indices of the nodes that share the first `bits` bits with an id."""
        shift = ID_BITS - bits
        start = number >> shift << shift
        return range(self.first(start), self.first(start + (1 << shift)))

    def endpoint(self, i: int, generation: int | None = None) -> Endpoint:
        """Return where node i listens; each generation of a slot has a port of its own."""
        if generation is None:
            generation = self.generation(i)
        octets = (i * _SCATTER & _OCTETS).to_bytes(3, "big")
        return f"{_NET}{octets[0]}.{octets[1]}.{octets[2]}", _port(i, generation)

    def at(self, endpoint: Endpoint) -> int | None:
        """Return the index of the node that listens there now, None if nobody does."""
        host, port = endpoint
        if not host.startswith(_NET):
            return None
        i = int.from_bytes(socket.inet_aton(host)[1:], "big") * _GATHER & _OCTETS
        return i if i < self.nodes and port == _port(i, self.generation(i)) else None

    def nearest(self, target: int, count: int, live: Callable[[int], bool]) -> list[int]:
        """Return the indices of the `count` live nodes closest to an id, nearest first.

        Whoever shares more bits with the target is closer, so the smallest subtree around it that
        has enough of them has them all.
        """
        bits = max(0, (self.nodes // max(1, count)).bit_length() - 1)
        found = [i for i in self.within(target, bits) if live(i)]
        while len(found) < count and bits:
            bits -= 1
            found = [i for i in self.within(target, bits) if live(i)]
        return sorted(found, key=lambda i: self.number(i) ^ target)[:count]


def _port(i: int, generation: int) -> int:
    return _FIRST_PORT + (i * 40_503 + generation) % _PORTS
