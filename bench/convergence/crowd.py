"""Many nodes in a few processes, on loopback: what a fleet does where there are not enough cores.

Each is a `dhtmeta.Node` with sockets, store, keys and an address of its own, and publishes its
record as the daemon does. There is no NAT on loopback: who is behind one says so in its record.
"""

import asyncio
import os
import resource
import sys
import traceback
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path

import uvloop

from bench.convergence.fleet import Fleet
from bench.convergence.member import Member, settle, tell, write
from dhtmeta.config import Settings
from dhtmeta.const import READY_DEADLINE
from dhtmeta.daemon.own_record import OwnRecord
from dhtmeta.node import Node
from dhtmeta.testing.netns import Host
from dhtmeta.values.keys import PRIVATE_FILE

EACH = 50  # nodes in one process
PRIVATE = '{"network_info": {"node_type": "private"}}'


class Crowd(Fleet):
    """A fleet without namespaces: `host.address` is one of 127.0.0.0/8."""

    def _hosts(self, kinds: list[str]) -> Iterator[tuple[str, Host]]:
        for number, kind in enumerate(kinds):
            address = f"127.77.{number // 250}.{1 + number % 250}"
            yield kind, Host(f"crowd-{number}", address)

    def _settings(self, member: Member) -> Settings:
        settings = member.settings
        settings.dht.listen = f"{member.host.address}:30609"
        settings.peer_discovery.allow_non_global = True
        settings.exchange.listen = f"{member.host.address}:30906"
        return settings

    def start(self, *members: Member) -> None:
        """Start all, EACH in one process."""
        super().note_start()
        rest = iter(members or self.members)
        while some := list(islice(rest, EACH)):
            for member in some:
                self._settings(member)
            pid = self._fork(some)
            self.pids |= {member.peer_id: pid for member in some}

    def cpu(self) -> float:
        """Return the CPU seconds of all processes: the first of each tells."""
        return sum(self.told[one.peer_id].cpu for one in self.members[::EACH])

    def _fork(self, members: list[Member]) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            settle()
            with (self.home / f"{os.getpid()}.log").open("a") as file:
                os.dup2(file.fileno(), 2)
            uvloop.run(_be_all(members, self._writing))
        except BaseException:  # noqa: BLE001 - whatever it was, the parent must not go on twice
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)


async def _be_all(members: list[Member], told: int) -> None:
    async with AsyncExitStack() as opened:
        nodes = [await _open(opened, member) for member in members]
        for member, node in zip(members, nodes, strict=True):
            await _settle(opened, node, member, told)
        while True:
            await asyncio.sleep(1.0)
            usage = resource.getrusage(resource.RUSAGE_SELF)
            write(told, members[0], cpu=usage.ru_utime + usage.ru_stime, rss=usage.ru_maxrss)


async def _open(opened: AsyncExitStack, member: Member) -> Node:
    settings, home = member.settings, Path(member.settings.identity.keys).parent
    node = Node(keys=home / "keys", store=settings.store.url, state=home / "dht", settings=settings)
    return await opened.enter_async_context(node)


async def _settle(opened: AsyncExitStack, node: Node, member: Member, told: int) -> None:
    """Have one node find its peers, and publish its record as the daemon does."""
    settings, home = member.settings, Path(member.settings.identity.keys).parent
    finder = await node.open_discovery(listen=settings.exchange.listen)
    path = None
    if member.kind != "public":
        path = home / "record.json"
        path.write_text(PRIVATE)
    own = OwnRecord(path, home / "keys" / PRIVATE_FILE, node.publish, finder.described)
    finder.on_change = own.wake
    for work in (finder.run(), own.run(), _tell_ready(node, member, told)):
        task = asyncio.create_task(work)
        opened.callback(task.cancel)


async def _tell_ready(node: Node, member: Member, told: int) -> None:
    await node.carrier.ready(10 * READY_DEADLINE)
    finder = await node.open_discovery()
    await tell(node, finder, member, told)
