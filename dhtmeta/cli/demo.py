"""`dhtmeta demo`: the main job, a daemon, and three that find each other, every step checked."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dhtmeta.cli.options import json_option, load_settings, print_json, run, say

if TYPE_CHECKING:
    from rich.table import Table

    from dhtmeta.cli.demo_daemon import Step
    from dhtmeta.engine.publish import Published
    from dhtmeta.engine.resolve import Answer
    from dhtmeta.node import Node
    from dhtmeta.testing.swarm import Swarm
    from dhtmeta.values.keys import Identity
    from dhtmeta.values.record import NodeRecord

NODES = 24  # enough that the 8 closest to a key are a choice, few enough to start in half a second


@dataclass(slots=True)
class Row:
    """What one identity went through; `failed` lists what did not happen as it should."""

    name: str
    expected: str
    published: "Published | None" = None
    found: "Answer | None" = None
    again: "Answer | None" = None
    verdict: str = ""
    reason: str = ""
    address: str = ""
    refused: str = ""
    milliseconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def check(self, happened: bool, what: str) -> None:
        """Note `what` as failed unless it `happened`."""
        if not happened:
            self.failed.append(what)


@click.command(epilog="Example: dhtmeta demo")
@json_option
def demo(as_json: bool) -> int:
    """Publish, query, verify, judge, keep records and find peers on a real DHT on this machine.

    Needs no network.
    """
    rows, steps, found, took = run(_demo(quiet=as_json))
    if as_json:
        for result in [*map(_row_json, rows), *map(asdict, steps + found)]:
            print_json(result)
    else:
        _print_tables(rows, steps, found, took)
    return int(any(row.failed for row in rows) or not all(step.ok for step in steps + found))


async def _demo(*, quiet: bool) -> "tuple[list[Row], list[Step], list[Step], float]":
    import tempfile

    from dhtmeta.cli.demo_daemon import DaemonDemo
    from dhtmeta.cli.demo_peers import PeersDemo
    from dhtmeta.testing.swarm import Swarm

    started = time.monotonic()
    tell = (lambda text: None) if quiet else say
    tell(f"Starting {NODES} DHT nodes on loopback …")
    async with Swarm(NODES) as swarm:
        with tempfile.TemporaryDirectory(prefix="dhtmeta-demo-") as directory:
            tell("Publishing four records, then asking for them from another node …")
            async with (
                _node(swarm, directory, "publisher") as publisher,
                _node(swarm, directory, "reader") as reader,
            ):
                rows = await _main_job(publisher, reader)
                tell("Asking a node that lies …")
                rows.append(await _forgery(swarm, reader))
                tell("Starting a daemon …")
                home = Path(directory) / "daemon"
                home.mkdir()
                steps = await DaemonDemo(home, swarm.addresses[:3], reader).run()
    tell("Starting three daemons that do not know each other …")
    with tempfile.TemporaryDirectory(prefix="dhtmeta-demo-") as directory:
        async with Swarm(NODES) as swarm:  # a node that has left costs libtorrent 15 s (FACTS)
            found = await PeersDemo(Path(directory), swarm.addresses[:3]).run()
    return rows, steps, found, time.monotonic() - started


def _node(swarm: "Swarm", directory: str, name: str) -> "Node":
    from dhtmeta.node import Node

    home = Path(directory) / name
    return Node(
        keys=home,
        store=str(home / "store.db"),
        state=home,
        bootstrap=swarm.addresses[:3],
        settings=load_settings(),
    )


async def _main_job(publisher: "Node", reader: "Node") -> list[Row]:
    """Publish all, then query all twice: once over the DHT, once from the cache."""
    from dhtmeta.values.keys import Identity

    relay = Identity.generate()
    rows = []
    for name, expected, identity, record in _cast(relay):
        row = Row(name, expected)
        start = time.monotonic()
        row.published = await publisher.publish(record, identity=identity)
        row.milliseconds.append(1000 * (time.monotonic() - start))
        row.check(row.published.accepted >= 8, "stored on 8 nodes")
        row.found = await _ask(reader, row, identity)
        row.again = await _ask(reader, row, identity)
        _check(row, record)
        rows.append(row)
    return rows


def _cast(relay: "Identity") -> list[tuple[str, str, "Identity", "NodeRecord"]]:
    """Return (name, expected verdict, identity, record) of everybody in the demo."""
    from dhtmeta.values.keys import Identity
    from dhtmeta.values.record import NetworkInfo, NodeRecord

    def record(**info: Any) -> NodeRecord:
        return NodeRecord(topic="demo", version=1, network_info=NetworkInfo(**info))

    over_relay = {
        "using_relay": True,
        "connected_relay": relay.peer_id.hex(),
        "relay_session_id": "demo-session",
        "relay_address": "127.0.0.9:30906",
    }
    nat = {"node_type": "private", "nat_type": "symmetric", "private_ip": "192.168.1.7"}
    public = {"node_type": "public", "public_port": 30906}
    return [
        ("public node", "direct", Identity.generate(), record(public_ip="127.0.0.8", **public)),
        ("relay", "direct", relay, record(public_ip="127.0.0.9", is_relay=True, **public)),
        ("NAT, relay", "via-relay", Identity.generate(), record(**nat, **over_relay)),
        ("NAT, no relay", "unreachable", Identity.generate(), record(**nat)),
    ]


async def _ask(reader: "Node", row: Row, identity: "Identity") -> "Answer":
    start = time.monotonic()
    answer = await reader.query(identity.public_key)
    row.milliseconds.append(1000 * (time.monotonic() - start))
    return answer


def _check(row: Row, sent: "NodeRecord") -> None:
    assert row.published
    assert row.found
    assert row.again
    got, verdict = row.found.record, row.found.connectability
    row.check(got is not None and got.network_info == sent.network_info, "the record came back")
    row.check(row.found.item == row.published.item, "the signed bytes came back")
    row.check(row.found.source == "dht", "the first answer came over the DHT")
    row.check(row.again.source == "memory", "the second answer came from the cache")
    row.check(verdict is not None and verdict.verdict == row.expected, f"judged {row.expected}")
    if verdict is not None:
        row.verdict, row.reason = str(verdict.verdict), verdict.reason
        row.address = verdict.address


async def _forgery(swarm: "Swarm", reader: "Node") -> Row:
    """Ask for a key under which a lying node serves an item that somebody else signed."""
    from dhtmeta._fast import bencode
    from dhtmeta.errors import InvalidItem, NotFound
    from dhtmeta.testing.liar import Liar
    from dhtmeta.values.item import SignedItem, encode_value
    from dhtmeta.values.keys import Identity

    row = Row("forged item", "refused")
    victim, forger = Identity.generate(), Identity.generate()
    forged = SignedItem.sign(forger, encode_value(b"send your coins here"), seq=2**62)
    lie: dict[str, Any] = {"k": victim.public_key, "sig": forged.sig, "seq": forged.seq}
    fields = {name.encode(): bencode.encode(value) for name, value in lie.items()} | {
        b"v": forged.v
    }
    async with Liar(victim.peer_id, fields) as liar:
        for session in swarm.sessions:
            session.add_nodes([liar.endpoint])
        start = time.monotonic()
        try:
            await reader.query(victim.public_key, policy="freshest")
            row.check(False, "the forged item was refused")
        except NotFound:
            row.verdict = "refused"
        row.milliseconds = [0.0, 1000 * (time.monotonic() - start)]
        row.check(liar.served > 0, "the liar was asked")
    try:
        SignedItem.verified(
            victim.peer_id, victim.public_key, b"", forged.seq, forged.v, forged.sig
        )
        row.check(False, "the forged bytes do not verify")
    except InvalidItem as error:
        row.reason = f"{error}; served {liar.served}x"
    return row


def _print_tables(rows: list[Row], steps: "list[Step]", found: "list[Step]", took: float) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Signed records on a DHT of real libtorrent nodes", box=box.SIMPLE_HEAD)
    for heading in ("who", "stored on", "by DHT", "by cache"):
        table.add_column(heading, no_wrap=True)
    table.add_column("verdict", overflow="fold")
    table.add_column("ok", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    Console().print(table)
    Console().print(_table("A daemon, in a process of its own", "the daemon", "saw", steps))
    Console().print(_table("Three daemons that found each other", "who", "lists", found))
    for row in rows:
        for what in row.failed:
            say(f"FAILED: {row.name}: {what}")
    marks = [*(not row.failed for row in rows), *(step.ok for step in steps + found)]
    say(f"{sum(marks)} of {len(marks)} rows are as they should be, in {took:.1f} s.")


def _table(title: str, who: str, what: str, steps: "list[Step]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD)
    for heading in (who, "took", what, "ok"):
        table.add_column(heading, overflow="fold")
    for step in steps:
        ok = "[green]yes[/]" if step.ok else "[red]NO[/]"
        table.add_row(step.name, f"{step.milliseconds:,.0f} ms", step.saw, ok)
    return table


def _cells(row: Row) -> tuple[str, ...]:
    stored = f"{row.published.accepted} nodes" if row.published else "-"
    found = f"{row.milliseconds[1]:.1f} ms" if row.found else "-"
    again = f"{row.milliseconds[2]:.2f} ms" if row.again else "-"
    ok = "[green]yes[/]" if not row.failed else "[red]NO[/]"
    return row.name, stored, found, again, f"{row.verdict}: {row.address or row.reason}", ok


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "accepted": row.published.accepted if row.published else None,
        "sources": [str(one.source) for one in (row.found, row.again) if one],
        "verdict": row.verdict,
        "reason": row.reason,
        "ok": not row.failed,
        "failed": row.failed,
    }
