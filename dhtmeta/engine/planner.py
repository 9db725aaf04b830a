"""When a record is due again: hourly what is signed anew, by the survival law what is kept.

Due times follow the target: within each sweep of an hour, records come in the order in which they
stand in the id space, so that neighbours share what a lookup learns, and the work is spread evenly.
"""

from collections.abc import Sequence
from random import Random

from dhtmeta.const import CLOSEST, FIRST_SPREAD, MAX_LOSS, REPUBLISH_INTERVAL, SWEEP
from dhtmeta.engine.survival import Mortality, Plan, plan


class Planner:
    """Plans with `interval` (s), `max_loss` (a chance), and what is learnt of how fast copies die.

    `random` draws the jitter, and where in the id space our sweeps begin: two installations that
    keep the same records do not look at them at the same moments.
    """

    def __init__(
        self,
        random: Random,
        *,
        interval: float = REPUBLISH_INTERVAL,
        max_loss: float = MAX_LOSS,
    ) -> None:
        self.mortality = Mortality()
        self.interval = interval
        self.max_loss = max_loss
        self._random = random
        self._phase = random.random()

    def top_up(self, ages: Sequence[float], lacking: int) -> Plan:
        """Plan for copies of these ages (s), and nodes that could take one more."""
        return plan(ages, lacking, self.mortality.law(), self.max_loss)

    def next_publish(self, now: float) -> float:
        """Return when to sign anew what was published now, a little before the interval is over."""
        return now + self.interval * (0.95 + 0.05 * self._random.random())

    def first_look(self, target: bytes, copies: int, now: float) -> float:
        """Return when to look at what was just stored on so many nodes; some much sooner.

        Else all that was stored in one hour would for ever be due in one hour.
        """
        seconds = self.top_up([0.0] * min(copies, CLOSEST), 0).seconds
        return self.next_look(target, seconds * (1 - FIRST_SPREAD * self._random.random()), now)

    def next_look(self, target: bytes, seconds: float, now: float) -> float:
        """Return the last moment of this target's place in the sweep within `seconds` from now."""
        if seconds < 4 * SWEEP:
            return now + seconds * (0.9 + 0.1 * self._random.random())
        place = int.from_bytes(target[:8], "big") / 2**64 + self._phase
        return now + seconds - (now + seconds - place * SWEEP) % SWEEP
