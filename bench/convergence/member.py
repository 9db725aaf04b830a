"""One daemon of a fleet: a process forked from the bench, which tells whom it lists, and when.

It runs what `dhtmeta daemon` runs; beside that it only looks at the list and writes a line whenever
that has changed. Times are of CLOCK_MONOTONIC, which all processes share.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from dhtmeta.config import Settings
from dhtmeta.daemon.app import Daemon
from dhtmeta.daemon.metrics import traffic
from dhtmeta.daemon.status import State
from dhtmeta.discovery.finder import Finder
from dhtmeta.node import Node
from dhtmeta.testing.netns import Host

LOOK = 0.2  # s between looks whether there is news
LIST = 1.0  # s between looks at the list where there is none
_PDEATHSIG = 1  # prctl(2): the signal that comes when the parent dies


@dataclass(frozen=True, slots=True)
class Member:
    """A daemon: in which namespace it runs, with which settings, and who it is (peer id, hex)."""

    host: Host
    settings: Settings
    peer_id: str
    kind: str  # public, relayed or alone


def fork(member: Member, told: int, log: Path) -> int:
    """Fork a process that is this daemon until SIGTERM; it writes to the descriptor `told`."""
    pid = os.fork()
    if pid:
        return pid
    try:
        settle()
        member.host.enter()
        with log.open("a") as file:
            os.dup2(file.fileno(), 2)
        uvloop.run(_be(member, told))
    except BaseException:  # noqa: BLE001 - whatever it was, the parent must not go on twice
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def settle() -> None:
    """Make a forked process end with the bench, and leave Ctrl-C to that."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


async def _be(member: Member, told: int) -> None:
    daemon = Daemon(lambda: member.settings)
    telling = asyncio.create_task(_tell_of(daemon, member, told))
    try:
        await daemon.run()
    finally:
        telling.cancel()
        if daemon._finder is not None:
            write(told, member, counts=_counts(daemon.node, daemon._finder))
        usage = resource.getrusage(resource.RUSAGE_SELF)
        write(told, member, cpu=usage.ru_utime + usage.ru_stime, rss=usage.ru_maxrss)


async def _tell_of(daemon: Daemon, member: Member, told: int) -> None:
    while daemon._finder is None or daemon.status().state is not State.READY:
        await asyncio.sleep(LOOK)
    await tell(daemon.node, daemon._finder, member, told)


async def tell(node: Node, finder: Finder, member: Member, told: int) -> None:
    """Tell that a node is ready, and whom it lists as connectable, over which relay."""
    write(told, member, ready=True, cpu=time.process_time())
    news, before = asyncio.Event(), None
    with finder.hearing(news.set):
        while True:
            listed = _listed(node)
            if listed != before:
                before = listed
                write(told, member, listed=listed, cpu=time.process_time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LIST):
                    await news.wait()
            news.clear()
            await asyncio.sleep(LOOK)


def _counts(node: Node, finder: Finder) -> dict[str, Any]:
    """Return what discovery cost this node."""
    asked = {name: asdict(one) for name, one in finder.ladder.counts.items()}
    seen = traffic(node)
    return {
        "asked": asked,
        "gossip": asdict(finder.gossip.counts),
        "dials": asdict(finder.dialler.counts),
        "links": len(finder.exchange.links),
        "lookups": node.counters["lookups"],
        "datagrams": seen.datagrams_in + seen.datagrams_out if seen else 0,
    }


def _listed(node: Node) -> dict[str, str]:
    return {peer.peer_id.hex(): _relay(peer) for peer in node.known() if peer.connectable}


def _relay(peer: Any) -> str:
    info = peer.record.network_info
    return str(info.connected_relay) if info.node_type == "private" else ""


def write(told: int, member: Member, **said: Any) -> None:
    """Write one line to whoever measures."""
    line = json.dumps({"at": time.monotonic(), "who": member.peer_id, **said}) + "\n"
    os.write(told, line.encode())


def ended(pids: list[int], number: signal.Signals = signal.SIGTERM) -> None:
    """End these processes, which are ours, and wait for each."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
