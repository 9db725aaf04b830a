"""How long copies live, how fast they die here, and so when a kept record is looked at again.

The law is that of FACTS.md: a copy is alive after t seconds with probability
exp(-(speed * t / lambda)^k), speed 1. Those known to have lived for a while live longer (k < 1).
How fast they die here is learnt from every look; little known, much is feared.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dhtmeta.const import (
    FASTEST_DEATHS,
    FIRST_LOOK,
    LAST_LOOK,
    LOOK_DATAGRAMS,
    SLOWEST_DEATHS,
    SPEED_CAUTION,
    SPEED_MEMORY,
    SPEED_SPREAD,
    SPEED_STEPS,
    SURVIVAL_SCALE,
    SURVIVAL_SHAPE,
    TOP_UP_DATAGRAMS,
)

_TIMES = [FIRST_LOOK * (LAST_LOOK / FIRST_LOOK) ** (i / 40) for i in range(41)]  # s
_RISKS = [(time / SURVIVAL_SCALE) ** SURVIVAL_SHAPE for time in _TIMES]  # S(time) = exp(-risk)


@dataclass(frozen=True, slots=True)
class Plan:
    """Store `copies` more now, and look again in `seconds`."""

    copies: int
    seconds: float


def plan(ages: Sequence[float], lacking: int, risk: float, max_loss: float) -> Plan:
    """Return the cheapest plan, in datagrams a second, that risks at most `max_loss`.

    `ages` (s) are those of the copies that are there, `lacking` is how many nodes could take one
    more, `risk` is `DeathSpeed.risk()`. Where nothing is safe enough, all of them, and soon.
    """
    best, least = Plan(lacking, FIRST_LOOK), math.inf
    for i, seconds in enumerate(_TIMES):
        copies = _needed(i, ages, risk, max_loss)
        if copies > lacking:
            break  # ever more, the longer it is
        cost = (LOOK_DATAGRAMS + TOP_UP_DATAGRAMS * copies) / seconds
        if cost < least:
            best, least = Plan(copies, seconds), cost
    return best


def _needed(i: int, ages: Sequence[float], risk: float, max_loss: float) -> int:
    """Return how many new copies keep the chance that all are dead at _TIMES[i] within bounds."""
    lost = 1.0
    for age in ages:
        lost *= -math.expm1(-risk * _further(age, _TIMES[i]))
    if lost <= max_loss:
        return 0
    return math.ceil(math.log(max_loss / lost) / math.log(-math.expm1(-risk * _RISKS[i])))


def _further(age: float, seconds: float) -> float:
    """Return the risk at speed 1 that a copy of an age runs in so many seconds more."""
    before = (age / SURVIVAL_SCALE) ** SURVIVAL_SHAPE
    after: float = ((age + seconds) / SURVIVAL_SCALE) ** SURVIVAL_SHAPE
    return after - before


class DeathSpeed:
    """What is believed of the speed: a weight for each of SPEED_STEPS speeds.

    Before the first look a lognormal law around 1. What was learnt long ago fades.
    """

    def __init__(self) -> None:
        span = math.log(FASTEST_DEATHS / SLOWEST_DEATHS)
        self._speeds = [
            SLOWEST_DEATHS * math.exp(span * i / (SPEED_STEPS - 1)) for i in range(SPEED_STEPS)
        ]
        self._risks = [speed**SURVIVAL_SHAPE for speed in self._speeds]
        self._prior = [-0.5 * (math.log(speed) / SPEED_SPREAD) ** 2 for speed in self._speeds]
        self._learnt = [0.0] * SPEED_STEPS
        self._at: int | None = None  # the step that `speed` is at, None: to be worked out

    def learn(
        self, lived: Sequence[tuple[float, float]], died: Sequence[tuple[float, float]]
    ) -> None:
        """Take what one look saw: (age at the look before, seconds since then) of each copy."""
        fade = 1 - (len(lived) + len(died)) / SPEED_MEMORY
        survived = sum(_further(age, seconds) for age, seconds in lived)
        gone = [further for age, seconds in died if (further := _further(age, seconds)) > 0]
        for i, risk in enumerate(self._risks):
            lost = sum(math.log(-math.expm1(-risk * one)) for one in gone)
            self._learnt[i] = self._learnt[i] * fade - risk * survived + lost
        self._at = None

    def speed(self) -> float:
        """Return the speed that is not exceeded with a chance of SPEED_CAUTION."""
        return self._speeds[self._step()]

    def risk(self) -> float:
        """Return by how much that multiplies the risk of the law: speed^k."""
        return self._risks[self._step()]

    def _step(self) -> int:
        if self._at is None:
            self._at = self._quantile()
        return self._at

    def _quantile(self) -> int:
        believed = [a + b for a, b in zip(self._prior, self._learnt, strict=True)]
        most = max(believed)
        weights = [math.exp(one - most) for one in believed]
        left = SPEED_CAUTION * sum(weights)
        for i, weight in enumerate(weights):
            left -= weight
            if left <= 0:
                return i
        return SPEED_STEPS - 1
