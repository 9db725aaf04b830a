"""What holds where others fail: all routers and registries dead, and liars in the exchange."""

import random
import time

import uvloop

from bench.convergence.fleet import Fleet
from bench.convergence.liar import Measured, lied_to
from bench.report import Bar, Part, Row
from bench.scenario import Options

PATIENCE = 120.0  # s
WITHIN = Bar("<=", 60.0)
FAKES = 10_000


def survivors(options: Options) -> Part:
    """Stop a fleet, take its routers away, and start it again: only the stores know anybody."""
    size = 10 if options.quick else 20
    what = f"{size} daemons, every router and registry dead: all lists right, from the stores"
    with Fleet(size, options.seed) as fleet:
        fleet.start()
        if not fleet.wait(lambda: fleet.ready() and not fleet.wrong(), PATIENCE):
            return Part([_never(what, "not even with routers")])
        time.sleep(2.0)  # what is written behind is written
        fleet.stop()
        for member in fleet.members:
            settings = member.settings
            settings.dht.bootstrap_nodes = ["81.250.250.250:6881"]
            settings.peer_discovery.contacts = []
            settings.registry.urls = ["http://81.250.250.251:30681"]
        fleet.forget()
        fleet.start()
        right = fleet.wait(lambda: fleet.listing() and not fleet.wrong(), PATIENCE)
        took = fleet.last_change() - fleet.started
    return Part([Row(what, took, " s", bar=WITHIN) if right else _never(what, "")])


def _never(what: str, note: str) -> Row:
    return Row(what, PATIENCE, " s or more", bar=WITHIN, note=note)


def liars(options: Options) -> Part:
    """Have a liar tell of 10,000 peers that are not there, and show what is forged."""
    measured: Measured = uvloop.run(
        lied_to(FAKES // 10 if options.quick else FAKES, random.Random(options.seed))
    )
    return Part(
        [
            Row("fake peers told of by a liar", measured.told),
            Row("of them known, or listed as connectable", measured.listed, bar=Bar("<=", 0)),
            Row("memory gained meanwhile", measured.megabytes, " MB", bar=Bar("<=", 10.0)),
            Row("lookups they cost", measured.lookups, bar=Bar("<=", 60)),
        ]
    )
