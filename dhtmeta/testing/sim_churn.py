"""How long simulated nodes live: which generation of a slot lives at a given time.

The survival law of FACTS.md is a Weibull one with a shape k < 1, which is a mixture of exponential
ones: where a node's rate is S / lambda with S positive and k-stable (E[exp(-sS)] = exp(-s^k)), the
share of nodes alive after t is E[exp(-tS / lambda)] = exp(-(t / lambda)^k). Each slot keeps its
rate, and a node that dies is replaced at once by one of the same rate. So at any time the nodes
alive are such a mixture again, and copies put on random ones die by the law, whenever they are put.
"""

import math

from dhtmeta.const import SHORTEST_LIFE, SURVIVAL_SCALE, SURVIVAL_SHAPE
from dhtmeta.testing.sim_ids import hashed, mix


class Lifetimes:
    """The generations of every slot, worked out when asked for. `now` is in seconds."""

    def __init__(self, seed: int, scale: float = 1.0) -> None:
        """Let nodes die `scale` times as fast as the law has it."""
        self._key = mix(seed ^ 0x11FE)
        self._scale = scale
        self._slots: dict[int, tuple[int, float, float]] = {}  # generation, its end, mean life

    def generation(self, i: int, now: float) -> int:
        """Return how many nodes of slot i have died by `now`, which never goes back."""
        slot = self._slots.get(i)
        if slot is None:
            life = self._mean_life(i)
            slot = (0, self._life(i, 0, life), life)
        elif slot[1] > now:
            return slot[0]
        generation, end, life = slot
        while end <= now:
            generation += 1
            end += self._life(i, generation, life)
        self._slots[i] = (generation, end, life)
        return generation

    def _life(self, i: int, generation: int, mean: float) -> float:
        return -mean * math.log(_uniform(hashed(self._key, i, generation)))

    def _mean_life(self, i: int) -> float:
        """Draw the slot's rate and return its inverse, at least a minute at scale 1.

        The stable law has no mean: without the bound a few slots would live microseconds. Copies
        there are lost within minutes either way.
        """
        angle = math.pi * _uniform(hashed(self._key ^ 0xA, i))
        weight = -math.log(_uniform(hashed(self._key ^ 0xB, i)))
        life = max(SURVIVAL_SCALE / _stable(SURVIVAL_SHAPE, angle, weight), SHORTEST_LIFE)
        return life / self._scale


def _uniform(bits: int) -> float:
    """Return a number in (0, 1) for 64 random bits."""
    return ((bits >> 11) + 0.5) * 2.0**-53


def _stable(k: float, angle: float, weight: float) -> float:
    """Return a positive k-stable number (Kanter 1975) of an angle in (0, pi) and an Exp(1)."""
    first = math.sin(k * angle) / math.pow(math.sin(angle), 1 / k)
    return first * math.pow(math.sin((1 - k) * angle) / weight, (1 - k) / k)
