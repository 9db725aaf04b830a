"""What is measured of fleets: how soon all lists are right, and again after a relay died."""

import asyncio
import time
from collections import Counter

from bench.convergence.crowd import Crowd
from bench.convergence.fleet import TOPIC, Fleet
from bench.convergence.visitor import Visit, visited
from bench.report import Bar, Part, Row
from bench.scenario import PROGRESS, Options
from dhtmeta.const import SESSION_LIFETIME

PATIENCE = 180.0  # s until a fleet counts as never converged
HOLD = 5.0  # s for which nothing may change any more
NOBODY = Bar("<=", 0)
OR_MORE = " s or more"  # the unit of what did not come to an end: a bar for it is not met
RELAYED = "relay killed: peers that were attached to it"
SLOWEST_HANDOVER = 2 * SESSION_LIFETIME + 30.0  # s watched after a relay was killed


def fifty(options: Options) -> Part:
    """50 daemons that know one contact each; then a relay is killed."""
    size = 10 if options.quick else 50
    with Fleet(size, options.seed) as fleet:
        rows, series = _converge(fleet, f"{size} daemons", Bar("<=", 15.0))
        rows += _reachable(fleet)
        rows += _kill_relay(fleet)
    return Part(rows, series)


def by_dht(options: Options) -> Part:
    """Let the contact be known to the DHT alone: peers are found by their topic."""
    size = 10 if options.quick else 50
    with Fleet(size, options.seed, by_hand=False) as fleet:
        rows, series = _converge(fleet, f"{size} daemons, by the DHT's topic alone", None)
    return Part(rows, series)


def two_hundred(options: Options) -> Part:
    """200 nodes in four processes, on loopback."""
    size = 20 if options.quick else 200
    with Crowd(size, options.seed) as crowd:
        rows, series = _converge(crowd, f"{size} nodes", Bar("<=", 60.0))
    return Part(rows, series)


def _converge(fleet: Fleet, name: str, bar: Bar | None) -> tuple[list[Row], dict[str, list[float]]]:
    fleet.start()
    if not fleet.wait(fleet.ready, PATIENCE):
        return [_short(fleet, name, bar)], {"right": _curve(fleet)}
    PROGRESS.print(f"{name}: ready after {fleet.last_ready() - fleet.started:.1f} s")
    settled = _settled(fleet)
    if settled is None:
        return [_short(fleet, name, bar)], {"right": _curve(fleet)}
    until, cpu = settled
    records = sum(len(one.listed) for one in fleet.told.values())
    rows = [
        Row(
            f"{name}: all lists right, after the last was ready",
            max(0.0, until - fleet.last_ready()),
            " s",
            bar=bar,
        ),
        Row(f"{name}: the same, after the first was started", until - fleet.started, " s"),
        Row(f"{name}: CPU a node, start included", cpu / len(fleet.members), " s"),
        Row(f"{name}: CPU a record learnt, start included", 1000 * cpu / records, " ms"),
    ]
    return rows, {"right": _curve(fleet)}


def _settled(fleet: Fleet) -> tuple[float, float] | None:
    """Return when all lists were right, so that they stayed it, and the CPU until then (s)."""
    end = time.monotonic() + PATIENCE
    while fleet.wait(lambda: not fleet.wrong(), end - time.monotonic()):
        until, cpu = fleet.last_change(), fleet.cpu()
        time.sleep(HOLD)
        if not fleet.wrong():
            return until, cpu
        if time.monotonic() > end:
            break
    return None


def _short(fleet: Fleet, name: str, bar: Bar | None) -> Row:
    """Return the row of a fleet whose lists were never all right: its bar is not met."""
    waited = time.monotonic() - fleet.started
    ready = sum(fleet.told[peer].ready is not None for peer in fleet.pids)
    there = _curve(fleet)[-1]
    note = f"never: by then {ready} were ready and {there:.0%} of all entries there"
    return Row(
        f"{name}: all lists right, after the last was ready", waited, OR_MORE, bar=bar, note=note
    )


