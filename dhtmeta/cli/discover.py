"""`dhtmeta discover`, `peers` and `connect`: who is out there, and how they can be reached."""

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from dhtmeta.cli.options import (
    Seconds,
    json_option,
    make_node,
    network_options,
    print_json,
    run,
    visible,
    waiting,
)
from dhtmeta.cli.records import connectability_json, record_json
from dhtmeta.const import FIND_DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rich.table import Table

    from dhtmeta.discovery.peer import Peer
    from dhtmeta.node import Node

topic_option = click.option(
    "--topic", metavar="TEXT", help="Whose peers.  [default: [peer_discovery] topic]"
)
connectable_option = click.option(
    "--connectable", is_flag=True, help="Only those that a connection attempt makes sense with."
)


@click.command(epilog="Example: dhtmeta discover --topic my-network --connectable --json")
@topic_option
@connectable_option
@click.option("--watch", is_flag=True, help="Go on, and print each change. Ctrl-C ends it.")
@click.option(
    "--timeout",
    type=Seconds(0, min_open=True),
    show_default=f"{FIND_DEADLINE:g}; none with --watch",
    help="Seconds to look for, at most.",
)
@network_options
@json_option
def discover(
    topic: str | None,
    connectable: bool,
    watch: bool,
    timeout: float | None,
    as_json: bool,
    **network: Any,
) -> None:
    """Find the peers of a topic, and say how each can be reached now.

    Looks in the store, on the LAN, on the DHT and at the peers themselves; only where nobody is
    there it asks the registries of the settings. It is a visit, with a key made for it: nobody is
    told that we are there. Exit code 3 where nobody is found, 5 where there is no network either.
    """
    looking = _Looking(topic, connectable, as_json, network)
    run(looking.watch(timeout) if watch else looking.once(timeout or FIND_DEADLINE))


@click.command(epilog="Example: dhtmeta peers --topic my-network --connectable")
@topic_option
@connectable_option
@network_options
@json_option
def peers(topic: str | None, connectable: bool, as_json: bool, **network: Any) -> None:
    """List the peers that the store knows (of all topics, unless one is named), judged now.

    Opens no socket. Exit code 3 where it knows none.
    """
    run(_peers(topic, connectable, as_json, network))


@click.command(epilog="Example: dhtmeta connect 192.0.2.1:30906 --topic my-network")
@click.argument("address", metavar="HOST:PORT")
@topic_option
@network_options
@json_option
def connect(address: str, topic: str | None, as_json: bool, **network: Any) -> None:
    """Connect to the peer whose exchange (UDP) is there: who it is, what it says, whom it knows.

    Both sides prove their keys; ours is made for the visit. Who the peer knows of the topic is
    asked for and kept in the store: `dhtmeta peers` lists them. Exit code 5 where nobody answers.
    """
    run(_connect(address, topic, as_json, network))


class _Looking:
    """A look for the peers of a topic, with what was asked for."""

    def __init__(
        self, topic: str | None, connectable: bool, as_json: bool, network: dict[str, Any]
    ) -> None:
        self._topic, self._connectable = topic, connectable
        self._as_json, self._network = as_json, network
        self._shown: set[bytes] = set()

    async def once(self, deadline: float) -> None:
        """Print whom there is; NotFound where there is nobody."""
        async with _visitor(self._network) as node:
            with waiting("looking for peers …"):
                found = await node.peers(
                    self._topic, connectable=self._connectable, deadline=deadline
                )
            if not found:
                await _nobody(node)
            _show(found, self._as_json)

    async def watch(self, deadline: float | None) -> None:
        """Print whom there is, and each change; NotFound where there was nobody to the end."""
        import asyncio
        import contextlib

        async with _visitor(self._network) as node:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline):
                    async for peer in node.watch_peers(self._topic):
                        self._tell(peer)
            if not self._shown:
                await _nobody(node)

    def _tell(self, peer: "Peer") -> None:
        """Print a change; of those who cannot be reached, too, if they could before."""
        if self._connectable and not peer.connectable and peer.peer_id not in self._shown:
            return
        self._shown.add(peer.peer_id)
        if self._as_json:
            print_json(peer_json(peer))
        else:
            click.echo(f"{peer.peer_id.hex()}  {_way(peer)}")


@asynccontextmanager
async def _visitor(network: dict[str, Any]) -> "AsyncIterator[Node]":
    """Open a node with a key of its own: a daemon on our keys keeps its connections."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="dhtmeta-visit-") as keys:
        async with make_node(**network, keys=Path(keys)) as node:
            yield node


async def _nobody(node: "Node") -> None:
    """Raise what it means that nobody was found."""
    from dhtmeta.const import READY_DEADLINE
    from dhtmeta.errors import NotFound

    await node.carrier.ready(READY_DEADLINE)
    raise NotFound("no such peer was found: is the topic spelt as its peers spell it?")


async def _peers(
    topic: str | None, connectable: bool, as_json: bool, network: dict[str, Any]
) -> None:
    from dhtmeta.errors import NotFound

    async with make_node(**network, offline=True) as node:
        known = [peer for peer in node.known(topic) if peer.connectable or not connectable]
    if not known:
        raise NotFound("the store knows no such peer: `dhtmeta discover` looks for some")
    _show(known, as_json)


async def _connect(address: str, topic: str | None, as_json: bool, network: dict[str, Any]) -> None:
    async with _visitor(network) as node:
        with waiting("connecting …"):
            peer = await node.connect(address, topic)
        told = (await node.open_discovery()).gossip.counts.hints
    if as_json:
        print_json(peer_json(peer) | {"told": told})
        return
    click.echo(f"public key  {peer.public_key.hex()}")
    click.echo(f"peer id     {peer.peer_id.hex()}")
    click.echo(f"topic       {visible(peer.topic) or '-'}")
    click.echo(f"record      {'none' if peer.seq is None else f'seq {peer.seq}'}")
    click.echo(f"reachable   {_way(peer)}")
    click.echo(f"told us of  {told} peers")


def peer_json(peer: "Peer") -> dict[str, Any]:
    """Return what --json prints of a peer."""
    verdict = peer.connectability
    return {
        "peer_id": peer.peer_id.hex(),
        "public_key": peer.public_key.hex(),
        "topic": peer.topic,
        "source": peer.source,
        "first_seen": peer.first_seen,
        "last_seen": peer.last_seen,
        "seq": peer.seq,
        "age_s": None if peer.age is None else round(peer.age, 3),
        "record": peer.record and record_json(peer.record.to_plain()),
        "connectability": verdict and connectability_json(verdict),
    }


def _way(peer: "Peer") -> str:
    """Say how a peer can be reached, or why not."""
    verdict = peer.connectability
    if verdict is None:
        return "unknown: its record is not held"
    return visible(f"{verdict.verdict}: {verdict.address or verdict.reason}")


def _show(found: "Sequence[Peer]", as_json: bool) -> None:
    if as_json:
        for peer in found:
            print_json(peer_json(peer))
        return
    from rich.console import Console

    Console().print(_table(found))


def _table(found: "Sequence[Peer]") -> "Table":
    """Return a table that fits 80 columns; topics are in it where there are several."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    several = len({peer.topic for peer in found}) > 1
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("peer id", "verdict"):
        table.add_column(heading, no_wrap=True)
    for heading in ("address, or reason", *(["topic"] if several else [])):
        table.add_column(heading, overflow="fold")
    for peer in found:
        verdict, _, where = _way(peer).partition(": ")
        told = (verdict, where, *([visible(peer.topic)] if several else []))
        table.add_row(peer.peer_id.hex(), *map(escape, told))
    return table
