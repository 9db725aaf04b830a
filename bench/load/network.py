"""The swarm that clients look into: two processes, of which one may be killed; what gets lost."""

import contextlib
import sys
from random import Random
from types import TracebackType
from typing import Self

from bench.load.told import Told
from dhtmeta.const import SEED_BYTES
from dhtmeta.testing.netns import Host
from dhtmeta.values.keys import Identity

LIVING, DOOMED = 22, 2  # nodes; of all of them 1 in 12 can be killed
START_WITHIN, STORE_WITHIN = 60.0, 300.0  # s

_LOSS = """
table ip loss {{
    chain heard {{
        type filter hook input priority raw
        meta l4proto udp numgen random mod 100 < {percent} drop
    }}
}}
"""


class Network:
    """`with Network(1000) as network:` runs a swarm that holds items under so many keys.

    It is in the network namespace `host`, if one is given; else on this machine's loopback.
    """

    def __init__(
        self, keys: int, seed: int, host: Host | None = None, living: int = LIVING
    ) -> None:
        rng = Random(str(seed))
        self._seeds = [rng.randbytes(SEED_BYTES) for _ in range(keys)]
        self.keys = [Identity(one).public_key for one in self._seeds]
        self.host = host
        self._living, self._doomed = (self._nodes(count) for count in (living, DOOMED))
        self._until_closed = contextlib.ExitStack()

    def _nodes(self, count: int) -> Told:
        return Told([sys.executable, "-m", "bench.load.nodes", str(count)], self.host)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            groups = [stack.enter_context(one) for one in (self._doomed, self._living)]
            self.addresses = [one for group in groups for one in group.hear(START_WITHIN)]
            for one in groups:
                one.say(self.addresses)
            for one in groups:
                one.hear(START_WITHIN)
            self._living.say([one.hex() for one in self._seeds])
            self._living.hear(STORE_WITHIN)
            self._until_closed = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._until_closed.close()

    def kill(self) -> None:
        """Kill the process of 1 node in 12: the others still name them."""
        self._doomed.kill()

    def lose(self, percent: int) -> None:
        """Drop so many of a hundred datagrams from now on, whoever sends them."""
        assert self.host is not None
        self.host.run(["nft", "-f", "-"], _LOSS.format(percent=percent))