def _curve(fleet: Fleet) -> list[float]:
    """Return the share of all entries that were there, each second from the first start."""
    wanted = fleet.connectable()
    total = sum(len(wanted - {peer}) for peer in fleet.pids)
    seconds = int(fleet.last_change() - fleet.started) + 2
    curve = []
    for second in range(seconds):
        at = fleet.started + second
        there = sum(len(_at(told.lists, at) & wanted) for told in fleet.told.values())
        curve.append(there / total)
    return curve


def _at(lists: list[tuple[float, dict[str, str]]], at: float) -> set[str]:
    said = [listed for when, listed in lists if when <= at]
    return set(said[-1]) if said else set()


def _reachable(fleet: Fleet) -> list[Row]:
    """Try everybody on one list: who is direct is dialled, who is relayed is probed."""
    visit = asyncio.run(visited(fleet.net.public(), fleet.members[0].host.address, TOPIC))
    wanted = len(fleet.connectable())
    return [
        Row("connectable peers", wanted),
        Row("of them listed by a newcomer, and tried", visit.tried),
        Row("connectable peers that it did not list or reach", missed(wanted, visit), bar=NOBODY),
        Row("a newcomer's list, after its start", visit.seconds, " s"),
    ]


def missed(wanted: int, visit: Visit) -> int:
    """Return how many were not listed or not reached; whoever should not be listed counts too."""
    return max(wanted - (visit.tried - visit.failed), visit.failed)


def _kill_relay(fleet: Fleet) -> list[Row]:
    """Kill the relay that most peers are attached to, and see when nobody is led there any more."""
    observer = fleet.told[fleet.members[0].peer_id].listed
    publics = {one.peer_id for one in fleet.members[1:] if one.kind == "public"}
    used = Counter(relay for relay in observer.values() if relay in publics)
    if not used:
        return [Row(RELAYED, 0, bar=Bar(">=", 1), note="no relay was in use: none was killed")]
    relay, attached = used.most_common(1)[0]
    moved = {peer for peer, over in observer.items() if over == relay}
    PROGRESS.print(f"killing a relay with {attached} peers")
    killed = fleet.kill(relay)

    def elsewhere() -> bool:
        return all(
            all(told.listed.get(peer, relay) != relay for peer in moved - {who})
            for who, told in fleet.told.items()
            if who in fleet.pids
        )

    again = fleet.wait(elsewhere, SLOWEST_HANDOVER)
    led = max(_led_until(told.lists, relay, killed) for told in fleet.told.values())
    there = max(_there_again(fleet, moved, relay, killed), default=0.0)
    visit = asyncio.run(_probed(fleet, moved))
    bar, what = Bar("<=", 60.0), "relay killed: all list its peers through another"
    handover = Row(what, there, " s", bar=bar)
    if not again:
        handover = Row(what, max(there, SLOWEST_HANDOVER), OR_MORE, bar=bar, note="not all did")
    return [
        Row(RELAYED, attached, bar=Bar(">=", 1)),
        Row("relay killed: last list that led over it", led, " s", bar=bar),
        handover,
        Row("relay killed: its peers, of so many that answer a probe", visit.tried - visit.failed),
        Row(
            "relay killed: its peers that a newcomer does not list, or that do not",
            missed(len(moved), visit),
            bar=NOBODY,
        ),
    ]


async def _probed(fleet: Fleet, moved: set[str]) -> Visit:
    address = fleet.members[0].host.address
    return await visited(fleet.net.public(), address, TOPIC, only=moved)


def _led_until(lists: list[tuple[float, dict[str, str]]], relay: str, killed: float) -> float:
    """Return how long after the kill a list still led over that relay (s)."""
    last = 0.0
    for (_, listed), (changed, _) in zip(lists, [*lists[1:], (time.monotonic(), {})], strict=True):
        if relay in listed.values():
            last = max(last, changed - killed)
    return last


def _there_again(fleet: Fleet, moved: set[str], relay: str, killed: float) -> list[float]:
    """Return when each running daemon listed each of `moved` over another relay (s after)."""
    found = []
    for who in fleet.pids:
        for peer in moved - {who}:
            others = (
                at for at, listed in fleet.told[who].lists if listed.get(peer, relay) != relay
            )
            found.append(max(0.0, next(others, time.monotonic()) - killed))
    return found
