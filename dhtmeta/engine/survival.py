"""How long copies live, how fast they die here, and so when a kept record is looked at again.

The law is that of FACTS.md: a copy is alive after t seconds with probability
exp(-(speed * t / lambda)^shape), at speed 1 and shape 0.648. Those known to have lived for a while
live longer, the more so the smaller the shape. Both are learnt from every look; while little is
known, much is feared.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from dhtmeta.const import (
    FASTEST_DEATHS,
    FIRST_LOOK,
    LAST_LOOK,
    LOOK_DATAGRAMS,
    LOOK_SEES,
    PLAN_SHARE,
    SHAPE_SPREAD,
    SLOWEST_DEATHS,
    SPEED_CAUTION,
    SPEED_MEMORY,
    SPEED_SPREAD,
    SPEED_STEPS,
    SURVIVAL_SCALE,
    SURVIVAL_SHAPE,
    SURVIVAL_SHAPES,
    TOP_UP_DATAGRAMS,
)

_TIMES = [FIRST_LOOK * (LAST_LOOK / FIRST_LOOK) ** (i / 30) for i in range(31)]  # s
_SPAN = math.log(FASTEST_DEATHS / SLOWEST_DEATHS) / (SPEED_STEPS - 1)
_SPEEDS = [SLOWEST_DEATHS * math.exp(_SPAN * i) for i in range(SPEED_STEPS)]


@dataclass(frozen=True, slots=True)
class Law:
    """How copies die: `speed` times as fast as FACTS.md has it, and with which Weibull shape."""

    speed: float = 1.0
    shape: float = SURVIVAL_SHAPE

    def risk(self, age: float, seconds: float) -> float:
        """Return the hazard that a copy of an age (s) runs in so many seconds more.

        It is alive then with probability exp(-risk). What is negative counts as 0.
        """
        scale, shape = self.speed / SURVIVAL_SCALE, self.shape
        seconds = max(seconds, 0.0)
        if age <= 0:
            return float((seconds * scale) ** shape)
        return float(((age + seconds) * scale) ** shape - (age * scale) ** shape)


@dataclass(frozen=True, slots=True)
class Plan:
    """Store `copies` more now, and look again in `seconds`."""

    copies: int
    seconds: float


def plan(ages: Sequence[float], lacking: int, law: Law, max_loss: float) -> Plan:
    """Return the cheapest plan, in datagrams a second, that risks at most `max_loss`.

    That is the chance that no copy is left, on average until the next look; PLAN_SHARE of it is
    planned with. `ages` (s) are those of the copies that are there, `lacking` is how many nodes
    could take one more. Where nothing is safe enough, all of them, and soon.
    """
    best, least = Plan(lacking, FIRST_LOOK), math.inf
    for seconds in _TIMES:
        copies = _needed(seconds, ages, lacking, law, PLAN_SHARE * max_loss)
        if copies > lacking:
            break  # ever more, the longer it is
        cost = (LOOK_DATAGRAMS + TOP_UP_DATAGRAMS * copies) / seconds
        if cost < least:
            best, least = Plan(copies, seconds), cost
    return best


def _needed(seconds: float, ages: Sequence[float], lacking: int, law: Law, max_loss: float) -> int:
    """Return how many new copies keep the chance within bounds; `lacking` + 1 if none do.

    Its mean over the time is that of Simpson's rule: at first none is dead.
    """
    half, end = lost(ages, seconds / 2, law), lost(ages, seconds, law)
    one_half, one_end = lost([0.0], seconds / 2, law), lost([0.0], seconds, law)
    copies = 0
    while (4 * half + end) / 6 > max_loss and copies <= lacking:
        half, end, copies = half * one_half, end * one_end, copies + 1
    return copies


def lost(ages: Sequence[float], seconds: float, law: Law) -> float:
    """Return the chance that all copies of these ages (s) are dead in so many seconds."""
    chance = 1.0
    for age in ages:
        chance *= -math.expm1(-law.risk(age, seconds))
    return chance


class Mortality:
    """What is believed of the law: a weight for each of SPEED_STEPS speeds and each shape.

    Before the first look that is a lognormal law around speed 1, and the shape of FACTS.md. What
    was learnt long ago fades.
    """

    def __init__(self) -> None:
        self._learnt = [[0.0] * SPEED_STEPS for _ in SURVIVAL_SHAPES]
        self._law: Law | None = None  # None: to be worked out

    def learn(
        self, lived: Sequence[tuple[float, float]], died: Sequence[tuple[float, float]]
    ) -> None:
        """Take what one look saw: (age at the look before, seconds since then) of each copy.

        One that was not seen may be there all the same: a look sees LOOK_SEES of them.
        """
        fade = 1 - (len(lived) + len(died)) / SPEED_MEMORY
        for shape, learnt in zip(SURVIVAL_SHAPES, self._learnt, strict=True):
            law = Law(1.0, shape)
            survived = sum(law.risk(*fate) for fate in lived)
            gone = [law.risk(*fate) for fate in died]
            for i, speed in enumerate(_SPEEDS):
                times = speed**shape
                unseen = sum(math.log1p(-LOOK_SEES * math.exp(-times * one)) for one in gone)
                learnt[i] = learnt[i] * fade - times * survived + unseen
        self._law = None

    def law(self) -> Law:
        """Return the likeliest shape, and the speed that, with it, SPEED_CAUTION are not above."""
        if self._law is None:
            self._law = self._likeliest()
        return self._law

    def _likeliest(self) -> Law:
        believed = [self._believed(i) for i in range(len(SURVIVAL_SHAPES))]
        most = max(map(max, believed))
        weights = [[math.exp(one - most) for one in speeds] for speeds in believed]
        shape, speeds = max(enumerate(weights), key=lambda one: sum(one[1]))
        step = bisect_left(list(accumulate(speeds)), SPEED_CAUTION * sum(speeds))
        return Law(_SPEEDS[min(step, SPEED_STEPS - 1)], SURVIVAL_SHAPES[shape])

    def _believed(self, i: int) -> list[float]:
        """Return the logarithm of how much each speed is believed in, with the i-th shape."""
        off = (SURVIVAL_SHAPES[i] - SURVIVAL_SHAPE) / SHAPE_SPREAD
        return [
            learnt - 0.5 * (off**2 + (math.log(speed) / SPEED_SPREAD) ** 2)
            for learnt, speed in zip(self._learnt[i], _SPEEDS, strict=True)
        ]
