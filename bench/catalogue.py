"""Which benches there are, by name."""

from bench.convergence.bench import BENCH as CONVERGENCE
from bench.direct.bench import BENCH as LOOKUPS
from bench.hit_rate.bench import BENCH as HIT_RATE
from bench.keeping.benches import BULK, DAEMON, SURVIVAL
from bench.load.bench import BENCH as LOAD
from bench.micro.bench import BENCH as MICRO
from bench.scenario import Bench

ALL = (HIT_RATE, MICRO, LOAD, LOOKUPS, SURVIVAL, BULK, CONVERGENCE, DAEMON)
BENCHES: dict[str, Bench] = {bench.name: bench for bench in ALL}
